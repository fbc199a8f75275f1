//! Rules for runtime classes and storage classes.

use std::collections::HashSet;

use api::{ErrorList, Object, Path};
use serde_json::Value;

use super::pod::{resources, scheduling};
use crate::fields::{Fields, same};
use crate::report::Report;
use crate::{Part, metadata, names};

fn unchanged(field: &str, new: &Object, old: &Object, errors: &mut ErrorList) {
    metadata::immutable(new.field(field), old.field(field), &Path::new(field), errors);
}

/// Rules for a runtime class (`ValidateRuntimeClass`).
pub(super) fn runtime_class(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (handler, path) = (object.text(&["handler"]), Path::new("handler"));
    if handler.is_empty() {
        errors.required(&path, "");
    } else {
        errors.invalid_all(&path, handler, names::label(handler));
    }
    let fixed = object.below(&["overhead", "podFixed"]);
    if fixed.is_object() {
        let limits = serde_json::json!({"limits": fixed});
        resources::validate_container(&limits, &Path::new("overhead"), &mut errors);
    }
    let (placing, path) = (object.field("scheduling"), Path::new("scheduling"));
    metadata::labels(placing.field("nodeSelector"), &path.child("nodeSelector"), &mut errors);
    let tolerations = placing.list("tolerations");
    let at = path.child("tolerations");
    scheduling::tolerations(tolerations, &at, &mut errors);
    let mut seen = HashSet::new();
    for (index, toleration) in tolerations.iter().enumerate() {
        let key = ["key", "operator", "value", "effect"].map(|field| toleration.text(field));
        if !seen.insert(key) {
            errors.duplicate(&at.index(index), toleration.clone());
        }
    }
    errors
}

/// Rules for a change of a runtime class.
pub(super) fn runtime_class_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    unchanged("handler", new, old, &mut errors);
    errors
}

/// Rules for a storage class (`ValidateStorageClass`).
pub(super) fn storage_class(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (provisioner, path) = (object.text(&["provisioner"]), Path::new("provisioner"));
    if provisioner.is_empty() {
        errors.required(&path, "");
    } else {
        let lower = provisioner.to_lowercase();
        errors.invalid_all(&path, provisioner, names::qualified(&lower));
    }
    if object.has("reclaimPolicy") {
        let policy = object.text(&["reclaimPolicy"]);
        errors.one_of(&Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]);
    }
    let mode = object.text(&["volumeBindingMode"]);
    let modes = ["Immediate", "WaitForFirstConsumer"];
    errors.required_one_of(&Path::new("volumeBindingMode"), mode, &modes);
    if object.entries("parameters").any(|(key, _)| key.is_empty()) {
        errors.invalid(&Path::new("parameters"), "", "field can not be empty.");
    }
    errors
}

/// Rules for a change of a storage class.
pub(super) fn storage_class_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        if !same(new.field(field), old.field(field)) {
            let value: Value = new.field(field).clone();
            errors.invalid(&Path::new(field), value, "field is immutable");
        }
    }
    errors
}
