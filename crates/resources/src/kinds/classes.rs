//! Rules for runtime classes and storage classes.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use api::{ErrorList, Object, Path};
use serde_json::Value;

use super::pod::{resources, scheduling};
use super::storage;
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
    storage::provisioner(object.text(&["provisioner"]), &Path::new("provisioner"), &mut errors);
    if object.has("reclaimPolicy") {
        let policy = object.text(&["reclaimPolicy"]);
        errors.one_of(&Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]);
    }
    let mode = object.text(&["volumeBindingMode"]);
    let modes = ["Immediate", "WaitForFirstConsumer"];
    errors.required_one_of(&Path::new("volumeBindingMode"), mode, &modes);
    storage::parameters(object.field("parameters"), &Path::new("parameters"), &mut errors);
    topologies(object.field("allowedTopologies"), &Path::new("allowedTopologies"), &mut errors);
    errors
}

/// Where volumes may be: terms of which none says what another says.
fn topologies(terms: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut known: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for (index, term) in terms.as_array().into_iter().flatten().enumerate() {
        let at = path.index(index);
        let list = at.child("matchLabelExpressions");
        let mut meant = BTreeMap::new();
        for (index, one) in term.list("matchLabelExpressions").iter().enumerate() {
            let (at, key) = (list.index(index), one.text("key"));
            let values = topology_values(one, &at, errors);
            errors.invalid_all(&at.child("key"), key, names::qualified(key));
            if meant.insert(key, values).is_some() {
                errors.duplicate(&at.child("key"), key);
            }
        }
        if known.contains(&meant) {
            errors.duplicate(&list, "");
        }
        known.push(meant);
    }
}

fn topology_values<'a>(of: &'a Value, path: &Path<'_>, errors: &mut ErrorList) -> BTreeSet<&'a str> {
    let (mut found, at) = (BTreeSet::new(), path.child("values"));
    if of.list("values").is_empty() {
        errors.required(&at, "");
    }
    for (index, value) in of.list("values").iter().filter_map(Value::as_str).enumerate() {
        if !found.insert(value) {
            errors.duplicate(&at.index(index), value);
        }
    }
    found
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn topologies_of_storage_classes() {
        let told = |terms: Value| {
            let class = json!({
                "provisioner": "a.b/c", "volumeBindingMode": "Immediate", "allowedTopologies": terms,
            });
            let object = Object::from_value(class).expect("an object");
            storage_class(&object).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let term = |values: Value| json!({"matchLabelExpressions": [{"key": "zone", "values": values}]});
        assert_eq!(told(json!([term(json!(["a"])), term(json!(["b"]))])), Vec::<String>::new());
        let first = "allowedTopologies[0].matchLabelExpressions";
        for (terms, expected) in [
            (json!([term(json!([]))]), format!("{first}[0].values: Required value")),
            (json!([term(json!(["a", "a"]))]), format!("{first}[0].values[1]: Duplicate value: \"a\"")),
            (
                json!([term(json!(["a", "b"])), term(json!(["b", "a"]))]),
                "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"".to_owned(),
            ),
        ] {
            assert_eq!(told(terms), [expected]);
        }
    }
}
