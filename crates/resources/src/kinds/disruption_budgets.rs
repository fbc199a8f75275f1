//! Rules for pod disruption budgets (`ValidatePodDisruptionBudget`).

use api::{ErrorList, Object, Path};

use super::pod::scheduling::label_selector;
use super::workload::{at_most_all, int_or_percent};
use crate::Part;
use crate::fields::Fields;
use crate::report::Report;

const COUNTERS: [&str; 4] = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];

/// Rules for a budget by itself.
pub(super) fn budget(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.invalid(&path, spec.clone(), detail);
    }
    for field in ["minAvailable", "maxUnavailable"].into_iter().filter(|field| spec.has(field)) {
        let at = path.child(field);
        int_or_percent(spec.field(field), &at, &mut errors);
        at_most_all(spec.field(field), &at, &mut errors);
    }
    label_selector(spec.field("selector"), &path.child("selector"), &mut errors);
    let field = "unhealthyPodEvictionPolicy";
    if spec.has(field) {
        errors.one_of(&path.child(field), spec.text(field), &["AlwaysAllow", "IfHealthyBudget"]);
    }
    errors
}

/// Rules for a change: the counters of a status.
pub(super) fn budget_update(part: Part<'_>, new: &Object, _old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if part == Part::Status {
        for field in COUNTERS {
            errors.not_negative(new.field("status"), field, &Path::new("status"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn budgets() {
        let told = |spec: Value| {
            let object = Object::from_value(json!({"spec": spec})).expect("an object");
            budget(&object).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for good in [
            json!({}),
            json!({"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}),
            json!({"maxUnavailable": "50%", "unhealthyPodEvictionPolicy": "AlwaysAllow"}),
        ] {
            assert_eq!(told(good), Vec::<String>::new());
        }
        let both = told(json!({"minAvailable": 1, "maxUnavailable": 1}));
        assert!(both[0].ends_with("minAvailable and maxUnavailable cannot be both set"), "{both:?}");
        for (spec, expected) in [
            (
                json!({"minAvailable": -1}),
                "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"maxUnavailable": "101%"}),
                "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                json!({"unhealthyPodEvictionPolicy": "Never"}),
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ),
        ] {
            assert_eq!(told(spec), [expected]);
        }
        let status = Object::from_value(json!({"status": {"currentHealthy": -1}})).expect("an object");
        assert_eq!(budget_update(Part::Status, &status, &status).len(), 1);
        assert!(budget_update(Part::Main, &status, &status).is_empty());
    }
}
