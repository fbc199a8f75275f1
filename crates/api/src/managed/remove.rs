//! Fields taken out of an object.

use serde_json::{Map, Value};

use super::atom::{Atom, Nameless, Place, field_element, list_element, place_of};
use super::set::{FieldSet, Node};
use crate::schema::Schema;

/// The value without the members of a set. What loses its last part stays, empty.
pub(super) fn remove(
    schema: &Schema,
    place: Place<'_>,
    value: &Value,
    set: &FieldSet,
) -> Result<Value, Nameless> {
    let atom = place.atom(schema);
    if set.is_empty() || !atom.splits(value) {
        return Ok(value.clone());
    }
    match (&atom, value) {
        (Atom::Struct(_) | Atom::Map(_), Value::Object(map)) => {
            let mut kept = Map::new();
            for (key, value) in map {
                let element = field_element(key);
                if set.has(&element) {
                    continue;
                }
                let place = match &atom {
                    Atom::Struct(of) => place_of(of, key),
                    Atom::Map(of) => *of,
                    _ => place,
                };
                kept.insert(key.clone(), remove(schema, place, value, &set.below(&element))?);
            }
            Ok(Value::Object(kept))
        }
        (Atom::Keyed(of, keys), Value::Array(items)) => {
            let mut kept = Vec::new();
            for item in items {
                let element = list_element(schema, Some((*of, keys)), item)?;
                if !set.has(&element) {
                    kept.push(remove(schema, *of, item, &set.below(&element))?);
                }
            }
            Ok(Value::Array(kept))
        }
        (_, Value::Array(items)) => {
            let mut kept = Vec::new();
            for item in items {
                if !set.has(&list_element(schema, None, item)?) {
                    kept.push(item.clone());
                }
            }
            Ok(Value::Array(kept))
        }
        _ => Ok(value.clone()),
    }
}

/// The set with every field of a struct that has something below it.
pub(super) fn with_named_fields(schema: &Schema, place: Place<'_>, set: &FieldSet) -> FieldSet {
    let atom = place.atom(schema);
    let mut all = FieldSet::default();
    for element in set.0.keys() {
        let below = set.below(element);
        let (place, is_named) = match (&atom, element.strip_prefix("f:")) {
            (Atom::Struct(of), Some(name)) => (Some(place_of(of, name)), of.fields.contains_key(name)),
            (Atom::Map(of), Some(_)) | (Atom::Keyed(of, _), None) => (Some(*of), false),
            _ => (None, false),
        };
        let below = match place {
            Some(place) => with_named_fields(schema, place, &below),
            None => below,
        };
        all.put(element.clone(), Node { is_member: is_named || set.has(element), below });
    }
    all
}
