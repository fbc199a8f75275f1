//! Namespaces: held by finalizers of their own until they are empty.

use api::{ErrorList, Object, Path};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fields::{Fields, default_text, object_at};
use crate::report::Report;
use crate::{Part, Strategy, metadata, names};

/// The behaviour of namespaces.
pub(super) struct Namespace;

impl Strategy for Namespace {
    fn default(&self, object: &mut Object) {
        let name = object.name().to_owned();
        if !name.is_empty() {
            object.set_at(&["metadata", "labels", "kubernetes.io/metadata.name"], name);
        }
        if let Some(status) = object_at(object.as_map_mut(), "status") {
            default_text(status, "phase", "Active");
        }
    }

    fn prepare_create(&self, object: &mut Object) {
        object.set("status", json!({"phase": "Active"}));
        let mut finalizers = object.field("spec").list("finalizers").to_vec();
        if !finalizers.iter().any(|one| one == "kubernetes") {
            finalizers.push("kubernetes".into());
        }
        object.set_at(&["spec", "finalizers"], finalizers);
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        match part {
            Part::Main => {
                // The finalizers have a subresource of their own.
                metadata::keep_other_parts(part, new, old);
                match old.at(&["spec", "finalizers"]) {
                    Some(list) => new.set_at(&["spec", "finalizers"], list.clone()),
                    None => {
                        new.remove_at(&["spec", "finalizers"]);
                    }
                }
            }
            Part::Other("finalize") => {
                // Everything but the finalizers stays as it is.
                let spec = new.field("spec").clone();
                metadata::keep_other_parts(Part::Main, new, old);
                new.set("spec", if spec.is_null() { json!({}) } else { spec });
            }
            _ => metadata::keep_other_parts(part, new, old),
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        finalizers(object, false)
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, _old: &Object) -> ErrorList {
        match part {
            Part::Status => {
                let mut errors = ErrorList::new();
                let (status, phase) = (Path::new("status"), new.field("status").text("phase"));
                let (wanted, state) =
                    if new.is_terminating() { ("Terminating", "not empty") } else { ("Active", "empty") };
                if phase != wanted {
                    let detail = format!("may only be '{wanted}' if `deletionTimestamp` is {state}");
                    errors.invalid(&status.child("Phase"), phase, detail);
                }
                errors
            }
            Part::Other(_) => finalizers(new, true),
            Part::Main => ErrorList::new(),
        }
    }

    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns_label(name, prefix)
    }

    fn is_held(&self, object: &Object) -> bool {
        !object.field("spec").list("finalizers").is_empty()
    }

    fn prepare_delete(&self, object: &mut Object) {
        object.set_at(&["status", "phase"], "Terminating");
    }

    fn selectable_names(&self) -> Vec<&str> {
        vec!["status.phase"]
    }

    fn selectable(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("status.phase", object.field("status").text("phase").to_owned())]
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            object.field("status").text("phase").into(),
            metadata::age(object, now).into(),
        ]
    }
}

fn finalizers(object: &Object, indexed: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    let path = spec.child("finalizers");
    for (index, name) in object.field("spec").list("finalizers").iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        let at = if indexed { path.index(index) } else { path };
        errors.invalid_all(&at, name, names::qualified(name));
        if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&at, name, detail);
        }
    }
    errors
}
