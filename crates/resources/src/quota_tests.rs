use serde_json::json;

use super::*;

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn usage(evaluator: &Evaluator, value: Value) -> Vec<String> {
    let usage = evaluator.measure(&object(value)).usage(now());
    usage.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
}

fn a_pod(changes: Value) -> Value {
    let mut pod = json!({"spec": {"containers": [{"name": "c", "resources": {
        "requests": {"cpu": "1", "memory": "1Gi", "example.com/gpu": "2"}, "limits": {"cpu": "2"},
    }}]}});
    api::patch::merge_patch(&mut pod, changes);
    pod
}

#[test]
fn pods_are_counted_while_they_run() {
    let running = [
        "count/pods=1",
        "cpu=1",
        "limits.cpu=2",
        "memory=1Gi",
        "pods=1",
        "requests.cpu=1",
        "requests.example.com/gpu=2",
        "requests.memory=1Gi",
    ];
    let deleted = |at: &str| json!({"metadata": {"deletionTimestamp": at, "deletionGracePeriodSeconds": 30}});
    let table: [(Value, &[&str]); 5] = [
        (json!({}), &running),
        (json!({"status": {"phase": "Succeeded"}}), &running[..1]),
        (json!({"status": {"phase": "Running"}}), &running),
        (deleted("2026-01-01T00:00:00Z"), &running),
        (deleted("2025-12-31T23:59:00Z"), &running[..1]),
    ];
    for (changes, expected) in table {
        assert_eq!(usage(&Evaluator::Pods, a_pod(changes.clone())), expected, "{changes}");
    }
}

#[test]
fn services_use_node_ports_and_balancers() {
    let table = [
        (json!({"type": "ClusterIP", "ports": [{}]}), 0, 0),
        (json!({"type": "NodePort", "ports": [{}, {}]}), 2, 0),
        (json!({"type": "LoadBalancer", "ports": [{}, {}]}), 2, 1),
        (
            json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"nodePort": 30000}, {}]}),
            1,
            1,
        ),
    ];
    for (spec, ports, balancers) in table {
        let expected = vec![
            "count/services=1".to_owned(),
            "services=1".to_owned(),
            format!("services.loadbalancers={balancers}"),
            format!("services.nodeports={ports}"),
        ];
        assert_eq!(usage(&Evaluator::Services, json!({"spec": spec})), expected);
    }
}

#[test]
fn claims_use_storage_of_their_class() {
    let claim = json!({
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"allocatedResources": {"storage": "2Gi"}},
    });
    assert_eq!(
        usage(&Evaluator::Claims, claim),
        [
            "count/persistentvolumeclaims=1",
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims=1",
            "gold.storageclass.storage.k8s.io/requests.storage=2Gi",
            "persistentvolumeclaims=1",
            "requests.storage=2Gi",
        ]
    );
    let devices = json!({"spec": {"devices": {"requests": [
        {"exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
        {"firstAvailable": [
            {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3},
            {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
        ]},
    ]}}});
    assert_eq!(
        usage(&Evaluator::Devices, devices),
        ["count/resourceclaims.resource.k8s.io=1", "gpu.deviceclass.resource.k8s.io/devices=5"]
    );
}

#[test]
fn names_belong_to_evaluators() {
    let of = |group, resource| Evaluator::of(group, resource).expect("counted");
    let table: [(Evaluator, &[&str], &[&str]); 6] = [
        (
            of("", "pods"),
            &["pods", "limits.cpu", "requests.example.com/gpu", "hugepages-2Mi", "count/pods"],
            &["count/services", "requests.storage", "example.com/gpu"],
        ),
        (of("", "services"), &["services.nodeports", "count/services"], &["pods"]),
        (
            of("", "persistentvolumeclaims"),
            &["requests.storage", "a.storageclass.storage.k8s.io/requests.storage"],
            &["a.storageclass.storage.k8s.io/other", "storage"],
        ),
        (of("", "configmaps"), &["configmaps", "count/configmaps"], &["count/secrets"]),
        (of("apps", "deployments"), &["count/deployments.apps"], &["count/deployments", "deployments"]),
        (of("resource.k8s.io", "resourceclaims"), &["gpu.deviceclass.resource.k8s.io/devices"], &["gpu"]),
    ];
    for (evaluator, yes, no) in table {
        assert!(yes.iter().all(|name| evaluator.counts(name)), "{evaluator:?}");
        assert!(!no.iter().any(|name| evaluator.counts(name)), "{evaluator:?}");
    }
    assert_eq!(Evaluator::of("", "events"), None);
    assert_eq!(Evaluator::of("authorization.k8s.io", "localsubjectaccessreviews"), None);
}

#[test]
fn scopes_select() {
    let pod = |changes: Value| Evaluator::Pods.measure(&object(a_pod(changes)));
    let quota = |spec: Value| Scope::of(&object(json!({"spec": spec})));
    let scope = |name: &str| quota(json!({"scopes": [name]}));
    let class = |operator: &str, values: Value| {
        quota(json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]}}))
    };
    let plain = pod(json!({}));
    let high = pod(json!({"spec": {"priorityClassName": "high", "activeDeadlineSeconds": 5}}));
    let idle = pod(json!({"spec": {"containers": [{"name": "c"}], "affinity": {"podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}}}}));
    let table = [
        (scope("Terminating"), [false, true, false]),
        (scope("NotTerminating"), [true, false, true]),
        (scope("BestEffort"), [false, false, true]),
        (scope("NotBestEffort"), [true, true, false]),
        (scope("CrossNamespacePodAffinity"), [false, false, true]),
        (scope("PriorityClass"), [false, true, false]),
        (scope("VolumeAttributesClass"), [false, false, false]),
        (class("In", json!(["high"])), [false, true, false]),
        (class("NotIn", json!(["high"])), [true, false, true]),
        (class("DoesNotExist", json!([])), [true, false, true]),
        (quota(json!({"scopes": ["Terminating", "BestEffort"]})), [false, false, false]),
        (Vec::new(), [true, true, true]),
    ];
    for (scopes, expected) in table {
        assert_eq!([&plain, &high, &idle].map(|one| one.is_in(&scopes)), expected, "{scopes:?}");
    }
    let claim = Evaluator::Claims.measure(&object(json!({"spec": {"volumeAttributesClassName": "fast"}})));
    assert!(claim.is_in(&scope("VolumeAttributesClass")) && !claim.is_in(&scope("NotTerminating")));
}

#[test]
fn limited_compute_must_be_asked_for() {
    let limited: Vec<String> = ["limits.memory", "cpu", "pods"].map(str::to_owned).into();
    let bare = object(json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}}));
    assert_eq!(
        Evaluator::Pods.demands(&limited, &bare),
        Err("must specify cpu for: a,b; limits.memory for: a,b".to_owned())
    );
    let whole =
        object(json!({"spec": {"resources": {"limits": {"memory": "1Gi"}}, "containers": [{"name": "a"}]}}));
    assert_eq!(Evaluator::Pods.demands(&limited, &whole), Ok(()));
    assert_eq!(Evaluator::Services.demands(&limited, &bare), Ok(()));
}
