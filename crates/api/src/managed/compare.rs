//! Which fields an object has, and which differ between two of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::atom::{Atom, Nameless, Place, field_element, list_element, place_of};
use super::set::{FieldSet, Node};
use crate::schema::{Schema, StructId};

/// The differences between two values.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Comparison {
    pub(super) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What the new value has that the old one had not, or not so.
    pub(super) fn written(&self) -> FieldSet {
        self.added.union(&self.modified)
    }

    pub(super) fn without_trees(self, set: &FieldSet) -> Self {
        if set.is_empty() {
            return self;
        }
        Self {
            added: self.added.without_trees(set),
            modified: self.modified.without_trees(set),
            removed: self.removed.without_trees(set),
        }
    }
}

/// The same for one element, which may be a member itself.
#[derive(Default)]
struct Change {
    added: Node,
    modified: Node,
    removed: Node,
}

impl Change {
    fn leaf(old: Option<&Value>, new: Option<&Value>) -> Self {
        let mut change = Self::default();
        match (old, new) {
            (None, _) => change.added.is_member = true,
            (_, None) => change.removed.is_member = true,
            (Some(old), Some(new)) => change.modified.is_member = old != new,
        }
        change
    }

    fn put(&mut self, element: &str, below: Self) {
        self.added.below.put(element.to_owned(), below.added);
        self.modified.below.put(element.to_owned(), below.modified);
        self.removed.below.put(element.to_owned(), below.removed);
    }
}

/// Compares two objects of a struct.
pub(super) fn compare(
    schema: &Schema,
    of: StructId,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Result<Comparison, Nameless> {
    let of = schema.get(of);
    let change = maps(schema, old, new, |name| place_of(of, name))?;
    Ok(Comparison {
        added: change.added.below,
        modified: change.modified.below,
        removed: change.removed.below,
    })
}

fn change<'v>(
    schema: &Schema,
    place: Place<'_>,
    old: Option<&'v Value>,
    new: Option<&'v Value>,
) -> Result<Change, Nameless> {
    if old == new {
        return Ok(Change::default());
    }
    let atom = place.atom(schema);
    let fits = |value: Option<&Value>| value.is_none_or(|value| value.is_null() || atom.splits(value));
    let is_empty = |value: Option<&Value>| match value {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Null) | None => true,
        Some(_) => false,
    };
    if matches!(atom, Atom::Leaf) || !fits(old) || !fits(new) || (is_empty(old) && is_empty(new)) {
        return Ok(Change::leaf(old, new));
    }
    let nothing = Map::new();
    let entries = |value: Option<&'v Value>| value.and_then(Value::as_object);
    let (old_map, new_map) = (entries(old).unwrap_or(&nothing), entries(new).unwrap_or(&nothing));
    let mut found = match &atom {
        Atom::Leaf => Change::default(),
        Atom::Struct(of) => maps(schema, old_map, new_map, |name| place_of(of, name))?,
        Atom::Map(of) => maps(schema, old_map, new_map, |_| *of)?,
        Atom::Keyed(of, keys) => lists(schema, Some((*of, keys)), old, new)?,
        Atom::Set => lists(schema, None, old, new)?,
    };
    found.added.is_member = old.is_none();
    found.removed.is_member = new.is_none();
    Ok(found)
}

fn maps<'s>(
    schema: &'s Schema,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    place: impl Fn(&str) -> Place<'s>,
) -> Result<Change, Nameless> {
    let mut found = Change::default();
    let only_new = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(only_new) {
        let (old, new) = (old.get(key), new.get(key));
        if old != new {
            found.put(&field_element(key), change(schema, place(key), old, new)?);
        }
    }
    Ok(found)
}

type Keys<'s> = Option<(Place<'s>, &'s [String])>;

/// The items of a list by element; several may share one.
fn by_element<'v>(
    schema: &Schema,
    keys: Keys<'_>,
    list: Option<&'v Value>,
) -> Result<BTreeMap<String, Vec<&'v Value>>, Nameless> {
    let mut found: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for item in list.and_then(Value::as_array).into_iter().flatten() {
        found.entry(list_element(schema, keys, item)?).or_default().push(item);
    }
    Ok(found)
}

fn lists(
    schema: &Schema,
    keys: Keys<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Result<Change, Nameless> {
    let mut found = Change::default();
    let (old, new) = (by_element(schema, keys, old)?, by_element(schema, keys, new)?);
    let only_new = new.keys().filter(|element| !old.contains_key(*element));
    let none = Vec::new();
    for element in old.keys().chain(only_new) {
        let (old, new) = (old.get(element).unwrap_or(&none), new.get(element).unwrap_or(&none));
        let item = |old: Option<&Value>, new: Option<&Value>| match keys {
            Some((place, _)) => change(schema, place, old, new),
            None => Ok(Change::leaf(old, new)),
        };
        // Elements that are not alone under their key are owned as one.
        let one = match (old.as_slice(), new.as_slice()) {
            ([] | [_], [] | [_]) => {
                let (old, new) = (old.first().copied(), new.first().copied());
                if old == new { continue } else { item(old, new)? }
            }
            ([_, _, ..], [_, _, ..]) => {
                let mut one = Change::default();
                one.modified.is_member = old != new;
                one
            }
            ([_, _, ..], rest) => {
                let mut one = match rest.first() {
                    Some(new) => item(None, Some(new))?,
                    None => Change::default(),
                };
                one.removed.is_member = true;
                one
            }
            (rest, [_, _, ..]) => {
                let mut one = match rest.first() {
                    Some(old) => item(Some(old), None)?,
                    None => Change::default(),
                };
                one.added.is_member = true;
                one
            }
        };
        found.put(element, one);
    }
    Ok(found)
}

/// All fields of a value at a place.
pub(super) fn fields_of(schema: &Schema, place: Place<'_>, value: &Value) -> Result<FieldSet, Nameless> {
    Ok(node_of(schema, place, value)?.below)
}

fn node_of(schema: &Schema, place: Place<'_>, value: &Value) -> Result<Node, Nameless> {
    let atom = place.atom(schema);
    if value.is_null() && !matches!(atom, Atom::Leaf) {
        return Ok(Node::default());
    }
    if !atom.splits(value) {
        return Ok(Node::member());
    }
    let mut node = Node::default();
    match (&atom, value) {
        (Atom::Struct(_) | Atom::Map(_), Value::Object(map)) => {
            for (key, value) in map {
                let (place, is_named) = match &atom {
                    Atom::Struct(of) => (place_of(of, key), of.fields.contains_key(key)),
                    Atom::Map(of) => (*of, false),
                    _ => continue,
                };
                let mut below = node_of(schema, place, value)?;
                let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                below.is_member |= is_empty || !is_named;
                node.below.put(field_element(key), below);
            }
        }
        (Atom::Keyed(of, keys), Value::Array(items)) => {
            for (element, item) in by_element(schema, Some((*of, keys)), Some(value))? {
                let below = match item.as_slice() {
                    [only] => node_of(schema, *of, only)?.below,
                    _ => FieldSet::default(),
                };
                node.below.put(element, Node { is_member: true, below });
            }
            debug_assert!(items.len() >= node.below.0.len(), "an item has one element");
        }
        (_, Value::Array(items)) => {
            for item in items {
                node.below.put(list_element(schema, None, item)?, Node::member());
            }
        }
        _ => {}
    }
    Ok(node)
}
