//! The entries of `metadata.managedFields`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::FieldSet;
use crate::{Object, time};

/// How fields came to be owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

/// Whose fields they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The manager's name.
    pub manager: String,
    /// How it writes.
    pub operation: Operation,
    /// The version in which the fields are named.
    pub api_version: String,
    /// Through which subresource; empty: the main resource.
    pub subresource: String,
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub identity: Identity,
    /// When it last changed.
    pub time: Option<Timestamp>,
    /// What.
    pub fields: FieldSet,
}

impl Identity {
    /// Whether two entries are one: an applier's version may change.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

impl Entry {
    fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        let time = match value.get("time").and_then(Value::as_str) {
            Some(text) => Some(time::parse(text)?),
            None => None,
        };
        let identity = Identity {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
        };
        let fields = value.get("fieldsV1").map(FieldSet::from_value).unwrap_or_default();
        Some(Self { identity, time, fields })
    }

    fn into_value(self) -> Value {
        let mut map = Map::new();
        let operation = match self.identity.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        map.insert("manager".to_owned(), self.identity.manager.into());
        map.insert("operation".to_owned(), operation.into());
        map.insert("apiVersion".to_owned(), self.identity.api_version.into());
        if let Some(time) = self.time {
            map.insert("time".to_owned(), time::format(time).into());
        }
        map.insert("fieldsType".to_owned(), "FieldsV1".into());
        map.insert("fieldsV1".to_owned(), self.fields.into_value());
        if !self.identity.subresource.is_empty() {
            map.insert("subresource".to_owned(), self.identity.subresource.into());
        }
        Value::Object(map)
    }
}

/// An object's entries; `None` where one cannot be read.
pub(super) fn read(object: &Object) -> Option<Vec<Entry>> {
    let list = object.at(&["metadata", "managedFields"]).and_then(Value::as_array);
    list.into_iter().flatten().map(Entry::read).collect()
}

/// Whether an object asks to forget all owners.
pub(super) fn is_reset(object: &Object) -> bool {
    match object.at(&["metadata", "managedFields"]).and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => *only == json!({}),
        _ => false,
    }
}

/// Puts entries into an object, in the order in which upstream sorts them.
pub(super) fn write(object: &mut Object, mut entries: Vec<Entry>) {
    entries.sort_by(|one, other| {
        let key = |entry: &Entry| {
            let seconds = entry.time.map_or(0, Timestamp::as_second);
            (entry.identity.operation, seconds)
        };
        let text = |entry: &Entry| {
            let Identity { manager, api_version, subresource, .. } = &entry.identity;
            (manager.clone(), api_version.clone(), subresource.clone())
        };
        key(one).cmp(&key(other)).then_with(|| text(one).cmp(&text(other)))
    });
    if entries.is_empty() {
        object.remove_at(&["metadata", "managedFields"]);
    } else {
        let list: Vec<Value> = entries.into_iter().map(Entry::into_value).collect();
        object.set_at(&["metadata", "managedFields"], list);
    }
}
