//! Limit ranges, quotas, classes, claims, and the sets that have claims.

use resources::Part;
use serde_json::{Value, json};

use super::{check, update};

const NONE: [&str; 0] = [];

#[test]
fn limit_ranges() {
    let base = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}});
    let limit = |limit: Value| json!({"spec": {"limits": [limit]}});
    check(
        "limitranges",
        &base,
        &[
            (
                limit(json!({"type": "Other"})),
                &[
                    "spec.limits[0].type: Invalid value: \"Other\": must be a standard limit type or fully qualified",
                ],
            ),
            (
                json!({"spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}}),
                &["spec.limits[1].type: Duplicate value: \"Pod\""],
            ),
            (
                limit(json!({"type": "Pod", "default": {"cpu": "1"}})),
                &["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"],
            ),
            (
                limit(json!({"type": "PersistentVolumeClaim"})),
                &[
                    "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
                ],
            ),
            (
                limit(json!({"type": "Pod", "min": {"cpu": "3"}, "max": {"cpu": "2"}})),
                &["spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2"],
            ),
            (
                limit(
                    json!({"type": "Container", "default": {"cpu": "3"}, "defaultRequest": {"cpu": "1"}, "max": {"cpu": "2"}}),
                ),
                &[
                    "spec.limits[0].default[cpu]: Invalid value: \"2\": default value 3 is greater than max value 2",
                ],
            ),
            (
                limit(
                    json!({"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}),
                ),
                &[
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
                ],
            ),
            (
                limit(json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}})),
                &[
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
                ],
            ),
        ],
    );
}

#[test]
fn quotas() {
    let base = json!({"spec": {"hard": {"pods": "10", "count/deployments.apps": "4", "requests.example.com/gpu": "1"}}});
    check(
        "resourcequotas",
        &base,
        &[
            (
                json!({"spec": {"hard": {"storage": "1"}}}),
                &["spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota"],
            ),
            (
                json!({"spec": {"hard": {"pods": "1500m"}}}),
                &["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"],
            ),
            (
                json!({"spec": {"hard": {"pods": "-1"}}}),
                &["spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0"],
            ),
            (
                json!({"spec": {"scopes": ["Terminating", "NotTerminating"]}}),
                &["spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"],
            ),
            (
                json!({"spec": {"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}}),
                &["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"],
            ),
            (
                json!({"spec": {"scopeSelector": {"matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": "In"}]}}}),
                &[
                    "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                ],
            ),
        ],
    );
    assert_eq!(
        update("resourcequotas", Part::Main, &base, json!({"spec": {"scopes": ["Terminating"]}})),
        ["spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"]
    );
    assert_eq!(update("resourcequotas", Part::Main, &base, json!({"spec": {"hard": {"pods": "1"}}})), NONE);
    assert_eq!(
        update("resourcequotas", Part::Status, &base, json!({"status": {"used": {"pods": "-1"}}})),
        ["status.used[pods]: Invalid value: \"-1\": must be greater than or equal to 0"]
    );
}

#[test]
fn runtime_and_storage_classes() {
    let runtime = json!({"handler": "kata"});
    let toleration = json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"});
    check(
        "node.k8s.io/runtimeclasses",
        &runtime,
        &[
            (json!({"handler": null}), &["handler: Required value"]),
            (
                json!({"scheduling": {"tolerations": [toleration, toleration]}}),
                &[
                    "scheduling.tolerations[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\",\"operator\":\"Exists\"}",
                ],
            ),
        ],
    );
    assert_eq!(
        update("node.k8s.io/runtimeclasses", Part::Main, &runtime, json!({"handler": "runc"})),
        ["handler: Invalid value: \"runc\": field is immutable"]
    );
    let storage = json!({"provisioner": "example.com/disk"});
    check(
        "storage.k8s.io/storageclasses",
        &storage,
        &[
            (json!({"provisioner": null}), &["provisioner: Required value"]),
            (
                json!({"reclaimPolicy": "Recycle"}),
                &["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""],
            ),
        ],
    );
    assert_eq!(
        update("storage.k8s.io/storageclasses", Part::Main, &storage, json!({"parameters": {"a": "b"}})),
        ["parameters: Invalid value: {\"a\":\"b\"}: field is immutable"]
    );
}

fn a_claim() -> Value {
    json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
}

#[test]
fn claims() {
    check(
        "persistentvolumeclaims",
        &a_claim(),
        &[
            (
                json!({"spec": {"accessModes": null}}),
                &["spec.accessModes: Required value: at least 1 access mode is required"],
            ),
            (json!({"spec": {"resources": null}}), &["spec.resources[storage]: Required value"]),
            (
                json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadWriteMany"]}}),
                &["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
            ),
        ],
    );
    let grown = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let kind = "persistentvolumeclaims";
    let refused = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    assert_eq!(update(kind, Part::Main, &a_claim(), grown), [refused]);
    assert_eq!(update(kind, Part::Main, &a_claim(), json!({"spec": {"volumeName": "v"}})), NONE);
    assert_eq!(update(kind, Part::Main, &a_claim(), json!({"spec": {"storageClassName": "late"}})), NONE);
}

#[test]
fn sets_mount_their_claims() {
    let labels = json!({"app": "a"});
    let claim = json!({"metadata": {"name": "data"}, "spec": a_claim()["spec"]});
    let base = json!({"spec": {
        "selector": {"matchLabels": labels}, "serviceName": "s", "volumeClaimTemplates": [claim],
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [
            {"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
    }});
    let kind = "apps/statefulsets";
    check(
        kind,
        &base,
        &[
            (
                json!({"spec": {"volumeClaimTemplates": null}}),
                &["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""],
            ),
            (
                json!({"spec": {"podManagementPolicy": "Later"}}),
                &["spec.podManagementPolicy: Invalid value: \"Later\": must be 'OrderedReady' or 'Parallel'"],
            ),
            (
                json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": -1}}}}),
                &[
                    "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}}),
                &["spec.volumeClaimTemplates[0].spec.resources[storage]: Required value"],
            ),
        ],
    );
    assert_eq!(update(kind, Part::Main, &base, json!({"spec": {"replicas": 4}})), NONE);
    let told = update(kind, Part::Main, &base, json!({"spec": {"serviceName": "other"}}));
    assert!(
        told[0].starts_with("spec: Forbidden: updates to statefulset spec for fields other than"),
        "{told:?}"
    );
}
