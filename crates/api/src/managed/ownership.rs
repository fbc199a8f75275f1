//! What a write does to the owners of an object's fields.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::atom::Nameless;
use super::compare::{Comparison, compare};
use super::entry::{self, Entry, Identity, Operation};
use super::set::Node;
use super::{ApplyError, FieldSet};
use crate::Object;
use crate::schema::{Schema, StructId};

/// Owners by plain writes that are told apart; the oldest beyond that are joined.
const MAX_UPDATERS: usize = 10;
/// Who owns what the oldest writers owned.
const ANCIENT: &str = "ancient-changes";
/// Who owns what was there before anything was owned.
pub(super) const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// A kind's shape, and how to see an object in another version of it.
pub trait Typed {
    /// The structs, and the one of the kind's objects.
    fn shape(&self) -> (&Schema, StructId);

    /// An object of this version as one of another, with that version's shape;
    /// `None` where that version is not served.
    fn convert(&self, object: &Object, api_version: &str) -> Option<(Object, Box<dyn Typed + '_>)>;
}

/// Keeps the owners of the objects of one kind, as written through one of its parts.
pub struct Ownership<'a> {
    /// The kind.
    pub kind: &'a dyn Typed,
    /// What this part of the object does not write, and nobody owns through it.
    pub reset: FieldSet,
    /// For entries that change.
    pub now: Timestamp,
}

impl Ownership<'_> {
    /// Brings `new`'s owners up to date after a write that is not an apply. `live`
    /// is what was there: for a create, an empty object of the kind.
    ///
    /// What cannot be compared leaves the object without owners, as upstream does:
    /// a write is never refused for that.
    pub fn update(&self, live: &Object, new: &mut Object, identity: &Identity, is_create: bool) {
        if self.is_untouched(live, new) {
            return;
        }
        let mut entries = self.starting_entries(live, new, identity);
        new.remove_at(&["metadata", "managedFields"]);
        if entries.is_empty() && !is_create {
            // Nobody owned anything before: that begins with the first apply.
            return;
        }
        if self.take_over(live, new, identity, &mut entries).is_ok() {
            cap(&mut entries);
            entry::write(new, entries);
        }
    }

    /// Whether a write changes neither fields nor owners; then the owners stay.
    fn is_untouched(&self, live: &Object, new: &mut Object) -> bool {
        let path = ["metadata", "managedFields"];
        let (old, wanted) = (live.at(&path).cloned(), new.at(&path).cloned());
        if wanted.is_some() && wanted != old {
            return false;
        }
        match &old {
            Some(old) => new.set_at(&path, old.clone()),
            None => return false,
        }
        let (schema, of) = self.kind.shape();
        compare(schema, of, live.as_map(), new.as_map())
            .is_ok_and(|comparison| comparison.without_trees(&self.reset).is_same())
    }

    fn starting_entries(&self, live: &Object, new: &Object, identity: &Identity) -> Vec<Entry> {
        let of_live = || entry::read(live).unwrap_or_default();
        if !identity.subresource.is_empty() {
            return of_live();
        }
        if entry::is_reset(new) {
            return Vec::new();
        }
        match entry::read(new) {
            Some(entries) if !entries.is_empty() => entries,
            _ => of_live(),
        }
    }

    /// The writer becomes the owner of what it changed.
    pub(super) fn take_over(
        &self,
        live: &Object,
        new: &Object,
        identity: &Identity,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Nameless> {
        let comparisons = self.comparisons(live, new, entries)?;
        let own = self.compare(live, new)?;
        entries.retain(|entry| comparisons.contains_key(&entry.identity.api_version));
        for entry in entries.iter_mut() {
            let changed = &comparisons[&entry.identity.api_version];
            entry.fields = entry.fields.difference(&changed.written()).difference(&changed.removed);
        }
        let written = own.written().difference(&system_fields());
        if !written.is_empty() {
            match entries.iter_mut().find(|entry| entry.identity.is_same(identity)) {
                Some(entry) => {
                    entry.fields = entry.fields.union(&written);
                    entry.time = Some(self.now);
                }
                None => {
                    entries.push(Entry { identity: identity.clone(), time: Some(self.now), fields: written })
                }
            }
        }
        entries.retain(|entry| !entry.fields.is_empty());
        Ok(())
    }

    pub(super) fn compare(&self, live: &Object, new: &Object) -> Result<Comparison, Nameless> {
        let (schema, of) = self.kind.shape();
        Ok(compare(schema, of, live.as_map(), new.as_map())?.without_trees(&self.reset))
    }

    /// The differences as each version that somebody owns fields in names them.
    pub(super) fn comparisons(
        &self,
        live: &Object,
        new: &Object,
        entries: &[Entry],
    ) -> Result<HashMap<String, Comparison>, Nameless> {
        let mut all = HashMap::new();
        for version in entries.iter().map(|entry| &entry.identity.api_version) {
            if all.contains_key(version) {
                continue;
            }
            if version == new.api_version() {
                all.insert(version.clone(), self.compare(live, new)?);
                continue;
            }
            let converted = self.kind.convert(live, version).zip(self.kind.convert(new, version));
            if let Some(((live, kind), (new, _))) = converted {
                let (schema, of) = kind.shape();
                let comparison = compare(schema, of, live.as_map(), new.as_map())?;
                all.insert(version.clone(), comparison.without_trees(&self.reset));
            }
        }
        Ok(all)
    }

    /// The entries of a live object to which something is applied.
    pub(super) fn entries_before_apply(&self, live: &Object) -> Result<Vec<Entry>, ApplyError> {
        let unreadable = || ApplyError::Unreadable("metadata.managedFields".to_owned());
        let mut entries = entry::read(live).ok_or_else(unreadable)?;
        if entries.is_empty() && !live.uid().is_empty() {
            let identity = Identity {
                manager: BEFORE_FIRST_APPLY.to_owned(),
                operation: Operation::Update,
                api_version: live.api_version().to_owned(),
                subresource: String::new(),
            };
            let nothing = Object::from_value(Value::Object(Map::new())).unwrap_or_default();
            self.take_over(&nothing, live, &identity, &mut entries)?;
        }
        Ok(entries)
    }
}

/// Fields that nobody owns, since the server keeps them.
pub(super) fn system_fields() -> FieldSet {
    const METADATA: [&str; 9] = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut metadata = Node::member();
    for name in METADATA {
        metadata.below.put(format!("f:{name}"), Node::member());
    }
    let mut all = FieldSet::default();
    all.put("f:apiVersion".to_owned(), Node::member());
    all.put("f:kind".to_owned(), Node::member());
    all.put("f:metadata".to_owned(), metadata);
    all
}

/// Joins the oldest owners by plain writes, each version's by itself.
fn cap(entries: &mut Vec<Entry>) {
    let is_update = |entry: &Entry| entry.identity.operation == Operation::Update;
    let mut surplus = entries.iter().filter(|entry| is_update(entry)).count().saturating_sub(MAX_UPDATERS);
    if surplus == 0 {
        return;
    }
    let age = |entry: &Entry| {
        let seconds = entry.time.map_or(0, Timestamp::as_second);
        (!is_update(entry), seconds, entry.identity.manager.clone())
    };
    entries.sort_by_key(age);
    let mut kept: Vec<Entry> = Vec::new();
    for entry in entries.drain(..) {
        let is_old = surplus > 0 && is_update(&entry);
        let bucket = kept
            .iter_mut()
            .find(|one| is_update(one) && one.identity.api_version == entry.identity.api_version);
        match bucket {
            Some(bucket) if is_old => {
                bucket.fields = bucket.fields.union(&entry.fields);
                bucket.time = entry.time;
                ANCIENT.clone_into(&mut bucket.identity.manager);
                bucket.identity.subresource.clear();
                surplus -= 1;
            }
            _ => kept.push(entry),
        }
    }
    *entries = kept;
}
