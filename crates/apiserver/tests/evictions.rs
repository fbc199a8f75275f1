//! Evictions, and the budgets that allow them.

use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn runs(rest: &Rest, name: &str, is_ready: bool) {
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}, "finalizers": ["example.com/keep"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    assert_eq!(rest.post(PODS, &pod).await.expect("answers").code, 201);
    let ready = if is_ready { "True" } else { "False" };
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    let told = rest.merge(&format!("{PODS}/{name}/status"), &status).await.expect("answers");
    assert_eq!(told.code, 200, "{}", told.json());
}

async fn allows(rest: &Rest, status: Value) {
    let told = rest.merge(&format!("{BUDGETS}/b/status"), &json!({"status": status})).await.expect("answers");
    assert_eq!(told.code, 200, "{}", told.json());
}

/// Evicts, and gives the code and the cause of a refusal.
async fn evicted(rest: &Rest, name: &str, query: &str) -> (u16, String) {
    let eviction = json!({"metadata": {"name": name}});
    let answer = rest.post(&format!("{PODS}/{name}/eviction{query}"), &eviction).await.expect("answers");
    let told = answer.json();
    (answer.code, told["details"]["causes"][0]["message"].as_str().unwrap_or_default().to_owned())
}

async fn is_going(rest: &Rest, name: &str) -> bool {
    let pod = rest.get(&format!("{PODS}/{name}")).await.expect("answers").json();
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is_told = conditions
        .iter()
        .any(|one| one["type"] == "DisruptionTarget" && one["reason"] == "EvictionByEvictionAPI");
    assert_eq!(is_told, pod["metadata"]["deletionTimestamp"].is_string(), "{pod}");
    is_told
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_allow_evictions() {
    let mut plane =
        ControlPlane::start_with(|_| vec!["--disable-admission-plugins=ServiceAccount".to_owned()])
            .await
            .expect("control plane");
    let rest = plane.rest().expect("client");
    let budget = json!({
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
    });
    assert_eq!(rest.post(BUDGETS, &budget).await.expect("answers").code, 201);
    for (name, is_ready) in [("p0", true), ("p1", true), ("ill", false)] {
        runs(&rest, name, is_ready).await;
    }
    // Nobody has looked at the budget.
    let unseen = "The disruption budget b is still being processed by the server.";
    assert_eq!(evicted(&rest, "p0", "").await, (429, unseen.to_owned()));
    let none = json!({
        "observedGeneration": 1, "currentHealthy": 2, "desiredHealthy": 2, "expectedPods": 3, "disruptionsAllowed": 0,
    });
    allows(&rest, none).await;
    let needs = "The disruption budget b needs 2 healthy pods and has 2 currently";
    assert_eq!(evicted(&rest, "p0", "").await, (429, needs.to_owned()));
    assert!(!is_going(&rest, "p0").await);
    // Who is not healthy costs nothing.
    assert_eq!(evicted(&rest, "ill", "").await.0, 201);
    assert!(is_going(&rest, "ill").await);

    allows(&rest, json!({"currentHealthy": 3, "disruptionsAllowed": 1})).await;
    assert_eq!(evicted(&rest, "p0", "?dryRun=All").await.0, 201);
    assert!(!is_going(&rest, "p0").await, "a dry run changes nothing");
    assert_eq!(evicted(&rest, "p0", "").await.0, 201);
    assert!(is_going(&rest, "p0").await);
    let charged = rest.get(&format!("{BUDGETS}/b")).await.expect("answers").json();
    assert_eq!(charged["status"]["disruptionsAllowed"], 0);
    assert!(charged["status"]["disruptedPods"]["p0"].is_string(), "{charged}");
    assert_eq!(evicted(&rest, "p1", "").await.0, 429);

    let mut second = budget.clone();
    second["metadata"]["name"] = "c".into();
    assert_eq!(rest.post(BUDGETS, &second).await.expect("answers").code, 201);
    assert_eq!(evicted(&rest, "p1", "").await.0, 500, "two budgets at once");
    plane.stop().await.expect("stops");
}
