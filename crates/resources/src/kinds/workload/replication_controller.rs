//! Replication controllers.

use api::{ErrorList, Object, Path};

use crate::Part;
use crate::fields::{Fields, is_empty};
use crate::kinds::pod::spec;
use crate::report::Report;

/// Rules for a controller by itself (`ValidateReplicationController`).
pub(in crate::kinds) fn replication_controller(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (of, path) = (object.field("spec"), Path::new("spec"));
    errors.not_negative(of, "minReadySeconds", &path);
    let selector = of.field("selector");
    if is_empty(selector) {
        errors.required(&path.child("selector"), "");
    }
    if of.has("replicas") {
        errors.not_negative(of, "replicas", &path);
    } else {
        errors.required(&path.child("replicas"), "");
    }
    let (template, at) = (of.field("template"), path.child("template"));
    if template.is_null() {
        errors.required(&at, "");
        return errors;
    }
    let labels = template.below(&["metadata", "labels"]);
    if selector.as_object().into_iter().flatten().any(|(key, value)| labels.field(key) != value) {
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&at.child("metadata").child("labels"), labels.clone(), detail);
    }
    spec::validate_template(template, &at, &mut errors);
    super::runs_forever(template.field("spec"), "ReplicationController", &at.child("spec"), &mut errors);
    errors
}

/// Rules for a change: the counters of a status.
pub(in crate::kinds) fn replication_controller_update(
    part: Part<'_>,
    new: &Object,
    _old: &Object,
) -> ErrorList {
    const MORE: &str = "cannot be greater than status.replicas";
    if part != Part::Status {
        return ErrorList::new();
    }
    super::counters(
        new,
        &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"],
        &[
            ("fullyLabeledReplicas", "replicas", MORE),
            ("readyReplicas", "replicas", MORE),
            ("availableReplicas", "replicas", MORE),
            ("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas"),
        ],
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn controllers() {
        let told = |change: Value| {
            let mut value = json!({
                "spec": {
                    "replicas": 1, "selector": {"a": "b"},
                    "template": {
                        "metadata": {"labels": {"a": "b", "c": "d"}},
                        "spec": {"containers": [{"name": "c", "image": "i"}]},
                    },
                },
            });
            api::patch::merge_patch(&mut value["spec"], change);
            let mut object = Object::from_value(value).expect("an object");
            crate::kinds::defaults::replication_controller(&mut object);
            replication_controller(&object).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(json!({})), Vec::<String>::new());
        for (change, expected) in [
            (json!({"replicas": -1}), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
            (
                json!({"selector": {"a": "x"}}),
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\",\"c\":\"d\"}: `selector` does not match template `labels`",
            ),
            (
                json!({"template": {"spec": {"restartPolicy": "Never"}}}),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                json!({"template": {"spec": {"activeDeadlineSeconds": 5}}}),
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported",
            ),
        ] {
            assert_eq!(told(change), [expected]);
        }
    }
}
