//! Pods.

use resources::Part;
use resources::kinds::pod;
use serde_json::{Value, json};

use super::{check, create, kind, made, row, update, updated};

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

fn valid() -> Value {
    json!({"spec": {"containers": [{"name": "c", "image": "busybox"}]}})
}

fn with_container(fields: Value) -> Value {
    let mut container = json!({"name": "c", "image": "busybox"});
    api::patch::merge_patch(&mut container, fields);
    json!({"spec": {"containers": [container]}})
}

#[test]
fn a_pod_gets_what_its_author_left_out() {
    let changes = with_container(json!({
        "image": "registry:5000/app:1.2",
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "0.1234", "memory": "64Mi"}},
        "livenessProbe": {"httpGet": {"port": 80}},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    }));
    let pod = made("pods", &valid(), changes);
    let container = &pod.at(&["spec", "containers"]).expect("containers")[0];
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(container["resources"]["requests"], json!({"cpu": "124m", "memory": "64Mi"}));
    assert_eq!(container["livenessProbe"]["periodSeconds"], 10);
    assert_eq!(container["livenessProbe"]["httpGet"]["scheme"], "HTTP");
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(pod.text(&["spec", "restartPolicy"]), "Always");
    assert_eq!(pod.text(&["spec", "dnsPolicy"]), "ClusterFirst");
    assert_eq!(pod.integer(&["spec", "terminationGracePeriodSeconds"]), Some(30));
    assert_eq!(pod.at(&["spec", "enableServiceLinks"]), Some(&json!(true)));
    assert_eq!(pod.at(&["status"]), Some(&json!({"phase": "Pending", "qosClass": "Guaranteed"})));
    assert_eq!(pod.generation(), 1);
    let latest = made("pods", &valid(), json!({}));
    assert_eq!(latest.at(&["spec", "containers"]).expect("containers")[0]["imagePullPolicy"], "Always");
}

#[test]
fn new_pods_are_judged_as_upstream_judges_them() {
    let name = format!("spec.containers[0].name: Invalid value: \"C\": {LABEL}");
    check(
        "pods",
        &valid(),
        &[
            (json!({"spec": {"containers": []}}), &["spec.containers: Required value"]),
            (with_container(json!({"name": "C"})), &[&name]),
            (with_container(json!({"image": null})), &["spec.containers[0].image: Required value"]),
            (
                json!({"spec": {"containers": [{"name": "c", "image": "a"}, {"name": "c", "image": "b"}]}}),
                &["spec.containers[1].name: Duplicate value: \"c\""],
            ),
            (
                json!({"spec": {"restartPolicy": "Sometimes"}}),
                &[
                    "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                ],
            ),
            (
                with_container(json!({"ports": [{"containerPort": 70000}]})),
                &[
                    "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                with_container(
                    json!({"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}),
                ),
                &[
                    "spec.containers[0].resources.requests: Invalid value: \"2Gi\": must be less than or equal to memory limit of 1Gi",
                ],
            ),
            (
                with_container(json!({"resources": {"limits": {"gpu": "1"}}})),
                &[
                    "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                    "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
                    "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                    "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
                ],
            ),
            (
                with_container(json!({"volumeMounts": [{"name": "x", "mountPath": "/x"}]})),
                &["spec.containers[0].volumeMounts[0].name: Not found: \"x\""],
            ),
            (
                with_container(json!({"livenessProbe": {"periodSeconds": 5}})),
                &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
            ),
            (
                with_container(json!({"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}})),
                &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
            ),
            (
                with_container(json!({"env": [{"name": "A", "valueFrom": {}}]})),
                &[
                    "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                ],
            ),
            (
                with_container(
                    json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
                ),
                &[
                    "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x",
                ],
            ),
        ],
    );
}

#[test]
fn volumes_and_placement_are_judged_as_upstream_judges_them() {
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        api::patch::merge_patch(&mut volume, source);
        json!({"spec": {"volumes": [volume]}})
    };
    check(
        "pods",
        &valid(),
        &[
            (
                volume(json!({"hostPath": {"path": "/a/../b"}})),
                &["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
            ),
            (
                volume(json!({"emptyDir": {}, "secret": {"secretName": "s"}})),
                &["spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type"],
            ),
            (volume(json!({"configMap": {}})), &["spec.volumes[0].configMap.name: Required value"]),
            (
                json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}}),
                &[
                    "spec.tolerations[0].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
                ],
            ),
            (
                json!({"spec": {"activeDeadlineSeconds": 0}}),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                ],
            ),
            (
                json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}}),
                &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
            ),
            (
                json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "X"}]}}),
                &[
                    "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                    "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"X\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
                ],
            ),
            (
                json!({"spec": {"initContainers": [{"name": "i", "image": "i", "lifecycle": {"preStop": {"exec": {"command": ["a"]}}}}]}}),
                &[
                    "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
                ],
            ),
        ],
    );
}

#[test]
fn pods_change_only_where_they_may() {
    let bound =
        json!({"spec": {"containers": [{"name": "c", "image": "busybox"}], "activeDeadlineSeconds": 10}});
    let change = |changes: Value| update("pods", Part::Main, &bound, changes);
    let none: Vec<String> = Vec::new();
    assert_eq!(change(json!({"metadata": {"labels": {"a": "b"}}})), none);
    assert_eq!(
        change(json!({"metadata": {"annotations": {pod::MIRROR: "x"}}})),
        [
            "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set",
            "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation"
        ]
    );
    let old = made("pods", &bound, json!({}));
    let mut containers = old.at(&["spec", "containers"]).expect("containers").clone();
    containers[0]["image"] = "other".into();
    let (new, errors) = updated("pods", Part::Main, &old, json!({"spec": {"containers": containers}}));
    assert_eq!((errors, new.generation()), (none.clone(), 2));
    assert_eq!(
        change(json!({"spec": {"activeDeadlineSeconds": 20}})),
        ["spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value"]
    );
    let errors = change(json!({"spec": {"hostNetwork": true}}));
    assert!(errors[0].starts_with(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
    ), "{errors:?}");
    containers.as_array_mut().expect("list").clear();
    assert!(
        change(json!({"spec": {"containers": containers}}))
            .contains(&"spec.containers: Forbidden: pod updates may not add or remove containers".to_owned())
    );
}

#[test]
fn the_status_has_rules_of_its_own() {
    let old = made("pods", &valid(), json!({}));
    let status = |changes: Value| updated("pods", Part::Status, &old, json!({"status": changes}));
    let (new, errors) =
        status(json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        (new.text(&["status", "phase"]), new.text(&["status", "qosClass"])),
        ("Running", "BestEffort")
    );
    assert_eq!(
        status(json!({"qosClass": "Guaranteed"})).1,
        ["status.qosClass: Invalid value: \"Guaranteed\": field is immutable"]
    );
    assert_eq!(
        status(json!({"podIPs": [{"ip": "x"}]})).1,
        [
            "status.podIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        ]
    );
    let never = made("pods", &valid(), json!({"spec": {"restartPolicy": "Never"}}));
    let ended = json!({"status": {"containerStatuses": [
        {"name": "c", "state": {"terminated": {"exitCode": 1}}}]}});
    let (ended, errors) = updated("pods", Part::Status, &never, ended);
    assert_eq!(errors, Vec::<String>::new());
    let again = json!({"status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}});
    assert_eq!(
        updated("pods", Part::Status, &ended, again).1,
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
}

#[test]
fn containers_are_added_and_resized() {
    let old = made("pods", &valid(), with_container(json!({"resources": {"requests": {"cpu": "1"}}})));
    let part = Part::Other("ephemeralcontainers");
    let added = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}], "hostNetwork": true}});
    let (new, errors) = updated("pods", part, &old, added);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new.at(&["spec", "hostNetwork"]), None);
    let (_, errors) = updated("pods", part, &new, json!({"spec": {"ephemeralContainers": []}}));
    assert_eq!(
        errors,
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed\n"]
    );
    let resized = |fields: Value| {
        let mut container = old.at(&["spec", "containers"]).expect("containers")[0].clone();
        api::patch::merge_patch(&mut container, fields);
        updated("pods", Part::Other("resize"), &old, json!({"spec": {"containers": [container]}}))
    };
    let (new, errors) = resized(json!({"resources": {"requests": {"cpu": "2"}}}));
    assert_eq!((errors, new.generation()), (Vec::new(), 2));
    assert_eq!(
        resized(json!({"image": "other"})).1,
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
    assert_eq!(
        resized(json!({"resources": {"requests": {"cpu": null, "memory": "1Mi"}}})).1,
        ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
    );
}

#[test]
fn grace_follows_where_the_pod_is() {
    let mut pod = made("pods", &valid(), json!({}));
    assert_eq!(pod::grace_seconds(&pod, None), 0);
    pod.set_at(&["spec", "nodeName"], "node");
    assert_eq!(pod::grace_seconds(&pod, None), 30);
    assert_eq!(pod::grace_seconds(&pod, Some(5)), 5);
    assert_eq!(pod::grace_seconds(&pod, Some(-1)), 1);
    pod.set_at(&["status", "phase"], "Succeeded");
    assert_eq!(pod::grace_seconds(&pod, Some(5)), 0);
}

#[test]
fn pods_are_bound_once() {
    let mut pod = made("pods", &valid(), json!({}));
    let binding = |target: Value| api::Object::from_value(json!({"target": target})).expect("binding");
    let good = binding(json!({"kind": "Node", "name": "node"}));
    assert!(pod::validate_binding(&good).is_empty());
    let errors = pod::validate_binding(&binding(json!({"kind": "Pod"})));
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"",
            "target.name: Required value"
        ]
    );
    assert_eq!(pod::binding_conflict(&pod, &good), None);
    pod::bind(&mut pod, &good, "2026-01-01T00:00:00Z".parse().expect("a time"));
    assert_eq!(pod.text(&["spec", "nodeName"]), "node");
    assert_eq!(pod.at(&["status", "conditions"]).expect("conditions")[0]["type"], "PodScheduled");
    assert_eq!(
        pod::binding_conflict(&pod, &good).as_deref(),
        Some("pod a is already assigned to node \"node\"")
    );
}

#[test]
fn rows_read_as_kubectl_shows_them() {
    let base = json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "c"}, {"name": "d"}], "nodeName": "node"}});
    let with = |status: Value| {
        let mut pod = base.clone();
        pod["status"] = status;
        row("pods", pod)[..4].join(" ")
    };
    assert_eq!(with(json!({"phase": "Pending"})), "p 0/2 Pending 0");
    let running = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "c", "ready": true, "restartCount": 2, "state": {"running": {}},
             "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}}},
            {"name": "d", "ready": true, "restartCount": 0, "state": {"running": {}}}]});
    assert_eq!(with(running), "p 2/2 Running 2 (5m ago)");
    let looping = json!({"phase": "Running", "containerStatuses": [
        {"name": "c", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
    assert_eq!(with(looping), "p 0/2 CrashLoopBackOff 3");
    let done = json!({"phase": "Succeeded", "containerStatuses": [
        {"name": "c", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]});
    assert_eq!(with(done), "p 0/2 Completed 0");
    let failed = json!({"phase": "Failed", "containerStatuses": [
        {"name": "c", "state": {"terminated": {"exitCode": 3}}}]});
    assert_eq!(with(failed), "p 0/2 ExitCode:3 0");
    let mut starting = base.clone();
    starting["spec"]["initContainers"] = json!([{"name": "i"}, {"name": "j"}]);
    starting["status"] = json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]});
    assert_eq!(row("pods", starting.clone())[2], "Init:1/2");
    starting["metadata"]["deletionTimestamp"] = "2026-01-01T00:30:00Z".into();
    let cells = row("pods", starting);
    assert_eq!((cells[2].as_str(), cells[4].as_str(), cells[6].as_str()), ("Terminating", "60m", "node"));
}

#[test]
fn fields_can_be_selected() {
    let pod = made("pods", &valid(), json!({"spec": {"nodeName": "node"}}));
    let kind = kind("pods");
    let found = kind.strategy.selectable(&pod);
    assert!(found.contains(&("spec.nodeName", "node".to_owned())));
    assert!(found.contains(&("status.phase", "Pending".to_owned())));
    assert!(create("pods", &valid(), json!({"metadata": {"name": "a.b"}})).is_empty());
}
