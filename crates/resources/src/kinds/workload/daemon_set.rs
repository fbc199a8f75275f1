//! Daemon sets.

use api::{ErrorList, Object, Path};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fields::{Fields, default_text, default_to, object_at, same};
use crate::kinds::{cells, pod};
use crate::report::Report;
use crate::{Part, Strategy, metadata};

/// The behaviour of daemon sets.
pub(in crate::kinds) struct DaemonSet;

/// Where the API keeps the number of the template.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

impl Strategy for DaemonSet {
    fn default(&self, object: &mut Object) {
        let Some(spec) = object_at(object.as_map_mut(), "spec") else { return };
        default_to(spec, "revisionHistoryLimit", 10);
        if let Some(strategy) = object_at(spec, "updateStrategy") {
            default_text(strategy, "type", "RollingUpdate");
            if strategy.text("type") == "RollingUpdate"
                && let Some(rolling) = object_at(strategy, "rollingUpdate")
            {
                default_to(rolling, "maxUnavailable", 1);
                default_to(rolling, "maxSurge", 0);
            }
        }
        if let Some(template) = object_at(spec, "template") {
            pod::defaults::template(template);
        }
    }

    fn prepare_create(&self, object: &mut Object) {
        metadata::first_generation(object);
        object.set_at(&["metadata", "annotations", TEMPLATE_GENERATION], "1");
        object.set(
            "status",
            json!({
                "currentNumberScheduled": 0, "desiredNumberScheduled": 0,
                "numberMisscheduled": 0, "numberReady": 0,
            }),
        );
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        metadata::keep_other_parts(part, new, old);
        if part != Part::Main {
            return;
        }
        metadata::raise_generation(new, old);
        let before: i64 = old.annotation(TEMPLATE_GENERATION).and_then(|one| one.parse().ok()).unwrap_or(1);
        let template = |of: &Object| of.field("spec").field("template").clone();
        let now = before + i64::from(!same(&template(new), &template(old)));
        new.set_at(&["metadata", "annotations", TEMPLATE_GENERATION], now.to_string());
    }

    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let (spec, path) = (object.field("spec"), Path::new("spec"));
        super::selected_template(object, "daemonset", "DaemonSet", &mut errors);
        for field in super::POSITIVE_INT {
            errors.not_negative(spec, field, &path);
        }
        strategy(spec.field("updateStrategy"), &path.child("updateStrategy"), &mut errors);
        errors
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        match part {
            Part::Main => super::fixed_selector(new, old),
            Part::Status => {
                let mut errors = super::counters(
                    new,
                    &[
                        "currentNumberScheduled",
                        "numberMisscheduled",
                        "desiredNumberScheduled",
                        "numberReady",
                        "observedGeneration",
                        "updatedNumberScheduled",
                        "numberAvailable",
                        "numberUnavailable",
                        "collisionCount",
                    ],
                    &[],
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
        let number = |name: &str| Value::from(status.int(name).unwrap_or_default());
        let pod = spec.below(&["template", "spec"]);
        let (names, images) = cells::containers(pod.list("containers"));
        vec![
            object.name().into(),
            number("desiredNumberScheduled"),
            number("currentNumberScheduled"),
            number("numberReady"),
            number("updatedNumberScheduled"),
            number("numberAvailable"),
            cells::labels(pod.field("nodeSelector")).into(),
            metadata::age(object, now).into(),
            names.into(),
            images.into(),
            cells::selector(spec.field("selector")).into(),
        ]
    }
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (rolling, at) = (strategy.field("rollingUpdate"), path.child("rollingUpdate"));
    match strategy.text("type") {
        "OnDelete" => {}
        "RollingUpdate" if rolling.is_null() => errors.required(&at, ""),
        "RollingUpdate" => {
            let unavailable = (rolling.field("maxUnavailable"), at.child("maxUnavailable"));
            let surge = (rolling.field("maxSurge"), at.child("maxSurge"));
            let down = super::int_or_percent(unavailable.0, &unavailable.1, errors);
            let up = super::int_or_percent(surge.0, &surge.1, errors);
            super::at_most_all(unavailable.0, &unavailable.1, errors);
            super::at_most_all(surge.0, &surge.1, errors);
            if down != 0 && up != 0 {
                let detail = "may not be set when maxUnavailable is non-zero";
                errors.invalid(&surge.1, surge.0.clone(), detail);
            } else if down == 0 && up == 0 {
                errors.required(&unavailable.1, "cannot be 0 when maxSurge is 0");
            }
        }
        _ => {
            let allowed = ["RollingUpdate", "OnDelete"];
            let error = api::FieldError::not_supported(path, Value::Null, &allowed);
            errors.add_shown(error, &super::shown_strategy(strategy));
        }
    }
}
