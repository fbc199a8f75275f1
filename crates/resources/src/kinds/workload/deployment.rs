//! Deployments.

use api::{ErrorList, Object, Path};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fields::{Fields, default_text, default_to, object_at};
use crate::kinds::{cells, pod};
use crate::report::Report;
use crate::{Part, Strategy, metadata};

/// The behaviour of deployments.
pub(in crate::kinds) struct Deployment;

impl Strategy for Deployment {
    fn default(&self, object: &mut Object) {
        let Some(spec) = object_at(object.as_map_mut(), "spec") else { return };
        default_to(spec, "replicas", 1);
        default_to(spec, "revisionHistoryLimit", 10);
        default_to(spec, "progressDeadlineSeconds", 600);
        if let Some(strategy) = object_at(spec, "strategy") {
            default_text(strategy, "type", "RollingUpdate");
            if strategy.text("type") == "RollingUpdate"
                && let Some(rolling) = object_at(strategy, "rollingUpdate")
            {
                default_to(rolling, "maxUnavailable", "25%");
                default_to(rolling, "maxSurge", "25%");
            }
        }
        if let Some(template) = object_at(spec, "template") {
            pod::defaults::template(template);
        }
    }

    fn prepare_create(&self, object: &mut Object) {
        metadata::first_generation(object);
        object.set("status", json!({}));
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        metadata::keep_other_parts(part, new, old);
        match part {
            Part::Main => {
                metadata::raise_generation(new, old);
                // A changed annotation is news to the controller, too: it copies
                // them to the replica set.
                let annotations = |of: &Object| of.annotations().cloned().unwrap_or_default();
                if new.generation() == old.generation() && annotations(new) != annotations(old) {
                    new.set_at(&["metadata", "generation"], old.generation() + 1);
                }
            }
            Part::Status => metadata::keep_metadata(&["labels"], new, old),
            Part::Other(_) => {}
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let (spec, path) = (object.field("spec"), Path::new("spec"));
        errors.not_negative(spec, "replicas", &path);
        super::selected_template(object, "deployment", "ReplicaSet", &mut errors);
        strategy(spec.field("strategy"), &path.child("strategy"), &mut errors);
        for field in super::POSITIVE_INT {
            errors.not_negative(spec, field, &path);
        }
        errors.not_negative(spec, "progressDeadlineSeconds", &path);
        if let Some(seconds) = spec.int("progressDeadlineSeconds")
            && seconds <= spec.int("minReadySeconds").unwrap_or_default()
        {
            let detail = "must be greater than minReadySeconds";
            errors.invalid(&path.child("progressDeadlineSeconds"), seconds, detail);
        }
        errors
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        const MORE: &str = "cannot be greater than status.replicas";
        match part {
            Part::Main => super::fixed_selector(new, old),
            Part::Status => {
                let mut errors = super::counters(
                    new,
                    &[
                        "observedGeneration",
                        "replicas",
                        "updatedReplicas",
                        "readyReplicas",
                        "availableReplicas",
                        "unavailableReplicas",
                        "terminatingReplicas",
                        "collisionCount",
                    ],
                    &[
                        ("updatedReplicas", "replicas", MORE),
                        ("readyReplicas", "replicas", MORE),
                        ("availableReplicas", "replicas", MORE),
                        ("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas"),
                    ],
                );
                super::collisions(new, old, &mut errors);
                errors
            }
            Part::Other(_) => ErrorList::new(),
        }
    }

    fn warnings(&self, new: &Object, old: Option<&Object>) -> Vec<String> {
        super::template_warnings(new, old)
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.field("spec"), object.field("status"));
        let number = |of: &Value, name: &str| of.int(name).unwrap_or_default();
        let (names, images) = cells::containers(spec.below(&["template", "spec"]).list("containers"));
        vec![
            object.name().into(),
            format!("{}/{}", number(status, "readyReplicas"), number(spec, "replicas")).into(),
            number(status, "updatedReplicas").into(),
            number(status, "availableReplicas").into(),
            metadata::age(object, now).into(),
            names.into(),
            images.into(),
            cells::selector_text(spec.field("selector")).unwrap_or_else(|| "<invalid>".into()).into(),
        ]
    }
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (rolling, at) = (strategy.field("rollingUpdate"), path.child("rollingUpdate"));
    match strategy.text("type") {
        "Recreate" => {
            if !rolling.is_null() {
                errors.forbidden(&at, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" if rolling.is_null() => {
            errors.required(&at, "this should be defaulted and never be nil");
        }
        "RollingUpdate" => {
            let value = rolling.field("maxUnavailable");
            let unavailable = super::int_or_percent(value, &at.child("maxUnavailable"), errors);
            let surge = super::int_or_percent(rolling.field("maxSurge"), &at.child("maxSurge"), errors);
            if unavailable == 0 && surge == 0 {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.invalid(&at.child("maxUnavailable"), value.clone(), detail);
            }
            super::at_most_all(value, &at.child("maxUnavailable"), errors);
        }
        _ => {
            let allowed = ["Recreate", "RollingUpdate"];
            let error = api::FieldError::not_supported(path, Value::Null, &allowed);
            errors.add_shown(error, &super::shown_strategy(strategy));
        }
    }
}
