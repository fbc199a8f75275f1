//! Server-side apply: a configuration says what its owner wants, and nothing else.

use serde_json::Value;

use super::atom::{Nameless, Place};
use super::compare::fields_of;
use super::entry::{self, Entry, Identity, Operation};
use super::merge::merge;
use super::ownership::{Ownership, system_fields};
use super::remove::{remove, with_named_fields};
use super::{FieldSet, Typed};
use crate::Object;
use crate::schema::Shape;

/// What an apply leads to.
#[derive(Debug)]
pub struct Applied {
    /// The object, with its owners. It is not yet defaulted.
    pub object: Object,
}

/// A field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The field's path.
    pub field: String,
    /// Its owner, as messages name it.
    pub owner: String,
}

/// Why a configuration is not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that it would change.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// A list in it, or in the live object, has elements that cannot be told apart.
    #[error("{0}")]
    Ambiguous(String),
    /// The live object's owners cannot be read.
    #[error("cannot read {0} of the live object")]
    Unreadable(String),
}

impl From<Nameless> for ApplyError {
    fn from(why: Nameless) -> Self {
        Self::Ambiguous(why.0)
    }
}

/// The message that upstream gives.
fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.owner, only.field);
    }
    let mut owners: Vec<&String> = conflicts.iter().map(|one| &one.owner).collect();
    owners.sort();
    owners.dedup();
    let mut lines = Vec::new();
    for owner in owners {
        lines.push(format!("conflicts with {owner}:"));
        let of_owner = conflicts.iter().filter(|one| one.owner == *owner);
        lines.extend(of_owner.map(|one| format!("- {}", one.field)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

fn owner_text(entry: &Entry) -> String {
    let mut text = format!("{:?}", entry.identity.manager);
    if !entry.identity.subresource.is_empty() {
        text = format!("{text} with subresource {:?}", entry.identity.subresource);
    }
    if entry.identity.operation == Operation::Update {
        text = format!("{text} using {}", entry.identity.api_version);
    }
    text
}

impl Ownership<'_> {
    /// Applies a configuration to a live object: an empty one of the kind where
    /// there is none.
    ///
    /// # Errors
    /// Conflicts, unless they are forced; ambiguous lists.
    pub fn apply(
        &self,
        live: &Object,
        config: &Object,
        identity: &Identity,
        force: bool,
    ) -> Result<Applied, ApplyError> {
        let (schema, of) = self.kind.shape();
        let shape = Shape::Struct(of);
        let place = Place::of(&shape);
        let mut entries = self.entries_before_apply(live)?;
        let mut bare = live.clone();
        bare.remove_at(&["metadata", "managedFields"]);
        let config = Value::Object(config.as_map().clone());
        let merged = merge(schema, place, &Value::Object(bare.as_map().clone()), &config)?;
        let wanted = fields_of(schema, place, &config)?.without_trees(&self.reset);
        let last = entries.iter().position(|entry| entry.identity.is_same(identity));
        let last = last.map(|at| entries.remove(at));
        let mut mine = Entry { identity: identity.clone(), time: Some(self.now), fields: wanted };
        let mut object = into_object(merged);
        if let Some(last) = &last {
            object = self.prune(object, last, &mine, &entries)?;
        }
        let conflicts = self.settle(&bare, &object, &mut entries)?;
        if !force && !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
        mine.fields = mine.fields.difference(&system_fields());
        if let Some(last) = last.filter(|last| last.fields == mine.fields && object == bare) {
            mine.time = last.time;
        }
        if !mine.fields.is_empty() {
            entries.push(mine);
        }
        entry::write(&mut object, entries);
        Ok(Applied { object })
    }

    /// Takes from the others what the object has no more or has otherwise now;
    /// gives the conflicts that this is.
    fn settle(
        &self,
        live: &Object,
        new: &Object,
        entries: &mut Vec<Entry>,
    ) -> Result<Vec<Conflict>, ApplyError> {
        let comparisons = self.comparisons(live, new, entries)?;
        entries.retain(|entry| comparisons.contains_key(&entry.identity.api_version));
        let mut conflicts = Vec::new();
        for entry in entries.iter_mut() {
            let changed = &comparisons[&entry.identity.api_version];
            let taken = entry.fields.intersection(&changed.written());
            let owner = owner_text(entry);
            let conflict = |field| Conflict { field, owner: owner.clone() };
            conflicts.extend(taken.paths().into_iter().map(conflict));
            entry.fields = entry.fields.difference(&taken).difference(&changed.removed);
        }
        entries.retain(|entry| !entry.fields.is_empty());
        Ok(conflicts)
    }

    /// Removes what the manager applied before and does not any more, unless
    /// somebody else owns it.
    fn prune(
        &self,
        merged: Object,
        last: &Entry,
        mine: &Entry,
        others: &[Entry],
    ) -> Result<Object, ApplyError> {
        let version = &last.identity.api_version;
        if version == merged.api_version() {
            return self.prune_as(self.kind, &merged, last, mine, others);
        }
        // What was applied in another version is pruned as that version sees it.
        let own_version = merged.api_version().to_owned();
        let Some((converted, kind)) = self.kind.convert(&merged, version) else { return Ok(merged) };
        let pruned = self.prune_as(&*kind, &converted, last, mine, others)?;
        let back = kind.convert(&pruned, &own_version).map(|(object, _)| object);
        Ok(back.unwrap_or(merged))
    }

    fn prune_as(
        &self,
        kind: &dyn Typed,
        merged: &Object,
        last: &Entry,
        mine: &Entry,
        others: &[Entry],
    ) -> Result<Object, ApplyError> {
        let (schema, of) = kind.shape();
        let shape = Shape::Struct(of);
        let place = Place::of(&shape);
        let named = |set: &FieldSet| with_named_fields(schema, place, set);
        let value = Value::Object(merged.as_map().clone());
        let last_named = named(&last.fields);
        let pruned = remove(schema, place, &value, &last_named)?;
        // What others own, or the new configuration has, comes back.
        let mut owned = FieldSet::default();
        for entry in others.iter().chain([mine]) {
            if entry.identity.api_version == last.identity.api_version {
                owned = owned.union(&entry.fields);
                continue;
            }
            // In another version: owned is what that version's object has of it.
            owned = owned.union(&self.translated(merged, entry, &last.identity.api_version)?);
        }
        let merged_set = named(&fields_of(schema, place, &value)?);
        let pruned_set = named(&fields_of(schema, place, &pruned)?);
        let gone = merged_set.difference(&pruned_set.union(&named(&owned)));
        let pruned = remove(schema, place, &value, &gone)?;
        // What the manager did not own before is not for it to remove.
        let pruned_set = named(&fields_of(schema, place, &pruned)?);
        let gone = merged_set.difference(&pruned_set).intersection(&last_named);
        Ok(into_object(remove(schema, place, &value, &gone)?))
    }

    /// What an entry in one version owns, as another version names it: the fields
    /// that go when those of the entry do.
    fn translated(&self, object: &Object, entry: &Entry, to: &str) -> Result<FieldSet, ApplyError> {
        let Some((converted, kind)) = self.kind.convert(object, &entry.identity.api_version) else {
            return Ok(FieldSet::default());
        };
        let (schema, of) = kind.shape();
        let shape = Shape::Struct(of);
        let value = Value::Object(converted.as_map().clone());
        let without = into_object(remove(schema, Place::of(&shape), &value, &entry.fields)?);
        let Some((without, back)) = kind.convert(&without, to) else { return Ok(FieldSet::default()) };
        let (schema, of) = back.shape();
        Ok(super::compare::compare(schema, of, without.as_map(), object.as_map())?.written())
    }
}

fn into_object(value: Value) -> Object {
    // Merging and removing keep an object an object.
    Object::from_value(value).unwrap_or_default()
}
