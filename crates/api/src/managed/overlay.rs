//! A configuration laid over an object without owners: what a mutating policy does.

use serde_json::Value;

use super::atom::{Atom, Nameless, Place, place_of};
use super::merge::merge;
use crate::Object;
use crate::schema::{Schema, Shape, StructId};

/// Why a configuration cannot be laid over an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// It says something of what is replaced as a whole, of which it may not know all.
    #[error("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}", .0.join(", "))]
    Atomic(Vec<String>),
    /// A list's elements cannot be told apart.
    #[error("failed to merge patch: {0}")]
    Ambiguous(String),
}

/// Lays a configuration over an object of a struct's shape.
///
/// # Errors
/// A configuration that holds something atomic, or a list that is ambiguous.
pub fn overlay(
    schema: &Schema,
    of: StructId,
    object: &Object,
    config: &Object,
) -> Result<Object, OverlayError> {
    let shape = Shape::Struct(of);
    let place = Place::of(&shape);
    let config = Value::Object(config.as_map().clone());
    let mut atomic = Vec::new();
    atoms(schema, place, &config, "", &mut atomic);
    if !atomic.is_empty() {
        return Err(OverlayError::Atomic(atomic));
    }
    let merged = merge(schema, place, &Value::Object(object.as_map().clone()), &config);
    let merged = merged.map_err(|Nameless(why)| OverlayError::Ambiguous(why))?;
    Ok(Object::from_value(merged).unwrap_or_default())
}

/// The lists, maps and structs in a value that are replaced as a whole.
fn atoms(schema: &Schema, place: Place<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    match (place.atom(schema), value) {
        (Atom::Leaf, Value::Object(_) | Value::Array(_)) => found.push(path.to_owned()),
        (Atom::Struct(of), Value::Object(map)) => {
            for (name, value) in map {
                atoms(schema, place_of(of, name), value, &format!("{path}.{name}"), found);
            }
        }
        (Atom::Map(of), Value::Object(map)) => {
            for (name, value) in map {
                atoms(schema, of, value, &format!("{path}.{name}"), found);
            }
        }
        (Atom::Keyed(of, _), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                atoms(schema, of, item, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}
