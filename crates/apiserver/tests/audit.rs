//! The audit log: what is written of requests, and how much.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use serde_json::{Value, json};
use testkit::{ControlPlane, Events, Remote, Rest, eventually};
use tokio::sync::mpsc;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: [quiet]}
- {level: Metadata, resources: [{group: '', resources: [secrets]}]}
- {level: RequestResponse, resources: [{group: '', resources: [configmaps, pods]}]}
- {level: Metadata, resources: [{group: ''}, {group: authentication.k8s.io}]}
- {level: Metadata, nonResourceURLs: [/version]}
";

fn flags(folder: &Path, more: &[&str]) -> Vec<String> {
    std::fs::write(folder.join("policy.yaml"), POLICY).expect("writes");
    let policy = format!("--audit-policy-file={}", folder.join("policy.yaml").display());
    [policy]
        .into_iter()
        .chain(more.iter().map(|flag| flag.replace("DIR", &folder.display().to_string())))
        .collect()
}

async fn plane(more: &[&str]) -> (ControlPlane, Rest) {
    let plane = ControlPlane::start_with(|folder| flags(folder, more)).await.expect("starts");
    let rest = plane.rest().expect("client");
    (plane, rest)
}

fn log(plane: &ControlPlane) -> String {
    std::fs::read_to_string(plane.folder().join("audit/audit.log")).expect("a log")
}

fn events(plane: &ControlPlane) -> Vec<Value> {
    log(plane).lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
}

/// The one event with this path, verb and stage.
fn event(plane: &ControlPlane, verb: &str, uri: &str) -> Value {
    let all = events(plane);
    let mut found: Vec<&Value> = all
        .iter()
        .filter(|one| one["verb"] == verb && one["requestURI"] == uri && one["stage"] == "ResponseComplete")
        .collect();
    assert_eq!(found.len(), 1, "{verb} {uri}: {all:#?}");
    found.remove(0).clone()
}

fn user(plane: &ControlPlane, name: &str) -> Rest {
    Rest::new(&plane.session(name, &[]).expect("session")).expect("client")
}

#[tokio::test(flavor = "multi_thread")]
async fn events_say_who_did_what_and_how_it_went() {
    let (plane, admin) = plane(&["--audit-log-path=DIR/audit/audit.log"]).await;
    let headers = [
        ("content-type", "application/json"),
        ("audit-id", "my-id"),
        ("x-forwarded-for", "192.0.2.7"),
        ("user-agent", "me"),
    ];
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let made = admin.send(Method::POST, MAPS, &headers, map.to_string()).await.expect("answers");
    assert_eq!(made.headers.get("audit-id").and_then(|id| id.to_str().ok()), Some("my-id"));
    let found = event(&plane, "create", MAPS);
    let of = json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"});
    for (field, expected) in [
        ("kind", json!("Event")),
        ("apiVersion", json!("audit.k8s.io/v1")),
        ("level", json!("RequestResponse")),
        ("auditID", json!("my-id")),
        ("sourceIPs", json!(["192.0.2.7", "127.0.0.1"])),
        ("userAgent", json!("me")),
        ("objectRef", of),
        ("responseStatus", json!({"metadata": {}, "code": 201})),
    ] {
        assert_eq!(found[field], expected, "{field}: {found:#}");
    }
    let who = &found["user"];
    assert_eq!(who["username"], "admin");
    assert_eq!(who["groups"], json!(["system:masters", "system:authenticated"]));
    let certificate = who["extra"]["authentication.kubernetes.io/credential-id"][0].as_str();
    assert!(certificate.is_some_and(|id| id.starts_with("X509SHA256=")), "{who}");
    assert_eq!(found["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(found["requestObject"]["data"], json!({"k": "v"}));
    assert!(found["responseObject"]["metadata"]["uid"].is_string(), "{found:#}");
    assert_eq!(found["responseObject"]["metadata"].get("managedFields"), None);

    // Refusals, patches, lists.
    let jane = user(&plane, "jane");
    jane.get(&format!("{MAPS}/a")).await.expect("answers");
    let refused = event(&plane, "get", &format!("{MAPS}/a"));
    assert_eq!(
        (&refused["responseStatus"]["code"], &refused["responseStatus"]["reason"]),
        (&json!(403), &json!("Forbidden"))
    );
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(refused["responseObject"]["kind"], "Status");
    admin.merge(&format!("{MAPS}/a"), &json!({"data": {"k": "w"}})).await.expect("answers");
    assert_eq!(event(&plane, "patch", &format!("{MAPS}/a"))["requestObject"], json!({"data": {"k": "w"}}));
    admin.get(MAPS).await.expect("answers");
    assert_eq!(event(&plane, "list", MAPS)["responseObject"]["kind"], "ConfigMapList");

    let options = json!({"propagationPolicy": "Background"}).to_string();
    let json = [("content-type", "application/json")];
    admin.send(Method::DELETE, &format!("{MAPS}/a"), &json, options).await.expect("answers");
    assert_eq!(
        event(&plane, "delete", &format!("{MAPS}/a"))["requestObject"],
        json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "propagationPolicy": "Background"})
    );

    // No bodies of secrets; nothing of whom the policy leaves out; impersonation.
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "hush"}});
    admin.post(secrets, &secret).await.expect("answers");
    let found = event(&plane, "create", secrets);
    assert_eq!((found.get("requestObject"), found.get("responseObject")), (None, None));
    user(&plane, "quiet").get("/api/v1/nodes").await.expect("answers");
    admin.send(Method::GET, "/api/v1/nodes", &[("impersonate-user", "bob")], "").await.expect("answers");
    let found = event(&plane, "list", "/api/v1/nodes");
    assert_eq!(
        (&found["user"]["username"], &found["impersonatedUser"]["username"]),
        (&json!("admin"), &json!("bob"))
    );
    assert_eq!(found["authenticationMetadata"]["impersonationConstraint"], "impersonate:user-info");
    assert!(!log(&plane).contains("hush") && !log(&plane).contains("quiet"));

    // Who cannot be told has one event.
    let stranger = Rest::new(&plane.session_with(None, Some("wrong"))).expect("client");
    assert_eq!(stranger.get("/api/v1/services").await.expect("answers").code, 401);
    let found =
        events(&plane).into_iter().find(|one| one["requestURI"] == "/api/v1/services").expect("an event");
    assert_eq!(
        (&found["stage"], &found["responseStatus"]["message"]),
        (&json!("ResponseStarted"), &json!("Authentication failed, attempted: bearer"))
    );
    assert!(!log(&plane).contains("wrong"));
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_begin_and_end_and_grpc_is_recorded_alike() {
    let (plane, admin) = plane(&["--audit-log-path=DIR/audit/audit.log"]).await;
    let uri = format!("{MAPS}?watch=true");
    let mut watch = Events::open(&admin, &uri).await;
    admin.post(MAPS, &json!({"metadata": {"name": "a"}})).await.expect("answers");
    watch.expect("ADDED", "a").await;
    let stages = || -> Vec<Value> {
        events(&plane).iter().filter(|one| one["requestURI"] == uri).map(|one| one["stage"].clone()).collect()
    };
    assert_eq!(stages(), ["ResponseStarted"]);
    drop(watch);
    eventually("the watch ends", || async { stages() == ["ResponseStarted", "ResponseComplete"] })
        .await
        .expect("ends");

    let client = plane.admin().expect("client");
    let gone = client.find::<api::types::core::v1::ConfigMap>("default", "none").await.expect("answers");
    assert!(gone.is_none());
    let found = event(&plane, "get", &format!("{MAPS}/none"));
    assert_eq!(
        (&found["responseStatus"]["code"], &found["user"]["username"]),
        (&json!(404), &json!("admin"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_adds_annotations() {
    let (plane, admin) = plane(&["--audit-log-path=DIR/audit/audit.log"]).await;
    let registration = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({"metadata": {"name": "p.example.com"}, "spec": {
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]},
        "validations": [{"expression": "true"}, {"expression": "object.metadata.name != 'bad'", "message": "a bad name"}],
        "auditAnnotations": [{"key": "name", "valueExpression": "'it is ' + object.metadata.name"}]}});
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p.example.com", "validationActions": ["Audit"]}});
    for (what, object) in
        [("validatingadmissionpolicies", &policy), ("validatingadmissionpolicybindings", &binding)]
    {
        assert_eq!(admin.post(&format!("{registration}/{what}"), object).await.expect("answers").code, 201);
    }
    // A read waits until everything written is seen.
    admin.get(&format!("{registration}/validatingadmissionpolicybindings")).await.expect("answers");
    assert_eq!(admin.post(MAPS, &json!({"metadata": {"name": "bad"}})).await.expect("answers").code, 201);
    let found = event(&plane, "create", MAPS);
    let failure = found["annotations"]["validation.policy.admission.k8s.io/validation_failure"]
        .as_str()
        .expect("a failure");
    let failure: Value = serde_json::from_str(failure).expect("JSON");
    assert_eq!(
        failure,
        json!([{"message": "a bad name", "policy": "p.example.com", "binding": "b", "expressionIndex": 1, "validationActions": ["Audit"]}])
    );
    assert_eq!(found["annotations"]["p.example.com/name"], "it is bad");

    let account = json!({"metadata": {"name": "default"}});
    admin.post("/api/v1/namespaces/default/serviceaccounts", &account).await.expect("answers");
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/audit": "restricted"}}});
    admin.merge("/api/v1/namespaces/default", &labels).await.expect("answers");
    // A read waits until everything written is seen.
    admin.get("/api/v1/namespaces/default").await.expect("answers");
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    admin.post(pods, &pod).await.expect("answers");
    let found = event(&plane, "create", pods);
    assert_eq!(found["responseStatus"]["code"], 201, "{found:#}");
    let annotations = found["annotations"].clone();
    assert_eq!(annotations["pod-security.kubernetes.io/enforce-policy"], "privileged:latest");
    let violations = annotations["pod-security.kubernetes.io/audit-violations"].as_str().expect("violations");
    assert!(violations.starts_with("would violate PodSecurity \"restricted:latest\": "), "{violations}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_format_and_batches() {
    let (mut plane, admin) = plane(&[
        "--audit-log-path=DIR/audit/audit.log",
        "--audit-log-format=legacy",
        "--audit-log-mode=batch",
        "--audit-log-batch-max-size=100",
        "--audit-log-batch-max-wait=1h",
    ])
    .await;
    admin.get("/version").await.expect("answers");
    plane.stop().await.expect("stops");
    let text = log(&plane);
    assert!(
        text.contains("method=\"get\" user=\"admin\"") && text.contains("uri=\"/version\" response=\"200\""),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_batches_and_is_asked_again() {
    let (sender, mut received) = mpsc::unbounded_channel();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let remote = Remote::start(move |path, sent| {
        assert_eq!((path, &sent["kind"]), ("/events", &json!("EventList")));
        // The first try fails.
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            return (500, json!({}));
        }
        sender.send(sent["items"].clone()).expect("received");
        (200, json!({}))
    })
    .await
    .expect("starts");
    let config =
        format!("--audit-webhook-config-file={}", remote.kubeconfig("/events").expect("writes").display());
    let more = [&*config, "--audit-webhook-batch-max-wait=200ms", "--audit-webhook-initial-backoff=10ms"];
    let (_plane, admin) = plane(&more).await;
    for _ in 0..3 {
        admin.get("/version").await.expect("answers");
    }
    let mut count = 0;
    while count < 3 {
        let batch = received.recv().await.expect("a batch");
        count +=
            batch.as_array().expect("events").iter().filter(|one| one["requestURI"] == "/version").count();
    }
    assert!(calls.load(Ordering::SeqCst) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_record_there_is_no_request_where_it_is_strict() {
    let remote = Remote::start(|_, _| (500, json!({}))).await.expect("starts");
    let config =
        format!("--audit-webhook-config-file={}", remote.kubeconfig("/events").expect("writes").display());
    let flags = |folder: &Path| {
        let policy = folder.join("policy.yaml");
        std::fs::write(&policy, POLICY.replace("omitStages: [RequestReceived]", "")).expect("writes");
        vec![
            format!("--audit-policy-file={}", policy.display()),
            config,
            "--audit-webhook-mode=blocking-strict".to_owned(),
            "--audit-webhook-initial-backoff=1ms".to_owned(),
        ]
    };
    let plane = ControlPlane::start_with(flags).await.expect("starts");
    let answer = plane.rest().expect("client").get("/version").await.expect("answers");
    assert_eq!(answer.code, 500);
    assert_eq!(answer.json()["message"], "Internal error occurred: failed to store audit event");
}
