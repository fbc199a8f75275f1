//! What a value is to its owners: one thing, or several that can have different
//! owners.

use serde_json::{Map, Value};

use crate::schema::{Field, ListType, MapType, Schema, Shape, Struct};

/// A place in a schema.
#[derive(Clone, Copy)]
pub(super) struct Place<'s> {
    pub(super) shape: &'s Shape,
    list_type: &'s ListType,
    map_type: MapType,
}

/// How a value at a place is owned.
pub(super) enum Atom<'s> {
    /// As a whole.
    Leaf,
    /// By the fields of a struct.
    Struct(&'s Struct),
    /// By entries.
    Map(Place<'s>),
    /// By elements, told apart by keys.
    Keyed(Place<'s>, &'s [String]),
    /// By elements, told apart by their value.
    Set,
}

/// A list element that cannot be told apart from others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Nameless(pub(super) String);

const PLAIN: ListType = ListType::Unset;
const ANY: Shape = Shape::Any;

impl<'s> Place<'s> {
    /// A value of a shape, of which nothing more is said.
    pub(super) const fn of(shape: &'s Shape) -> Self {
        Self { shape, list_type: &PLAIN, map_type: MapType::Unset }
    }

    fn field(field: &'s Field) -> Self {
        Self { shape: &field.shape, list_type: &field.list_type, map_type: field.map_type }
    }

    pub(super) fn atom(self, schema: &'s Schema) -> Atom<'s> {
        if self.map_type == MapType::Atomic {
            return Atom::Leaf;
        }
        match (self.shape, self.list_type) {
            (Shape::Struct(id), _) => match schema.get(*id) {
                of if of.atomic => Atom::Leaf,
                of => Atom::Struct(of),
            },
            (Shape::Map(of), _) => Atom::Map(Self::of(of)),
            (Shape::Any, _) => Atom::Map(Self::of(&ANY)),
            (Shape::List(of), ListType::Map(keys)) => Atom::Keyed(Self::of(of), keys),
            (Shape::List(_), ListType::Set) => Atom::Set,
            _ => Atom::Leaf,
        }
    }
}

impl Atom<'_> {
    /// Whether the value is owned by its parts: a list or map of the right form.
    pub(super) fn splits(&self, value: &Value) -> bool {
        match self {
            Self::Leaf => false,
            Self::Struct(_) | Self::Map(_) => value.is_object(),
            Self::Keyed(..) | Self::Set => value.is_array(),
        }
    }
}

/// The place of a field; an unknown one can hold anything.
pub(super) fn place_of<'s>(of: &'s Struct, name: &str) -> Place<'s> {
    of.fields.get(name).map_or(Place::of(&ANY), Place::field)
}

/// `f:name`
pub(super) fn field_element(name: &str) -> String {
    format!("f:{name}")
}

/// The element of a list: `k:{...}` or `v:...`.
pub(super) fn list_element(
    schema: &Schema,
    place: Option<(Place<'_>, &[String])>,
    item: &Value,
) -> Result<String, Nameless> {
    let Some((place, keys)) = place else { return Ok(format!("v:{item}")) };
    let Value::Object(map) = item else {
        return Err(Nameless("associative list with keys may not have non-map elements".to_owned()));
    };
    let default = |key: &str| match place.shape {
        Shape::Struct(id) => schema.get(*id).fields.get(key)?.default.as_deref().and_then(from_text),
        _ => None,
    };
    let mut named = Map::new();
    for key in keys {
        let value = map.get(key).filter(|value| !value.is_null()).cloned().or_else(|| default(key));
        let value = value.ok_or_else(|| {
            Nameless(format!(
                "associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
            ))
        })?;
        named.insert(key.clone(), value);
    }
    Ok(format!("k:{}", Value::Object(sorted(named))))
}

fn from_text(text: &str) -> Option<Value> {
    Some(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
}

/// Keys in alphabetical order, whatever order the map keeps.
fn sorted(map: Map<String, Value>) -> Map<String, Value> {
    let mut entries: Vec<(String, Value)> = map.into_iter().collect();
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    entries.into_iter().collect()
}
