use serde_json::json;

use super::*;

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn now() -> Timestamp {
    "2026-11-25T00:00:00Z".parse().expect("a time")
}

fn used(resource: &str, value: Value) -> String {
    to_text(&usage("", resource, &object(value), now()))
}

#[test]
fn a_pod_uses_what_its_containers_need_at_most() {
    let resources = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
    let pod = json!({"spec": {
        "containers": [{"resources": resources("1")}, {"resources": resources("500m")}],
        "initContainers": [
            {"resources": resources("200m"), "restartPolicy": "Always"},
            {"resources": resources("3")},
        ],
    }});
    assert_eq!(
        used("pods", pod.clone()),
        "count/pods=1,cpu=3200m,limits.cpu=3200m,pods=1,requests.cpu=3200m"
    );
    let mut whole = pod.clone();
    whole["spec"]["resources"] = resources("2");
    assert_eq!(used("pods", whole), "count/pods=1,cpu=2,limits.cpu=2,pods=1,requests.cpu=2");
    let mut ended = pod;
    ended["status"] = json!({"phase": "Succeeded"});
    assert_eq!(used("pods", ended), "count/pods=1");
    let costly = json!({"spec": {
        "containers": [{"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}],
        "overhead": {"cpu": "100m", "memory": "1Mi"},
    }});
    assert_eq!(
        used("pods", costly),
        "count/pods=1,cpu=1100m,limits.cpu=1100m,memory=1Mi,pods=1,requests.cpu=1100m,requests.memory=1Mi"
    );
    let gpu = json!({"spec": {"containers": [{"resources": {"requests": {"x.io/gpu": "2"}}}]}});
    assert_eq!(used("pods", gpu), "count/pods=1,pods=1,requests.x.io/gpu=2");
}

#[test]
fn services_use_ports_and_claims_storage() {
    let service =
        |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 1}, {"port": 2, "nodePort": 30000}]}});
    assert_eq!(
        used("services", service("ClusterIP")),
        "count/services=1,services=1,services.loadbalancers=0,services.nodeports=0"
    );
    let mut balanced = service("LoadBalancer");
    balanced["spec"]["allocateLoadBalancerNodePorts"] = false.into();
    assert_eq!(
        used("services", balanced),
        "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1"
    );
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(
        used("persistentvolumeclaims", claim),
        "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
         gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"
    );
    assert_eq!(used("secrets", json!({})), "count/secrets=1,secrets=1");
    assert_eq!(to_text(&usage("apps", "deployments", &object(json!({})), now())), "count/deployments.apps=1");
}

#[test]
fn scopes_say_which_pods() {
    let plain = json!({"spec": {"containers": [{}]}});
    let asking = json!({"spec": {
        "containers": [{"resources": {"requests": {"cpu": "1"}}}],
        "priorityClassName": "high", "activeDeadlineSeconds": 5,
    }});
    let selector = |operator: &str, values: Value| {
        let rule = json!({"scopeName": "PriorityClass", "operator": operator, "values": values});
        json!({"scopeSelector": {"matchExpressions": [rule]}})
    };
    let cases = [
        (json!({}), true, true),
        (json!({"scopes": ["BestEffort"]}), true, false),
        (json!({"scopes": ["NotBestEffort"]}), false, true),
        (json!({"scopes": ["Terminating"]}), false, true),
        (json!({"scopes": ["NotTerminating", "BestEffort"]}), true, false),
        (json!({"scopes": ["CrossNamespacePodAffinity"]}), false, false),
        (selector("In", json!(["high"])), false, true),
        (selector("In", json!(["low"])), false, false),
        (selector("NotIn", json!(["high"])), true, false),
        (selector("Exists", json!([])), false, true),
        (selector("DoesNotExist", json!([])), true, false),
    ];
    for (spec, is_plain, is_asking) in cases {
        let hard = json!({"pods": "1"});
        assert_eq!(covers(&spec, &hard, "", "pods", &object(plain.clone())), is_plain, "{spec}");
        assert_eq!(covers(&spec, &hard, "", "pods", &object(asking.clone())), is_asking, "{spec}");
        assert!(!covers(&spec, &hard, "", "secrets", &object(json!({}))), "{spec}");
    }
}

#[test]
fn containers_say_what_is_limited() {
    let pod = object(json!({"spec": {"containers": [
        {"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1"}}},
    ]}}));
    assert_eq!(require_explicit(&pod, &["pods", "requests.storage"]), Ok(()));
    assert_eq!(
        require_explicit(&pod, &["requests.cpu", "limits.memory"]),
        Err("must specify limits.memory for: a,b; requests.cpu for: b".to_owned())
    );
}
