//! The built-in admission plugins, through REST.

use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn plane() -> (ControlPlane, Rest) {
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    create(&rest, "/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}}))
        .await;
    (plane, rest)
}

/// Creates an object and waits until the server's cache has it.
async fn create(rest: &Rest, at: &str, object: Value) -> Value {
    let made = rest.post(at, &object).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    let name = made.json()["metadata"]["name"].as_str().expect("a name").to_owned();
    assert_eq!(rest.get(&format!("{at}/{name}")).await.expect("answers").code, 200);
    made.json()
}

/// The message of a refusal.
async fn refused(rest: &Rest, at: &str, object: Value, code: u16) -> String {
    let answer = rest.post(at, &object).await.expect("answers");
    assert_eq!(answer.code, code, "{}", answer.json());
    answer.json()["message"].as_str().expect("a message").to_owned()
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_become_priorities() {
    let (mut plane, rest) = plane().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let made = create(&rest, PODS, pod("none", json!({}))).await;
    assert_eq!(
        (&made["spec"]["priority"], &made["spec"]["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    let made = create(&rest, PODS, pod("node", json!({"priorityClassName": "system-node-critical"}))).await;
    assert_eq!(made["spec"]["priority"], 2_000_001_000);
    let class = json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true, "preemptionPolicy": "Never"});
    create(&rest, classes, class).await;
    let made = create(&rest, PODS, pod("usual", json!({}))).await;
    assert_eq!(
        (&made["spec"]["priorityClassName"], &made["spec"]["priority"], &made["spec"]["preemptionPolicy"]),
        (&json!("usual"), &json!(7), &json!("Never"))
    );
    let cases = [
        (
            classes,
            json!({"metadata": {"name": "b"}, "value": 1, "globalDefault": true}),
            403,
            "priorityclasses.scheduling.k8s.io \"b\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist",
        ),
        (
            classes,
            json!({"metadata": {"name": "b"}, "value": 1_000_000_001}),
            422,
            "PriorityClass.scheduling.k8s.io \"b\" is invalid: value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            PODS,
            pod("p", json!({"priorityClassName": "x"})),
            403,
            "pods \"p\" is forbidden: no PriorityClass with name x was found",
        ),
    ];
    for (at, object, code, expected) in cases {
        assert_eq!(refused(&rest, at, object, code).await, expected);
    }
    plane.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_ranges_fill_in_and_refuse() {
    let (mut plane, rest) = plane().await;
    let limits = json!([
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    ]);
    let range = json!({"metadata": {"name": "limits"}, "spec": {"limits": limits}});
    create(&rest, "/api/v1/namespaces/default/limitranges", range).await;
    let made = create(&rest, PODS, pod("small", json!({}))).await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(made["status"]["qosClass"], "Burstable", "it follows from what was filled in");
    let large = json!([{"name": "c", "image": "i", "resources": {"limits": {"cpu": "2"}}}]);
    assert_eq!(
        refused(&rest, PODS, pod("large", json!({"containers": large})), 403).await,
        "pods \"large\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
    let claim = json!({"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}},
    }});
    assert_eq!(
        refused(&rest, "/api/v1/namespaces/default/persistentvolumeclaims", claim, 403).await,
        "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, \
         but request is 2Gi"
    );
    plane.stop().await.expect("stops");
}
