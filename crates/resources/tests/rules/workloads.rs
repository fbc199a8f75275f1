//! Deployments, replica sets, daemon sets and jobs.

use resources::Part;
use serde_json::{Value, json};

use super::{check, made, row, update, updated};

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn workload() -> Value {
    json!({"spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template()}})
}

fn job() -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = "Never".into();
    json!({"spec": {"template": template}})
}

#[test]
fn deployments() {
    let made = made("apps/deployments", &workload(), json!({}));
    assert_eq!(made.integer(&["spec", "replicas"]), Some(1));
    assert_eq!(
        made.at(&["spec", "strategy"]),
        Some(
            &json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        )
    );
    assert_eq!(made.integer(&["spec", "progressDeadlineSeconds"]), Some(600));
    assert_eq!(made.generation(), 1);
    check(
        "apps/deployments",
        &workload(),
        &[
            (
                json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                ],
            ),
            (json!({"spec": {"selector": null}}), &["spec.selector: Required value"]),
            (
                json!({"spec": {"replicas": -1}}),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                json!({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}}),
                &[
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ],
            ),
            (
                json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}}),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
                ],
            ),
            (
                json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}}),
                &[
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ],
            ),
            (
                json!({"spec": {"strategy": {"type": "X"}}}),
                &[
                    "spec.strategy: Unsupported value: {\"Type\":\"X\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\"",
                ],
            ),
            (
                json!({"spec": {"minReadySeconds": 600}}),
                &["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"],
            ),
        ],
    );
    let changed = json!({"spec": {"selector": {"matchLabels": {"tier": "x"}},
        "template": {"metadata": {"labels": {"tier": "x"}}}}});
    assert_eq!(
        update("apps/deployments", Part::Main, &workload(), changed),
        [
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"tier\":\"x\"}}: field is immutable"
        ]
    );
    let (new, errors) = updated("apps/deployments", Part::Main, &made, json!({"spec": {"replicas": 3}}));
    assert_eq!((new.generation(), errors), (2, Vec::new()));
    let (new, _) = updated("apps/deployments", Part::Main, &made, json!({"status": {"replicas": 3}}));
    assert_eq!((new.generation(), new.integer(&["status", "replicas"])), (1, None));
    assert_eq!(
        update(
            "apps/deployments",
            Part::Status,
            &workload(),
            json!({"status": {"replicas": 1, "readyReplicas": 2}})
        ),
        ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]
    );
}

#[test]
fn deployment_rows() {
    let object = json!({"metadata": {"name": "web", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template()},
        "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}});
    assert_eq!(row("apps/deployments", object), ["web", "2/3", "3", "2", "60m", "c", "i:1", "app=web"]);
}

#[test]
fn replica_sets() {
    check(
        "apps/replicasets",
        &workload(),
        &[(
            json!({"spec": {"selector": {"matchLabels": {"app": null}}}}),
            &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        )],
    );
    assert_eq!(
        update(
            "apps/replicasets",
            Part::Status,
            &workload(),
            json!({"status": {"replicas": 1, "availableReplicas": 1}})
        ),
        ["status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas"]
    );
}

#[test]
fn daemon_sets() {
    let made = made("apps/daemonsets", &workload(), json!({}));
    assert_eq!(made.annotation("deprecated.daemonset.template.generation"), Some("1"));
    let changes = json!({"spec": {"template": {"metadata": {"labels": {"v": "2"}}}}});
    let (new, errors) = updated("apps/daemonsets", Part::Main, &made, changes);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new.annotation("deprecated.daemonset.template.generation"), Some("2"));
    check(
        "apps/daemonsets",
        &workload(),
        &[
            (
                json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}}}),
                &[
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
                ],
            ),
            (
                json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}}),
                &[
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
                ],
            ),
        ],
    );
}

#[test]
fn jobs() {
    let made = made("batch/jobs", &job(), json!({}));
    assert_eq!(made.integer(&["spec", "completions"]), Some(1));
    assert_eq!(made.integer(&["spec", "backoffLimit"]), Some(6));
    assert_eq!(made.text(&["spec", "podReplacementPolicy"]), "TerminatingOrFailed");
    assert_eq!(
        made.at(&["spec", "selector"]),
        Some(&json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}))
    );
    assert_eq!(made.at(&["spec", "template", "metadata", "labels", "job-name"]), Some(&json!("a")));
    check(
        "batch/jobs",
        &job(),
        &[
            (
                json!({"spec": {"template": {"spec": {"restartPolicy": "Always"}}}}),
                &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
            ),
            (
                json!({"spec": {"completionMode": "Indexed", "parallelism": 1}}),
                &["spec.completions: Required value: when completion mode is Indexed"],
            ),
            (
                json!({"spec": {"template": {"metadata": {"labels": {"controller-uid": "x"}}}}}),
                &[
                    "spec.template.metadata.labels[controller-uid]: Invalid value: {\"app\":\"web\",\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"a\",\"controller-uid\":\"x\",\"job-name\":\"a\"}: must be 'u'",
                ],
            ),
        ],
    );
    assert_eq!(
        update("batch/jobs", Part::Main, &job(), json!({"spec": {"completions": 5}})),
        ["spec.completions: Invalid value: 5: field is immutable"]
    );
    assert_eq!(
        update("batch/jobs", Part::Main, &job(), json!({"spec": {"parallelism": 5}})),
        Vec::<String>::new()
    );
    let changes = json!({"status": {"conditions": [
        {"type": "Complete", "status": "True"}, {"type": "Failed", "status": "True"}]}});
    assert_eq!(
        update("batch/jobs", Part::Status, &job(), changes),
        ["status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions"]
    );
    let done = json!({"metadata": {"name": "j", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"completions": 1, "template": template()},
        "status": {"succeeded": 1, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:07Z",
            "conditions": [{"type": "Complete", "status": "True"}]}});
    assert_eq!(row("batch/jobs", done)[..5], ["j", "Complete", "1/1", "7s", "60m"]);
}

#[test]
fn workloads_of_the_generic_path() {
    check(
        "apps/statefulsets",
        &workload(),
        &[(json!({"spec": {"selector": null}}), &["spec.selector: Required value"])],
    );
    let mut claims = workload();
    claims["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }}]);
    let mounting = |name: &str| {
        let containers =
            json!([{"name": "c", "image": "i:1", "volumeMounts": [{"name": name, "mountPath": "/d"}]}]);
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    };
    check(
        "apps/statefulsets",
        &claims,
        &[
            (mounting("data"), &[]),
            (
                mounting("other"),
                &["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\""],
            ),
        ],
    );
    let set = made("apps/statefulsets", &workload(), json!({"status": {"replicas": 9}}));
    assert_eq!(set.get("status"), Some(&json!({"replicas": 0, "availableReplicas": 0})));
    assert_eq!(set.text(&["spec", "podManagementPolicy"]), "OrderedReady");
    let cron = json!({"spec": {"schedule": "* * * * *", "jobTemplate": job()}});
    check(
        "batch/cronjobs",
        &cron,
        &[
            (json!({"spec": {"schedule": null}}), &["spec.schedule: Required value"]),
            (
                json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": null}}}}}}),
                &[
                    "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
                ],
            ),
        ],
    );
}

#[test]
fn templates_are_advised_on_once() {
    let changes =
        json!({"spec": {"template": {"spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}}}});
    let made = made("apps/deployments", &workload(), changes);
    let strategy = super::kind("apps/deployments").strategy.clone();
    assert_eq!(
        strategy.warnings(&made, None),
        [
            "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead"
        ]
    );
    assert!(strategy.warnings(&made, Some(&made)).is_empty());
}
