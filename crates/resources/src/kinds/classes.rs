//! Rules for priority classes, runtime classes and storage classes.

use std::collections::HashSet;

use api::{ErrorList, Object, Path};
use serde_json::Value;

use super::pod::{resources, scheduling};
use crate::fields::{Fields, same};
use crate::report::Report;
use crate::{Part, metadata, names};

/// The largest value of a priority class that is not the system's own.
const HIGHEST: i64 = 1_000_000_000;
/// The system's own priority classes.
const SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// Rules for a priority class (`ValidatePriorityClass`).
pub(super) fn priority_class(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let value = object.field("value").as_i64().unwrap_or_default();
    if object.name().starts_with("system-") {
        if let Err(why) = is_known(object, value) {
            let metadata = Path::new("metadata");
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            errors.forbidden(&metadata.child("name"), detail);
        }
    } else if value > HIGHEST {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.forbidden(&Path::new("value"), detail);
    }
    if object.has("preemptionPolicy") {
        let policy = object.text(&["preemptionPolicy"]);
        let allowed = ["PreemptLowerPriority", "Never"];
        errors.required_one_of(&Path::new("preemptionPolicy"), policy, &allowed);
    }
    errors
}

fn is_known(object: &Object, value: i64) -> Result<(), String> {
    let name = object.name();
    let (_, expected) = SYSTEM
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| format!("{name} is not a known system priority class"))?;
    if value != *expected {
        return Err(format!("value of {name} PriorityClass must be {expected}"));
    }
    if object.flag("globalDefault") {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

/// Rules for a change of a priority class.
pub(super) fn priority_class_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if new.field("value") != old.field("value") {
        errors.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    unchanged("preemptionPolicy", new, old, &mut errors);
    errors
}

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
