//! The behaviour of one version of a custom resource.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use api::jsonpath::Template;
use api::schema::{Conformed, Schema, StructId, TypeMismatch, conform};
use api::{ErrorList, FieldError, Object, Path};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::columns::Printed;
use super::rules::Checks;
use super::structural::Structural;
use super::{default, prune, rules, validate};
use crate::fields::same;
use crate::{Part, Strategy, metadata, tables};

/// One version of a custom resource.
pub(super) struct Custom {
    pub(super) schema: Arc<Read>,
    /// The schema as it was given, in JSON.
    pub(super) document: Arc<str>,
    pub(super) columns: Vec<Printed>,
    pub(super) selectable: Vec<Selectable>,
    pub(super) has_status: bool,
    pub(super) stored_version: String,
    pub(super) api_version: String,
    /// The version and its schema, in short.
    pub(super) form: String,
}

/// A schema, read when the first object wants it: of many definitions most lie idle.
pub(super) type Read = LazyLock<Compiled, Box<dyn FnOnce() -> Compiled + Send>>;

/// What a schema says, and its expressions.
pub(super) struct Compiled {
    pub(super) structural: Structural,
    rules: Option<Checks>,
}

impl Compiled {
    pub(super) fn of(document: &Value) -> Self {
        let structural = Structural::read(document);
        Self { rules: Checks::of(&structural), structural }
    }
}

/// A field by which objects are selected.
pub(super) struct Selectable {
    /// Its name in selectors.
    pub(super) shown: String,
    /// Its name among the stored fields, which are those of all versions.
    pub(super) stored: String,
    pub(super) path: Template,
}

impl Custom {
    /// What the schema's expressions say, if the object is sound enough to ask them.
    fn expressions(&self, new: &Object, old: Option<&Object>) -> ErrorList {
        let Some(rules) = &self.schema.rules else { return ErrorList::new() };
        if self.validate(new).iter().any(rules::hides_the_rest) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            return vec![FieldError::invalid(&Path::ROOT, Value::Null, why)];
        }
        rules.check(new, old, &self.schema.structural)
    }

    /// Whether anything but the metadata, and the status where it is a part of its
    /// own, differs: that makes a new generation.
    fn differs(&self, new: &Object, old: &Object) -> bool {
        let counts = |name: &&String| *name != "metadata" && !(self.has_status && *name == "status");
        let keys = new.as_map().keys().chain(old.as_map().keys());
        keys.filter(counts).any(|name| {
            let null = Value::Null;
            !same(new.get(name).unwrap_or(&null), old.get(name).unwrap_or(&null))
        })
    }
}

impl Strategy for Custom {
    fn conform(
        &self,
        _schema: &Schema,
        _shape: StructId,
        object: &mut Map<String, Value>,
    ) -> Result<Conformed, TypeMismatch> {
        let mut found = Conformed::default();
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            let schema = tables::schema();
            if let Some(shape) = schema.find("meta/v1.ObjectMeta") {
                let inner = conform(&schema, shape, metadata)?;
                found.unknown.extend(inner.unknown.into_iter().map(|path| format!("metadata.{path}")));
            }
        }
        prune::prune(object, &self.schema.structural, true, "", &mut found.unknown);
        Ok(found)
    }

    fn default(&self, object: &mut Object) {
        default::fill(object.as_map_mut(), &self.schema.structural);
    }

    fn prepare_create(&self, object: &mut Object) {
        if self.has_status {
            object.remove("status");
        }
        metadata::first_generation(object);
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        match part {
            Part::Main => {
                if self.has_status {
                    metadata::keep_other_parts(Part::Main, new, old);
                }
                let generation = old.generation() + i64::from(self.differs(new, old));
                new.set_at(&["metadata", "generation"], generation);
            }
            Part::Status | Part::Other(_) => {
                let owners = new.at(&["metadata", "managedFields"]).cloned();
                let status = new.remove("status");
                *new = old.clone();
                match status {
                    Some(status) => new.set("status", status),
                    None => drop(new.remove("status")),
                }
                if let Some(owners) = owners {
                    new.set_at(&["metadata", "managedFields"], owners);
                }
            }
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        validate::validate(object.as_map(), &self.schema.structural)
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        self.expressions(object, None)
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = match part {
            // Asked separately.
            Part::Main => ErrorList::new(),
            Part::Status | Part::Other(_) => self.validate(new),
        };
        errors.extend(self.expressions(new, Some(old)));
        errors
    }

    fn updates_unconditionally(&self) -> bool {
        false
    }

    fn selectable(&self, object: &Object) -> Vec<(&str, String)> {
        if self.selectable.is_empty() {
            return Vec::new();
        }
        let root = Value::Object(object.as_map().clone());
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let of =
            |one: &Selectable| one.path.values(&root).first().map(|value| text(value)).unwrap_or_default();
        self.selectable.iter().map(|one| (one.stored.as_str(), of(one))).collect()
    }

    fn selectable_names(&self) -> Vec<&str> {
        self.selectable.iter().map(|one| one.shown.as_str()).collect()
    }

    fn stored_field<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let found = self.selectable.iter().find(|one| one.shown == name);
        found.map_or(name.into(), |one| one.stored.clone().into())
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let root = Value::Object(object.as_map().clone());
        self.columns.iter().map(|column| column.cell(&root, now)).collect()
    }

    fn from_stored(&self, object: &mut Object) {
        object.set("apiVersion", self.api_version.as_str());
        // The schema may have changed since.
        prune::prune(object.as_map_mut(), &self.schema.structural, true, "", &mut Vec::new());
        self.default(object);
    }

    fn to_stored(&self, object: &mut Object) {
        object.set("apiVersion", self.stored_version.as_str());
    }

    fn converts(&self) -> bool {
        true
    }

    fn form(&self) -> Option<&str> {
        Some(&self.form)
    }

    fn merges_strategically(&self) -> bool {
        false
    }

    fn document(&self) -> Option<&str> {
        Some(&self.document)
    }
}
