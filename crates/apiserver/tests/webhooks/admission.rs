//! Admission webhooks: they change, refuse, fail and are matched.

use http::Method;
use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

use super::server::Server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

fn webhook(server: &Server, name: &str, path: &str, more: Value) -> Value {
    let mut webhook = json!({
        "name": format!("{name}.x.io"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": server.client_config(path),
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        webhook[key] = value.clone();
    }
    webhook
}

async fn plane() -> (ControlPlane, Rest) {
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    (plane, rest)
}

async fn register(rest: &Rest, at: &str, name: &str, webhooks: Vec<Value>) {
    let made =
        rest.post(at, &json!({"metadata": {"name": name}, "webhooks": webhooks})).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    settle(rest, at).await;
}

/// Admission reads from the watch cache, and a consistent list waits for it.
async fn settle(rest: &Rest, at: &str) {
    assert_eq!(rest.get(at).await.expect("answers").code, 200, "{at}");
}

fn patch(operations: Value) -> Value {
    use base64::Engine as _;
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "b"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_change_and_refuse() {
    let server = Server::start(|path, asked| match path {
        "/first" => patch(json!([{"op": "add", "path": "/data/first", "value": "1"}])),
        // It sees what the first one did, and the first one sees it again.
        "/second"
            if asked["object"]["data"]["first"] == "1" && asked["object"]["data"]["second"].is_null() =>
        {
            patch(json!([{"op": "add", "path": "/data/second", "value": "2"}]))
        }
        "/judge" if asked["object"]["data"]["bad"] == "yes" => {
            json!({"allowed": false, "status": {"message": "bad is bad", "code": 403}})
        }
        "/judge" => json!({"allowed": true, "warnings": ["look out"]}),
        _ => json!({"allowed": true}),
    })
    .await;
    let (_plane, rest) = plane().await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    register(&rest, MUTATING, "b", vec![webhook(&server, "second", "/second", json!({}))]).await;
    register(&rest, MUTATING, "a", vec![webhook(&server, "first", "/first", again)]).await;
    register(&rest, VALIDATING, "v", vec![webhook(&server, "judge", "/judge", json!({}))]).await;
    let made = rest.post(MAPS, &map("m")).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    assert_eq!(made.json()["data"], json!({"a": "b", "first": "1", "second": "2"}));
    assert_eq!(made.headers.get("warning").expect("a warning"), r#"299 - "look out""#);
    let paths: Vec<String> = server.hook.asked.lock().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, ["/first", "/second", "/first", "/judge"]);
    {
        let asked = server.hook.asked.lock();
        let (_, asked) = asked.last().expect("asked");
        assert_eq!(
            (&asked["operation"], &asked["name"], &asked["namespace"]),
            (&json!("CREATE"), &json!("m"), &json!("default"))
        );
        assert_eq!(asked["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
        assert_eq!(asked["userInfo"]["username"], "admin");
        assert_eq!(asked["oldObject"], Value::Null);
    }
    let mut bad = map("bad");
    bad["data"]["bad"] = json!("yes");
    let refused = rest.post(MAPS, &bad).await.expect("answers");
    assert_eq!(refused.code, 403);
    assert_eq!(refused.json()["message"], "admission webhook \"judge.x.io\" denied the request: bad is bad");
    assert_eq!(rest.get(&format!("{MAPS}/bad")).await.expect("answers").code, 404);
    rest.delete(&format!("{MAPS}/m")).await.expect("answers");
    let (_, last) = server.hook.asked.lock().last().cloned().expect("asked");
    assert_eq!((&last["operation"], &last["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!(last["oldObject"]["data"]["first"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_follow_their_policy() {
    let server = Server::start(|_, _| json!({"allowed": true})).await;
    let (_plane, rest) = plane().await;
    let ignored = webhook(&server, "broken", "/broken", json!({"failurePolicy": "Ignore"}));
    register(&rest, VALIDATING, "v", vec![ignored]).await;
    assert_eq!(rest.post(MAPS, &map("a")).await.expect("answers").code, 201);
    let fatal = webhook(&server, "broken", "/broken", json!({"failurePolicy": "Fail"}));
    register(&rest, VALIDATING, "w", vec![fatal]).await;
    let failed = rest.post(MAPS, &map("b")).await.expect("answers");
    assert_eq!((failed.code, failed.json()["reason"].clone()), (500, "InternalError".into()));
    let message = failed.json()["message"].as_str().expect("message").to_owned();
    assert!(
        message.starts_with("Internal error occurred: failed calling webhook \"broken.x.io\": failed to call webhook: Post \"https://127.0.0.1:"),
        "{message}"
    );
    // Registrations themselves are never held up.
    assert_eq!(rest.delete(&format!("{VALIDATING}/w")).await.expect("answers").code, 200);
    let effects = webhook(&server, "effects", "/", json!({"sideEffects": "Some"}));
    let refused = rest
        .post(VALIDATING, &json!({"metadata": {"name": "x"}, "webhooks": [effects]}))
        .await
        .expect("answers");
    assert_eq!(refused.code, 422, "{}", refused.json());
    // A server whose certificate somebody else signed is not asked.
    let other = Server::start(|_, _| json!({"allowed": true})).await;
    let mut stranger = webhook(&server, "stranger", "/", json!({}));
    stranger["clientConfig"]["caBundle"] = json!(other.ca);
    register(&rest, MUTATING, "s", vec![stranger]).await;
    let failed = rest.post(MAPS, &map("d")).await.expect("answers").json();
    assert!(failed["message"].as_str().expect("message").contains("tls: "), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_leave_others_alone() {
    let server = Server::start(|_, _| json!({"allowed": false})).await;
    let (_plane, rest) = plane().await;
    let only = json!({"namespaceSelector": {"matchLabels": {"guarded": "yes"}}});
    register(&rest, VALIDATING, "v", vec![webhook(&server, "no", "/", only)]).await;
    assert_eq!(rest.post(MAPS, &map("a")).await.expect("answers").code, 201);
    let merge = [("content-type", "application/merge-patch+json")];
    let label = r#"{"metadata":{"labels":{"guarded":"yes"}}}"#;
    rest.send(Method::PATCH, "/api/v1/namespaces/default", &merge, label).await.expect("answers");
    settle(&rest, "/api/v1/namespaces").await;
    let refused = rest.post(MAPS, &map("b")).await.expect("answers");
    assert_eq!(refused.code, 400);
    assert_eq!(
        refused.json()["message"],
        "admission webhook \"no.x.io\" denied the request without explanation"
    );
}
