//! Rules for the metadata that every kind has, following
//! `k8s.io/apimachinery/pkg/api/validation` (`ValidateObjectMeta`).

use api::schema::{Schema, StructId};
use api::{ErrorList, FieldError, Object, Path};
use jiff::Timestamp;
use serde_json::Value;

use crate::fields::{Fields, same};
use crate::{Descriptor, Part, names};

/// The message for a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";
/// The message for a number below zero.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// The largest sum of annotation keys and values, in bytes.
pub const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Rules for the metadata of an object that is created.
#[must_use]
pub fn validate(descriptor: &Descriptor, object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("metadata");
    let name_errors = |name: &str, prefix| descriptor.strategy.name_errors(name, prefix);
    let meta = object.field("metadata");
    let prefix = meta.text("generateName");
    if !prefix.is_empty() {
        invalid_all(&path.child("generateName"), prefix, name_errors(prefix, true), &mut errors);
    }
    let name = meta.text("name");
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name or generateName is required"));
    } else {
        invalid_all(&path.child("name"), name, name_errors(name, false), &mut errors);
    }
    let namespace = meta.text("namespace");
    match (descriptor.namespaced, namespace) {
        (true, "") => errors.push(FieldError::required(&path.child("namespace"), "")),
        (true, _) => {
            invalid_all(&path.child("namespace"), namespace, names::dns_label(namespace, false), &mut errors);
        }
        (false, "") => {}
        (false, _) => {
            errors.push(FieldError::forbidden(&path.child("namespace"), "not allowed on this type"))
        }
    }
    if let Some(generation) = meta.int("generation").filter(|one| *one < 0) {
        errors.push(FieldError::invalid(&path.child("generation"), generation, NOT_NEGATIVE));
    }
    common(meta, &path, &mut errors);
    finalizers(meta, &path.child("finalizers"), &mut errors);
    errors
}

/// Rules for the metadata of an object that is updated.
#[must_use]
pub fn validate_update(_descriptor: &Descriptor, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("metadata");
    let (new, old) = (new.field("metadata"), old.field("metadata"));
    if old.has("deletionTimestamp") {
        let known = old.list("finalizers");
        let mut extra: Vec<&str> = new
            .list("finalizers")
            .iter()
            .filter(|one| !known.contains(one))
            .filter_map(Value::as_str)
            .collect();
        extra.sort_unstable();
        if !extra.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {}",
                go_strings(&extra)
            );
            errors.push(FieldError::forbidden(&path.child("finalizers"), detail));
        }
    }
    if new.text("resourceVersion").is_empty() {
        errors.push(FieldError::invalid(
            &path.child("resourceVersion"),
            "",
            "must be specified for an update",
        ));
    }
    let generation = |of: &Value| of.int("generation").unwrap_or_default();
    if generation(new) < generation(old) {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            generation(new),
            "must not be decremented",
        ));
    }
    for name in ["name", "namespace", "uid"] {
        if new.text(name) != old.text(name) {
            errors.push(FieldError::invalid(&path.child(name), new.text(name), IMMUTABLE));
        }
    }
    for name in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        immutable(new.field(name), old.field(name), &path.child(name), &mut errors);
    }
    common(new, &path, &mut errors);
    errors
}

fn common(meta: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    labels(meta.field("labels"), &path.child("labels"), errors);
    annotations(meta.field("annotations"), &path.child("annotations"), errors);
    owners(meta.list("ownerReferences"), &path.child("ownerReferences"), errors);
}

/// One `Invalid` per message.
pub(crate) fn invalid_all(path: &Path<'_>, value: &str, messages: Vec<String>, errors: &mut ErrorList) {
    errors.extend(messages.into_iter().map(|message| FieldError::invalid(path, value, message)));
}

/// A field that may not change.
pub(crate) fn immutable(new: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if !same(new, old) {
        errors.push(FieldError::invalid(path, new.clone(), IMMUTABLE));
    }
}

/// Rules for labels.
pub(crate) fn labels(labels: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        invalid_all(path, key, names::qualified(key), errors);
        let value = value.as_str().unwrap_or_default();
        invalid_all(path, value, names::label_value(value), errors);
    }
}

/// Rules for annotations.
pub(crate) fn annotations(annotations: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        invalid_all(path, key, names::qualified(&key.to_lowercase()), errors);
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long(path, MAX_ANNOTATIONS));
    }
}

fn owners(owners: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut controller: Option<String> = None;
    for owner in owners {
        let api_version = owner.text("apiVersion");
        if api_version.rsplit('/').next().unwrap_or_default().is_empty() {
            errors.push(FieldError::invalid(
                &path.child("apiVersion"),
                api_version,
                "version must not be empty",
            ));
        }
        for name in ["kind", "name", "uid"] {
            if owner.text(name).is_empty() {
                errors.push(FieldError::invalid(&path.child(name), "", "must not be empty"));
            }
        }
        if api_version == "v1" && owner.text("kind") == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path, owner.clone(), detail));
        }
        if owner.flag("controller") {
            let this = format!("{}/{}", owner.text("kind"), owner.text("name"));
            match &controller {
                Some(first) => errors.push(FieldError::invalid(
                    path,
                    Value::Array(owners.to_vec()),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    ),
                )),
                None => controller = Some(this),
            }
        }
    }
}

fn finalizers(meta: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list: Vec<&str> = meta.list("finalizers").iter().filter_map(Value::as_str).collect();
    for name in &list {
        invalid_all(path, name, names::qualified(name), errors);
    }
    if list.contains(&"orphan") && list.contains(&"foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(path, meta.field("finalizers").clone(), detail));
    }
}

/// A list of texts as Go's `%#v` prints it.
fn go_strings(texts: &[&str]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[]string{{{}}}", quoted.join(", "))
}

/// Keeps from the old object what a write to `part` may not change: the status
/// on a write to the main resource; everything but the status and the metadata
/// on a write to it (the metadata has its own rules, see [`validate_update`]).
pub fn keep_other_parts(part: Part<'_>, new: &mut Object, old: &Object) {
    match part {
        Part::Main => match old.get("status") {
            Some(status) => new.set("status", status.clone()),
            None => {
                new.remove("status");
            }
        },
        Part::Status | Part::Other(_) => {
            new.as_map_mut().retain(|name, _| matches!(name.as_str(), "metadata" | "status"));
            for (name, value) in old.as_map() {
                if !matches!(name.as_str(), "metadata" | "status") {
                    new.set(name, value.clone());
                }
            }
        }
    }
}

/// Keeps metadata fields of the old object.
pub(crate) fn keep_metadata(names: &[&str], new: &mut Object, old: &Object) {
    for name in names {
        match old.at(&["metadata", name]) {
            Some(value) => new.set_at(&["metadata", name], value.clone()),
            None => {
                new.remove_at(&["metadata", name]);
            }
        }
    }
}

/// Empties the status of a new object: what Go writes for one that nobody has
/// reported yet.
pub(crate) fn reset_status(schema: &Schema, shape: StructId, object: &mut Object) {
    object.remove("status");
    // The object conforms already, so filling in what is missing cannot fail.
    let filled = api::schema::conform(schema, shape, object.as_map_mut());
    debug_assert!(filled.is_ok(), "{filled:?}");
}

/// Sets the first generation of an object.
pub(crate) fn first_generation(object: &mut Object) {
    object.set_at(&["metadata", "generation"], 1);
}

/// Raises the generation where any field but metadata and status changed.
pub(crate) fn raise_generation(new: &mut Object, old: &Object) {
    let generation = old.generation();
    let is_desired = |name: &str| !matches!(name, "apiVersion" | "kind" | "metadata" | "status");
    let mut names = new.as_map().keys().chain(old.as_map().keys()).filter(|name| is_desired(name));
    let changed = names.any(|name| !same(new.field(name), old.field(name)));
    let raised = generation + i64::from(changed);
    if raised > 0 {
        new.set_at(&["metadata", "generation"], raised);
    }
}

/// The object's age as tables show it.
#[must_use]
pub fn age(object: &Object, now: Timestamp) -> String {
    since(object.text(&["metadata", "creationTimestamp"]), now)
}

/// How long ago a time was, as tables show it.
#[must_use]
pub(crate) fn since(time: &str, now: Timestamp) -> String {
    match api::time::parse(time) {
        Some(time) => api::time::human_duration(now.as_second() - time.as_second()),
        None => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests;
