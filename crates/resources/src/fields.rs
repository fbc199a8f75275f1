//! Reading the fields of untyped JSON: what is absent reads as empty.

use serde_json::{Map, Value};

/// Field access that never fails.
pub(crate) trait Fields {
    /// A field; null where it is absent.
    fn field(&self, name: &str) -> &Value;

    /// A text; empty where it is absent.
    fn text(&self, name: &str) -> &str {
        self.field(name).as_str().unwrap_or_default()
    }

    /// An integer.
    fn int(&self, name: &str) -> Option<i64> {
        self.field(name).as_i64()
    }

    /// A flag; false where it is absent.
    fn flag(&self, name: &str) -> bool {
        self.field(name).as_bool().unwrap_or_default()
    }

    /// Whether a field is there and not null.
    fn has(&self, name: &str) -> bool {
        !self.field(name).is_null()
    }

    /// A list; empty where it is absent.
    fn list(&self, name: &str) -> &[Value] {
        self.field(name).as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The entries of a map; none where it is absent.
    fn entries<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)>
    where
        Self: 'a,
    {
        self.field(name).as_object().into_iter().flatten()
    }

    /// A value below: `at(&["spec", "template"])`.
    fn below(&self, path: &[&str]) -> &Value {
        match path.split_first() {
            Some((first, rest)) => rest.iter().fold(self.field(first), |value, step| value.field(step)),
            None => &NULL,
        }
    }
}

static NULL: Value = Value::Null;

impl Fields for Value {
    fn field(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&NULL)
    }
}

impl Fields for Map<String, Value> {
    fn field(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&NULL)
    }
}

impl Fields for api::Object {
    fn field(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&NULL)
    }
}

/// Whether a value is absent, or what Go leaves out: equal as upstream's
/// semantic comparison sees it.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Equality in which an absent, null or empty list or map are the same.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.iter().all(|(key, value)| same(value, other.field(key)))
                && other.iter().all(|(key, value)| one.contains_key(key) || is_empty(value))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (one, other) if is_empty(one) && is_empty(other) => true,
        (one, other) => one == other,
    }
}

/// The object at a field, made where it is absent.
pub(crate) fn object_at<'a>(
    map: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    let value = map.entry(name.to_owned()).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// The object at a field, where there is one.
pub(crate) fn object_in<'a>(
    map: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(name)?.as_object_mut()
}

/// The objects of a list, to change.
pub(crate) fn objects_in<'a>(
    map: &'a mut Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Sets a field that is absent or null.
pub(crate) fn default_to(map: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    let at = map.entry(name.to_owned()).or_insert(Value::Null);
    if at.is_null() {
        *at = value.into();
    }
}

/// Sets a text that is absent or empty.
pub(crate) fn default_text(map: &mut Map<String, Value>, name: &str, value: &str) {
    if map.text(name).is_empty() {
        map.insert(name.to_owned(), value.into());
    }
}

/// Sets a number that is absent or zero.
pub(crate) fn default_number(map: &mut Map<String, Value>, name: &str, value: i64) {
    if map.int(name).unwrap_or_default() == 0 {
        map.insert(name.to_owned(), value.into());
    }
}
