//! Rules for persistent volume claims (`ValidatePersistentVolumeClaim`).

use api::{ErrorList, Object, Path};
use serde_json::Value;

use super::pod::resources::{quantity, value};
use super::pod::scheduling;
use crate::fields::{Fields, same};
use crate::report::Report;
use crate::{Part, metadata, names};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const FROZEN: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

/// Rules for a claim by itself.
pub(super) fn claim(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    spec(object.field("spec"), &Path::new("spec"), &mut errors);
    errors
}

/// Rules for the spec of a claim or of a template for claims.
pub(super) fn spec(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    access_modes(spec, "at least 1 access mode is required", path, errors);
    if spec.has("selector") {
        scheduling::label_selector(spec.field("selector"), &path.child("selector"), errors);
    }
    let size = spec.below(&["resources", "requests", "storage"]);
    let resources = path.child("resources");
    let at = resources.key("storage");
    if size.is_null() {
        errors.required(&at, "");
    } else if quantity(size) <= api::Quantity::ZERO {
        errors.invalid(&at, size.clone(), "must be greater than zero");
    } else {
        value("storage", size, &at, errors);
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let name = spec.text(field);
        if !name.is_empty() {
            errors.invalid_all(&path.child(field), name, names::subdomain(name));
        }
    }
    if spec.has("volumeMode") {
        errors.one_of(&path.child("volumeMode"), spec.text("volumeMode"), &["Block", "Filesystem"]);
    }
    sources(spec, path, errors);
}

/// Rules for the access modes of a claim or a volume, which must have one.
pub(super) fn access_modes(spec: &Value, missing: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("accessModes");
    let modes: Vec<&str> = spec.list("accessModes").iter().filter_map(Value::as_str).collect();
    if modes.is_empty() {
        errors.required(&at, missing);
    }
    for mode in &modes {
        errors.one_of(&at, mode, &MODES);
    }
    let is_other = |mode: &&str| *mode != "ReadWriteOncePod" && MODES.contains(mode);
    if modes.contains(&"ReadWriteOncePod") && modes.iter().any(is_other) {
        errors.forbidden(&at, "may not use ReadWriteOncePod with other access modes");
    }
}

fn sources(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["dataSource", "dataSourceRef"] {
        let (source, at) = (spec.field(field), path.child(field));
        if source.is_null() {
            continue;
        }
        errors.required_text(source, "name", &at);
        errors.required_text(source, "kind", &at);
        let group = source.text("apiGroup");
        if group.is_empty() && source.text("kind") != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(&at, source.text("kind"), detail);
        }
        if !group.is_empty() {
            errors.invalid_all(&at.child("apiGroup"), group, names::subdomain(group));
        }
    }
}

/// Rules for a change of a claim: only a bound one may grow, or get another
/// class of attributes.
pub(super) fn claim_update(part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if part != Part::Main {
        return errors;
    }
    let path = Path::new("spec");
    let (before, after) = (old.field("spec"), new.field("spec"));
    let mut kept = after.clone();
    let mut keep = |field: &str| {
        if let Some(kept) = kept.as_object_mut() {
            match before.get(field) {
                Some(value) => kept.insert(field.to_owned(), value.clone()),
                None => kept.remove(field),
            };
        }
    };
    if before.text("volumeName").is_empty() {
        keep("volumeName");
    }
    // A claim that waited for a default class may get one later.
    if !before.has("storageClassName") && old.annotation(BETA_CLASS).is_none() {
        keep("storageClassName");
    }
    let bound = new.field("status").text("phase") == "Bound";
    if bound {
        keep("volumeAttributesClassName");
    }
    let size = |spec: &Value| spec.below(&["resources", "requests", "storage"]).clone();
    if bound && let Some(requests) = kept.pointer_mut("/resources/requests/storage") {
        *requests = size(before);
    }
    if !same(&kept, before) {
        errors.forbidden(&path, FROZEN);
    }
    let (wanted, held) = (quantity(&size(after)), quantity(&size(before)));
    if wanted < held && wanted <= quantity(old.below(&["status", "capacity", "storage"])) {
        let (resources, requests) = (path.child("resources"), "requests");
        let requests = resources.child(requests);
        errors.forbidden(&requests.child("storage"), "field can not be less than status.capacity");
    }
    let mode = Path::new("volumeMode");
    metadata::immutable(after.field("volumeMode"), before.field("volumeMode"), &mode, &mut errors);
    let (class, at) = ("volumeAttributesClassName", path.child("volumeAttributesClassName"));
    let is_applied = old.field("status").has("currentVolumeAttributesClassName");
    if is_applied && before.text(class) != after.text(class) && after.text(class).is_empty() {
        let to = if after.has(class) { "empty string" } else { "nil" };
        let detail =
            format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.forbidden(&at, detail);
    }
    errors
}

/// The annotation that named the class before there was a field.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
