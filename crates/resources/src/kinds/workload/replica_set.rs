//! Replica sets.

use api::{ErrorList, Object, Path};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fields::{Fields, default_to, object_at};
use crate::kinds::{cells, pod};
use crate::report::Report;
use crate::{Part, Strategy, metadata};

/// The behaviour of replica sets.
pub(in crate::kinds) struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Object) {
        let Some(spec) = object_at(object.as_map_mut(), "spec") else { return };
        default_to(spec, "replicas", 1);
        if let Some(template) = object_at(spec, "template") {
            pod::defaults::template(template);
        }
    }

    fn prepare_create(&self, object: &mut Object) {
        metadata::first_generation(object);
        object.set("status", json!({"replicas": 0}));
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        metadata::keep_other_parts(part, new, old);
        if part == Part::Main {
            metadata::raise_generation(new, old);
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let (spec, path) = (object.field("spec"), Path::new("spec"));
        errors.not_negative(spec, "replicas", &path);
        errors.not_negative(spec, "minReadySeconds", &path);
        super::selected_template(object, "deployment", "ReplicaSet", &mut errors);
        errors
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        const MORE: &str = "cannot be greater than status.replicas";
        match part {
            Part::Main => super::fixed_selector(new, old),
            Part::Status => super::counters(
                new,
                &[
                    "replicas",
                    "fullyLabeledReplicas",
                    "readyReplicas",
                    "availableReplicas",
                    "observedGeneration",
                    "terminatingReplicas",
                ],
                &[
                    ("fullyLabeledReplicas", "replicas", MORE),
                    ("readyReplicas", "replicas", MORE),
                    ("availableReplicas", "replicas", MORE),
                    ("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas"),
                ],
            ),
            Part::Other(_) => ErrorList::new(),
        }
    }

    fn warnings(&self, new: &Object, old: Option<&Object>) -> Vec<String> {
        super::template_warnings(new, old)
    }

    fn selectable_names(&self) -> Vec<&str> {
        vec!["status.replicas"]
    }

    fn selectable(&self, object: &Object) -> Vec<(&'static str, String)> {
        let replicas = object.field("status").int("replicas").unwrap_or_default();
        vec![("status.replicas", replicas.to_string())]
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.field("spec"), object.field("status"));
        let number = |of: &Value, name: &str| of.int(name).unwrap_or_default();
        let (names, images) = cells::containers(spec.below(&["template", "spec"]).list("containers"));
        vec![
            object.name().into(),
            number(spec, "replicas").into(),
            number(status, "replicas").into(),
            number(status, "readyReplicas").into(),
            metadata::age(object, now).into(),
            names.into(),
            images.into(),
            cells::selector(spec.field("selector")).into(),
        ]
    }
}
