//! Rules for what describes volume drivers: CSI drivers, nodes and capacities,
//! attachments, classes of attributes, following `pkg/apis/storage`.

use std::collections::HashSet;

use api::{ErrorList, FieldError, Object, Path};
use serde_json::Value;

use super::persistent_volumes;
use super::pod::resources::quantity;
use super::pod::scheduling::label_selector;
use crate::fields::{Fields, same};
use crate::report::Report;
use crate::{Part, metadata, names};

/// The most that keys and values of parameters, or of what an attacher notes, may take.
const MAX_PARAMETERS: usize = 256 * 1024;
const MAX_PARAMETER_COUNT: usize = 512;
const MAX_MESSAGE: usize = 1024;
const MAX_NODE_ID: usize = 256;

/// Rules for a driver (`ValidateCSIDriver`).
pub(super) fn driver(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    for (field, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
        ("seLinuxMount", "seLinuxMount"),
    ] {
        if !spec.has(field) {
            errors.required(&path.child(shown), "");
        }
    }
    if spec.has("fsGroupPolicy") {
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        errors.one_of(&path.child("fsGroupPolicy"), spec.text("fsGroupPolicy"), &policies);
    }
    let requests = spec.list("tokenRequests");
    token_requests(requests, &path.child("tokenRequests"), &mut errors);
    for mode in spec.list("volumeLifecycleModes") {
        let at = path.child("volumeLifecycleModes");
        errors.one_of(&at, mode.as_str().unwrap_or_default(), &["Persistent", "Ephemeral"]);
    }
    let field = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(period) = spec.int(field).filter(|period| *period < 10) {
        errors.invalid(&path.child(field), period, "must be greater than or equal to 10 seconds");
    }
    let field = "serviceAccountTokenInSecrets";
    if spec.has(field) && requests.is_empty() {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&path.child(field), spec.field(field).clone(), detail);
    }
    errors
}

fn token_requests(requests: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut audiences = HashSet::new();
    for (index, request) in requests.iter().enumerate() {
        let at = path.index(index);
        if !audiences.insert(request.text("audience")) {
            errors.duplicate(&at.child("audience"), request.text("audience"));
            continue;
        }
        let (seconds, at) = (request.int("expirationSeconds"), at.child("expirationSeconds"));
        match seconds {
            Some(seconds) if seconds < 600 => {
                errors.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
            }
            Some(seconds) if seconds > 1 << 32 => {
                errors.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            _ => {}
        }
    }
}

/// Rules for a change of a driver.
pub(super) fn driver_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    for (field, shown) in
        [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
    {
        let (new, old) = (new.field("spec").field(field), old.field("spec").field(field));
        metadata::immutable(new, old, &path.child(shown), &mut errors);
    }
    errors
}

/// Rules for the name of a driver in another object (`ValidateCSIDriverName`).
pub(super) fn driver_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > 63 {
        errors.add(FieldError::too_long(path, 63));
    }
    errors.invalid_all(path, name, names::subdomain(&name.to_lowercase()));
}

/// Rules for what a node's drivers can (`ValidateCSINode`).
pub(super) fn node(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    let list = path.child("drivers");
    let mut seen = HashSet::new();
    for (index, driver) in object.field("spec").list("drivers").iter().enumerate() {
        let at = list.index(index);
        let (name, id) = (driver.text("name"), driver.text("nodeID"));
        driver_name(name, &at.child("name"), &mut errors);
        if id.is_empty() {
            errors.required(&at.child("nodeID"), "");
        }
        if id.len() > MAX_NODE_ID {
            errors.invalid(&at.child("nodeID"), id, format!("must be {MAX_NODE_ID} characters or less"));
        }
        errors.not_negative(driver.field("allocatable"), "count", &at.child("allocatable"));
        if !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        topology_keys(driver.list("topologyKeys"), &at, &mut errors);
    }
    errors
}

fn topology_keys(keys: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for key in keys.iter().map(|key| key.as_str().unwrap_or_default()) {
        if key.is_empty() {
            errors.required(path, "");
        }
        if !seen.insert(key) {
            errors.duplicate(path, key);
        }
        errors.invalid_all(path, key, names::qualified(key));
    }
}

/// Rules for a change of a node's drivers: one that stays stays as it is, but for
/// how many volumes it takes.
pub(super) fn node_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    let path = spec.child("drivers");
    let without_count = |driver: &Value| {
        let mut driver = driver.clone();
        if let Some(driver) = driver.as_object_mut() {
            driver.remove("allocatable");
        }
        driver
    };
    for before in old.field("spec").list("drivers") {
        let kept = new.field("spec").list("drivers").iter();
        for after in kept.filter(|after| after.text("name") == before.text("name")) {
            metadata::immutable(&without_count(after), &without_count(before), &path, &mut errors);
        }
    }
    errors
}

/// Rules for an attachment (`ValidateVolumeAttachment`).
pub(super) fn attachment(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    driver_name(spec.text("attacher"), &path.child("attacher"), &mut errors);
    let (source, at) = (spec.field("source"), path.child("source"));
    let one_only = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source.has("inlineVolumeSpec"), source.has("persistentVolumeName")) {
        (false, false) => errors.required(&at, one_only),
        (true, true) => errors.forbidden(&at, one_only),
        (true, false) => {
            let (inline, at) = (source.field("inlineVolumeSpec"), at.child("inlineVolumeSpec"));
            persistent_volumes::inline(inline, &at, &mut errors);
        }
        (false, true) if source.text("persistentVolumeName").is_empty() => {
            let detail = "must specify non empty persistentVolumeName";
            errors.required(&at.child("persistentVolumeName"), detail);
        }
        (false, true) => {
            let name = source.text("persistentVolumeName");
            errors.invalid_all(&at.child("persistentVolumeName"), name, names::subdomain(name));
        }
    }
    let node = spec.text("nodeName");
    errors.invalid_all(&path.child("nodeName"), node, names::subdomain(node));
    attachment_status(object, &mut errors);
    errors
}

fn attachment_status(object: &Object, errors: &mut ErrorList) {
    let (status, path) = (object.field("status"), Path::new("status"));
    let size = size(status.field("attachmentMetadata"));
    if size > MAX_PARAMETERS {
        errors.add(FieldError::too_long(&path.child("attachmentMetadata"), MAX_PARAMETERS));
    }
    for field in ["attachError", "detachError"] {
        let (error, at) = (status.field(field), path.child(field));
        if error.text("message").len() > MAX_MESSAGE {
            errors.add(FieldError::too_long(&at.child("message"), MAX_PARAMETERS));
        }
        if let Some(code) = error.int("errorCode").filter(|code| *code < 0) {
            errors.invalid(&at.child("errorCode"), code, names::between(0, i64::from(i32::MAX)));
        }
    }
}

/// Rules for a change of an attachment.
pub(super) fn attachment_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    metadata::immutable(new.field("spec"), old.field("spec"), &Path::new("spec"), &mut errors);
    errors
}

/// Rules for a capacity (`ValidateCSIStorageCapacity`).
pub(super) fn capacity(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    label_selector(object.field("nodeTopology"), &Path::new("nodeTopology"), &mut errors);
    let class = object.text(&["storageClassName"]);
    errors.invalid_all(&Path::new("storageClassName"), class, names::subdomain(class));
    let amount = object.field("capacity");
    if !amount.is_null() && quantity(amount).is_negative() {
        errors.invalid(&Path::new("capacity"), amount.clone(), metadata::NOT_NEGATIVE);
    }
    errors
}

/// Rules for a change of a capacity.
pub(super) fn capacity_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    for field in ["nodeTopology", "storageClassName"] {
        metadata::immutable(new.field(field), old.field(field), &Path::new(field), &mut errors);
    }
    errors
}

/// Rules for a class of attributes (`ValidateVolumeAttributesClass`).
pub(super) fn attributes_class(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    provisioner(object.text(&["driverName"]), &Path::new("driverName"), &mut errors);
    let path = Path::new("parameters");
    parameters(object.field("parameters"), &path, &mut errors);
    if object.entries("parameters").next().is_none() {
        errors.required(&path, "must contain at least one key/value pair");
    }
    errors
}

/// Rules for a change of a class of attributes.
pub(super) fn attributes_class_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    for field in ["driverName", "parameters"] {
        if !same(new.field(field), old.field(field)) {
            errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
        }
    }
    errors
}

/// Rules for the name of what makes volumes.
pub(super) fn provisioner(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.required(path, "");
    } else {
        errors.invalid_all(path, name, names::qualified(&name.to_lowercase()));
    }
}

/// Rules for what it is told.
pub(super) fn parameters(parameters: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(map) = parameters.as_object() else { return };
    if map.len() > MAX_PARAMETER_COUNT {
        errors.add(FieldError::too_long(path, MAX_PARAMETER_COUNT));
        return;
    }
    if map.contains_key("") {
        errors.invalid(path, "", "field can not be empty.");
    }
    if size(parameters) > MAX_PARAMETERS {
        errors.add(FieldError::too_long(path, MAX_PARAMETERS));
    }
}

/// The bytes of the keys and values of a map of texts.
fn size(map: &Value) -> usize {
    let entries = map.as_object().into_iter().flatten();
    entries.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn object(spec: Value) -> Object {
        Object::from_value(json!({"spec": spec})).expect("an object")
    }

    #[test]
    fn drivers() {
        let with = |change: Value| {
            let mut spec = json!({
                "attachRequired": true, "podInfoOnMount": false, "storageCapacity": false, "seLinuxMount": false,
            });
            api::patch::merge_patch(&mut spec, change);
            told(&driver(&object(spec)))
        };
        assert_eq!(with(json!({"tokenRequests": [{"audience": "a"}]})), Vec::<String>::new());
        for (change, expected) in [
            (json!({"attachRequired": null}), "spec.attachedRequired: Required value"),
            (
                json!({"tokenRequests": [{"audience": "a"}, {"audience": "a"}]}),
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            ),
            (
                json!({"tokenRequests": [{"audience": "a", "expirationSeconds": 1}]}),
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
            ),
            (
                json!({"fsGroupPolicy": "Any"}),
                "spec.fsGroupPolicy: Unsupported value: \"Any\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            ),
            (
                json!({"volumeLifecycleModes": ["Brief"]}),
                "spec.volumeLifecycleModes: Unsupported value: \"Brief\": supported values: \"Persistent\", \"Ephemeral\"",
            ),
        ] {
            assert_eq!(with(change), [expected]);
        }
    }

    #[test]
    fn drivers_of_nodes() {
        let one = |change: Value| {
            let mut driver = json!({"name": "a.b", "nodeID": "n", "topologyKeys": ["zone"]});
            api::patch::merge_patch(&mut driver, change);
            object(json!({"drivers": [driver]}))
        };
        let plain = one(json!({}));
        assert!(node(&plain).is_empty());
        for (change, expected) in [
            (json!({"nodeID": ""}), "spec.drivers[0].nodeID: Required value"),
            (
                json!({"allocatable": {"count": -1}}),
                "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
            ),
            (json!({"topologyKeys": ["a", "a"]}), "spec.drivers[0]: Duplicate value: \"a\""),
        ] {
            assert_eq!(told(&node(&one(change))), [expected]);
        }
        assert!(node_update(Part::Main, &one(json!({"allocatable": {"count": 3}})), &plain).is_empty());
        assert_eq!(node_update(Part::Main, &one(json!({"nodeID": "m"})), &plain).len(), 1);
    }

    #[test]
    fn attachments() {
        let with = |source: Value| {
            told(&attachment(&object(json!({"attacher": "a.b", "nodeName": "n", "source": source}))))
        };
        assert_eq!(with(json!({"persistentVolumeName": "v"})), Vec::<String>::new());
        for (source, expected) in [
            (
                json!({}),
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
            (
                json!({"persistentVolumeName": ""}),
                "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName",
            ),
        ] {
            assert_eq!(with(source), [expected]);
        }
    }

    #[test]
    fn classes_of_attributes() {
        let class = |parameters: Value| {
            Object::from_value(json!({"driverName": "a.b", "parameters": parameters})).expect("an object")
        };
        let (one, two) = (class(json!({"a": "b"})), class(json!({"a": "c"})));
        assert!(attributes_class(&one).is_empty());
        assert_eq!(
            told(&attributes_class(&class(json!({})))),
            ["parameters: Required value: must contain at least one key/value pair"]
        );
        assert_eq!(
            told(&attributes_class_update(Part::Main, &two, &one)),
            ["parameters: Forbidden: updates to parameters are forbidden."]
        );
    }
}
