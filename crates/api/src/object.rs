//! An object whose kind is known only at run time: its JSON, with accessors
//! for the metadata that every kind has.

use std::fmt;

use serde_json::{Map, Value};

/// Where an object of a known resource is: namespace (empty for cluster-scoped
/// ones) and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl ObjectKey {
    /// A key from its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of a typed object.
    pub fn of<K: k8s_openapi::Metadata<Ty = crate::metav1::ObjectMeta>>(object: &K) -> Self {
        let metadata = object.metadata();
        Self::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    /// Group and version of the owner.
    pub api_version: &'a str,
    /// Kind of the owner.
    pub kind: &'a str,
    /// Name of the owner.
    pub name: &'a str,
    /// Uid of the owner.
    pub uid: &'a str,
    /// Whether it is the managing controller.
    pub controller: bool,
    /// Whether a foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

/// JSON that is not an object where one is wanted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a JSON object, found {found}")]
pub struct NotAnObject {
    /// The JSON type found.
    pub found: &'static str,
}

/// An API object of any kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(Map<String, Value>);

impl Object {
    /// Wraps JSON.
    ///
    /// # Errors
    /// JSON of another type.
    pub fn from_value(value: Value) -> Result<Self, NotAnObject> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            other => Err(NotAnObject { found: json_type(&other) }),
        }
    }

    /// Reads the JSON encoding.
    ///
    /// # Errors
    /// Bytes that are not JSON, or not an object.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes).map(Self)
    }

    /// A typed object as an untyped one.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn from_typed<K: serde::Serialize>(object: &K) -> Result<Self, serde_json::Error> {
        match serde_json::to_value(object)? {
            Value::Object(map) => Ok(Self(map)),
            other => Err(serde::ser::Error::custom(NotAnObject { found: json_type(&other) })),
        }
    }

    /// The typed form.
    ///
    /// # Errors
    /// A field that does not fit the type.
    pub fn to_typed<'a, K: serde::Deserialize<'a>>(&'a self) -> Result<K, serde_json::Error> {
        // `&Map` is a deserializer: nothing is copied but the strings.
        K::deserialize(&self.0)
    }

    /// The JSON encoding.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("a JSON map with string keys always encodes")
    }

    /// The JSON.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// The top-level fields.
    #[must_use]
    pub const fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The top-level fields, to change.
    pub const fn as_map_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.0
    }

    /// A top-level field.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field)
    }

    /// Sets a top-level field.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.0.insert(field.to_owned(), value.into());
    }

    /// Removes a top-level field.
    pub fn remove(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field)
    }

    /// The value at a path of field names.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |value, step| value.get(*step))
    }

    /// The text at a path; empty where there is none.
    #[must_use]
    pub fn text(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// The integer at a path.
    #[must_use]
    pub fn integer(&self, path: &[&str]) -> Option<i64> {
        self.at(path).and_then(Value::as_i64)
    }

    /// Sets the value at a path, making the objects on the way.
    pub fn set_at(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut map = &mut self.0;
        for step in parents {
            let next = map.entry((*step).to_owned()).or_insert_with(|| Value::Object(Map::new()));
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            let Value::Object(below) = next else { return };
            map = below;
        }
        map.insert((*last).to_owned(), value.into());
    }

    /// Removes the value at a path.
    pub fn remove_at(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        let mut map = &mut self.0;
        for step in parents {
            map = map.get_mut(*step)?.as_object_mut()?;
        }
        map.remove(*last)
    }

    /// `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.text(&["apiVersion"])
    }

    /// `kind`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text(&["kind"])
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text(&["metadata", "name"])
    }

    /// `metadata.namespace`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.text(&["metadata", "namespace"])
    }

    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace(), self.name())
    }

    /// `metadata.uid`.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.text(&["metadata", "uid"])
    }

    /// `metadata.resourceVersion`.
    #[must_use]
    pub fn resource_version(&self) -> &str {
        self.text(&["metadata", "resourceVersion"])
    }

    /// `metadata.generation`.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.integer(&["metadata", "generation"]).unwrap_or_default()
    }

    /// `metadata.deletionTimestamp`.
    #[must_use]
    pub fn deletion_timestamp(&self) -> Option<&str> {
        self.at(&["metadata", "deletionTimestamp"]).and_then(Value::as_str)
    }

    /// Whether a deletion was asked for.
    #[must_use]
    pub fn is_terminating(&self) -> bool {
        self.deletion_timestamp().is_some()
    }

    /// `metadata.labels`.
    #[must_use]
    pub fn labels(&self) -> Option<&Map<String, Value>> {
        self.at(&["metadata", "labels"]).and_then(Value::as_object)
    }

    /// `metadata.annotations`.
    #[must_use]
    pub fn annotations(&self) -> Option<&Map<String, Value>> {
        self.at(&["metadata", "annotations"]).and_then(Value::as_object)
    }

    /// One annotation.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations()?.get(name)?.as_str()
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        let list = self.at(&["metadata", "finalizers"]).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    /// `metadata.ownerReferences`.
    pub fn owner_references(&self) -> impl Iterator<Item = OwnerReference<'_>> {
        let list = self.at(&["metadata", "ownerReferences"]).and_then(Value::as_array);
        list.into_iter().flatten().map(OwnerReference::read)
    }
}

impl<'a> OwnerReference<'a> {
    fn read(value: &'a Value) -> Self {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or_default();
        Self {
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: text("name"),
            uid: text("uid"),
            controller: flag("controller"),
            block_owner_deletion: flag("blockOwnerDeletion"),
        }
    }
}

/// The name of a JSON type as Go's decoder calls it.
#[must_use]
pub const fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_made_and_removed() {
        let mut object = Object::default();
        object.set_at(&["metadata", "name"], "a");
        object.set_at(&["spec", "x", "y"], 3);
        assert_eq!(object.name(), "a");
        assert_eq!(object.integer(&["spec", "x", "y"]), Some(3));
        assert_eq!(object.remove_at(&["spec", "x", "y"]), Some(json!(3)));
        assert_eq!(object.at(&["spec", "x"]), Some(&json!({})));
    }

    #[test]
    fn typed_round_trip() {
        let pod: crate::types::core::v1::Pod =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": []}}))
                .expect("pod");
        let object = Object::from_typed(&pod).expect("object");
        assert_eq!((object.kind(), object.api_version(), object.name()), ("Pod", "v1", "p"));
        assert_eq!(object.to_typed::<crate::types::core::v1::Pod>().expect("back"), pod);
    }
}
