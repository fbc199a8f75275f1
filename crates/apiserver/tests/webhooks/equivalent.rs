//! Whoever wants one version of a kind sees writes in the others, unless they say `Exact`.

use base64::Engine as _;
use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

use super::conversion::{DEFINITIONS, V1, V2, convert, definition, v1};
use super::server::Server;

const REGISTRATIONS: &str = "/apis/admissionregistration.k8s.io/v1";
const SCALERS: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";

/// Makes every box nine wide, in the second version's words.
fn answer(path: &str, asked: &Value) -> Value {
    if path == "/convert" {
        return convert(path, asked);
    }
    let patch = json!([{"op": "replace", "path": "/spec/width", "value": 9}]).to_string();
    let patch = base64::engine::general_purpose::STANDARD.encode(patch);
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

async fn made(rest: &Rest, path: &str, object: &Value) -> Value {
    let made = rest.post(path, object).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    made.json()
}

fn registration(server: &Server, policy: Option<&str>) -> Value {
    json!({"metadata": {"name": "widths"}, "webhooks": [{
        "name": "widths.x.io", "clientConfig": server.client_config("/mutate"), "matchPolicy": policy,
        "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "rules": [{"apiGroups": ["x.io"], "apiVersions": ["v2"], "resources": ["boxes"],
            "operations": ["CREATE", "UPDATE"]}],
    }]})
}

/// A policy on one version of a resource, in force at once.
async fn policy(rest: &Rest, name: &str, (group, version, resource): (&str, &str, &str), expression: &str) {
    let rules = json!([{"apiGroups": [group], "apiVersions": [version], "resources": [resource],
        "operations": ["CREATE", "UPDATE"]}]);
    let spec =
        json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": expression}]});
    let policies = format!("{REGISTRATIONS}/validatingadmissionpolicies");
    made(rest, &policies, &json!({"metadata": {"name": name}, "spec": spec})).await;
    let spec = json!({"policyName": name, "validationActions": ["Deny"]});
    let bindings = format!("{REGISTRATIONS}/validatingadmissionpolicybindings");
    made(rest, &bindings, &json!({"metadata": {"name": name}, "spec": spec})).await;
    // A read waits until everything written is seen.
    rest.get(&bindings).await.expect("answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_kinds_are_shown_in_the_version_that_is_wanted() {
    let server = Server::start(answer).await;
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    made(&rest, DEFINITIONS, &definition(&server)).await;
    testkit::eventually("the kind is served", || async {
        rest.get(V2).await.is_ok_and(|answer| answer.code == 200)
    })
    .await
    .expect("in time");
    let hooks = format!("{REGISTRATIONS}/mutatingwebhookconfigurations");
    made(&rest, &hooks, &registration(&server, None)).await;
    rest.get(&hooks).await.expect("answers");

    let admissions = || {
        let asked = server.hook.asked.lock();
        asked.iter().filter(|(path, _)| path == "/mutate").map(|(_, asked)| asked.clone()).collect::<Vec<_>>()
    };
    let made_box = made(&rest, V1, &v1("a", "2x3")).await;
    assert_eq!((&made_box["apiVersion"], &made_box["spec"]), (&json!("x.io/v1"), &json!({"size": "9x3"})));
    let asked = admissions().pop().expect("was asked");
    assert_eq!(asked["kind"]["version"], "v2");
    assert_eq!(asked["resource"]["version"], "v2");
    assert_eq!(asked["requestKind"]["version"], "v1");
    assert_eq!(asked["requestResource"]["version"], "v1");
    assert_eq!(
        (&asked["object"]["apiVersion"], &asked["object"]["spec"]["width"]),
        (&json!("x.io/v2"), &json!(2))
    );
    let changed = rest.merge(&format!("{V1}/a"), &json!({"spec": {"size": "4x5"}})).await.expect("answers");
    assert_eq!(changed.json()["spec"]["size"], "9x5");
    let asked = admissions().pop().expect("was asked");
    assert_eq!(
        (&asked["oldObject"]["spec"]["width"], &asked["object"]["spec"]["width"]),
        (&json!(9), &json!(4))
    );

    policy(&rest, "heights", ("x.io", "v2", "boxes"), "object.spec.height < 10").await;
    let refused = rest.post(V1, &v1("b", "2x11")).await.expect("answers");
    assert_eq!(refused.code, 422, "{}", refused.json());
    assert_eq!(rest.post(V1, &v1("b", "2x9")).await.expect("answers").code, 201);

    let before = admissions().len();
    let exact = json!([{"op": "add", "path": "/webhooks/0/matchPolicy", "value": "Exact"}]).to_string();
    let headers = [("content-type", "application/json-patch+json")];
    let patched = rest.send(http::Method::PATCH, &format!("{hooks}/widths"), &headers, exact).await;
    assert_eq!(patched.expect("answers").code, 200);
    rest.get(&hooks).await.expect("answers");
    assert_eq!(made(&rest, V1, &v1("c", "2x3")).await["spec"]["size"], "2x3");
    assert_eq!(admissions().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_kinds_are_shown_in_the_version_that_is_wanted() {
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    let low = "object.spec.metrics.all(m, m.resource.target.averageUtilization <= 60)";
    policy(&rest, "low", ("autoscaling", "v2", "horizontalpodautoscalers"), low).await;
    let scaler = |name: &str, percent: u32| {
        json!({"metadata": {"name": name}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": percent,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}})
    };
    made(&rest, SCALERS, &scaler("a", 60)).await;
    let refused = rest.post(SCALERS, &scaler("b", 61)).await.expect("answers");
    assert_eq!(refused.code, 422, "{}", refused.json());
}
