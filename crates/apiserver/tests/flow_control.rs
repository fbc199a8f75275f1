//! Priority and fairness: who is let in when there is little room.

use std::sync::Arc;
use std::time::Duration;

use client::{ClientFiles, client_tls};
use http::Method;
use http_body_util::BodyExt as _;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use testkit::{ControlPlane, Rest, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A server with few seats, on which `jane` has one, and a queue for one.
async fn tight(more: &[&str]) -> (ControlPlane, Rest) {
    let few = ["--max-requests-inflight=20", "--max-mutating-requests-inflight=0"];
    let flags = few.iter().chain(more).map(|&flag| flag.to_owned()).collect();
    let plane = ControlPlane::start_with(|_| flags).await.expect("starts");
    let admin = plane.rest().expect("client");
    let queuing = json!({"queues": 1, "handSize": 1, "queueLengthLimit": 1});
    let level = json!({"metadata": {"name": "tight"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 1, "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Queue", "queuing": queuing}}}});
    let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]);
    let schema = json!({"metadata": {"name": "jane"}, "spec": {
        "priorityLevelConfiguration": {"name": "tight"}, "matchingPrecedence": 50,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "jane"}}], "resourceRules": everything}]}});
    // The schema first: it dangles until its level is there.
    made(&admin, &format!("{FLOW}/flowschemas"), &schema).await;
    eventually("the schema dangles", || async { dangling(&admin, "jane").await == json!("True") })
        .await
        .expect("told");
    made(&admin, &format!("{FLOW}/prioritylevelconfigurations"), &level).await;
    eventually("the schema is in use", || async { dangling(&admin, "jane").await == json!("False") })
        .await
        .expect("told");
    let binding = json!({"metadata": {"name": "jane"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}});
    made(&admin, &format!("{RBAC}/clusterrolebindings"), &binding).await;
    // A read waits until everything written is seen.
    admin.get(&format!("{RBAC}/clusterrolebindings")).await.expect("answers");
    (plane, admin)
}

async fn made(admin: &Rest, path: &str, object: &Value) -> Value {
    let answer = admin.post(path, object).await.expect("answers");
    assert_eq!(answer.code, 201, "{}", answer.json());
    answer.json()
}

async fn dangling(admin: &Rest, schema: &str) -> Value {
    let found = admin.get(&format!("{FLOW}/flowschemas/{schema}")).await.expect("answers").json();
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .into_iter()
        .find(|one| one["type"] == "Dangling")
        .map(|one| one["status"].clone())
        .unwrap_or_default()
}

fn user(plane: &ControlPlane, name: &str, groups: &[&str]) -> Rest {
    Rest::new(&plane.session(name, groups).expect("session")).expect("client")
}

/// A request whose body never comes: it keeps its seat for as long as it may take.
async fn stuck(plane: &ControlPlane, name: &str) -> TlsStream<TcpStream> {
    let session = plane.session(name, &[]).expect("session");
    let files = ClientFiles { ca: session.ca.expect("a CA"), identity: session.identity, server_name: None };
    let config = client_tls(&files, &[b"http/1.1"]).expect("TLS");
    let address = plane.server().trim_start_matches("https://").to_owned();
    let tcp = TcpStream::connect(&address).await.expect("connects");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("connects");
    let head = format!(
        "POST {MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    );
    tls.write_all(head.as_bytes()).await.expect("sends");
    tls.flush().await.expect("sends");
    tls
}

async fn metric(admin: &Rest, name: &str, labels: &str) -> Option<f64> {
    let text = admin.get("/metrics").await.expect("answers").body;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{{labels}}}")))?;
    line.rsplit(' ').next()?.parse().ok()
}

const JANE: &str = "priority_level=\"tight\",flow_schema=\"jane\"";

async fn is_waiting(admin: &Rest, count: f64) -> bool {
    metric(admin, "apiserver_flowcontrol_current_inqueue_requests", JANE).await == Some(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_has_upstreams_levels_and_answers_tell_them() {
    let plane = ControlPlane::start().await.expect("starts");
    let admin = plane.rest().expect("client");
    let list = |what: &'static str| {
        let admin = admin.clone();
        async move {
            admin.get(&format!("{FLOW}/{what}")).await.expect("answers").json()["items"]
                .as_array()
                .cloned()
                .expect("items")
        }
    };
    let (schemas, levels) = (list("flowschemas").await, list("prioritylevelconfigurations").await);
    assert_eq!((schemas.len(), levels.len()), (11, 8));
    for one in schemas.iter().chain(&levels) {
        assert_eq!(one["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"], "true", "{one}");
    }
    eventually("no schema dangles", || async {
        list("flowschemas").await.iter().all(|one| one["status"]["conditions"][0]["reason"] == "Found")
    })
    .await
    .expect("told");
    let uid = |all: &[Value], name: &str| {
        let found = all.iter().find(|one| one["metadata"]["name"] == name).expect("there");
        found["metadata"]["uid"].as_str().expect("a uid").to_owned()
    };
    let node = user(&plane, "system:node:w", &["system:nodes"]);
    for (rest, path, schema, level) in [
        (&admin, "/api/v1/nodes", "exempt", "exempt"),
        (&node, "/api/v1/nodes/w", "system-node-high", "node-high"),
        (&node, "/api/v1/pods", "system-nodes", "system"),
        (&user(&plane, "jane", &[]), "/api/v1/pods", "global-default", "global-default"),
    ] {
        let answer = rest.get(path).await.expect("answers");
        let header =
            |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok().map(str::to_owned));
        assert_eq!(header("x-kubernetes-pf-flowschema-uid"), Some(uid(&schemas, schema)), "{path}");
        assert_eq!(header("x-kubernetes-pf-prioritylevel-uid"), Some(uid(&levels, level)), "{path}");
    }
    // What every cluster has is not for changing.
    let change = json!({"spec": {"limited": {"nominalConcurrencyShares": 50}}});
    let refused = admin
        .merge(&format!("{FLOW}/prioritylevelconfigurations/catch-all"), &change)
        .await
        .expect("answers");
    assert_eq!(refused.code, 422, "{}", refused.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_client_waits_is_turned_away_and_keeps_nobody_out() {
    let (plane, admin) = tight(&[]).await;
    let jane = user(&plane, "jane", &[]);
    let holder = stuck(&plane, "jane").await;
    let running = "apiserver_flowcontrol_current_executing_requests";
    eventually("jane's seat is taken", || async { metric(&admin, running, JANE).await == Some(1.0) })
        .await
        .expect("taken");
    let waiting = tokio::task::JoinSet::from_iter([{
        let jane = jane.clone();
        async move { jane.get(MAPS).await.expect("answers").code }
    }]);
    eventually("the next one waits", || is_waiting(&admin, 1.0)).await.expect("waits");

    let turned = jane.get(MAPS).await.expect("answers");
    assert_eq!(turned.code, 429);
    assert_eq!(turned.body, "Too many requests, please try again later.\n");
    assert_eq!(turned.headers.get("retry-after").and_then(|value| value.to_str().ok()), Some("1"));
    assert!(turned.headers.contains_key("x-kubernetes-pf-flowschema-uid"));
    let client = client::Client::new(&plane.session("jane", &[]).expect("session"), "test").expect("client");
    let refusal = client.find::<api::types::core::v1::Node>("", "w").await.expect_err("no room");
    assert_eq!((refusal.code, refusal.message.as_str()), (429, "Too many requests, please try again later."));

    // Who waits longer than a quarter of the time that its client has is turned away.
    drop(waiting);
    eventually("nobody waits", || is_waiting(&admin, 0.0)).await.expect("left");
    assert_eq!(jane.get(&format!("{MAPS}?timeout=200ms")).await.expect("answers").code, 429);
    let late = format!("{JANE},reason=\"time-out\"");
    let rejected = "apiserver_flowcontrol_rejected_requests_total";
    assert_eq!(metric(&admin, rejected, &late).await, Some(1.0));
    let waiting = tokio::task::JoinSet::from_iter([{
        let jane = jane.clone();
        async move { jane.get(MAPS).await.expect("answers").code }
    }]);
    eventually("the next one waits", || is_waiting(&admin, 1.0)).await.expect("waits");

    // Many more of them, and still a node's heart beats.
    let mut flood = Vec::new();
    for _ in 0..40 {
        flood.push(stuck(&plane, "jane").await);
    }
    let node = user(&plane, "system:node:w", &["system:nodes"]);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease =
        json!({"metadata": {"name": "w"}, "spec": {"holderIdentity": "w", "leaseDurationSeconds": 40}});
    let beats = async {
        made(&node, leases, &lease).await;
        for seconds in 1..20 {
            let beat = json!({"spec": {"leaseDurationSeconds": 40 + seconds}});
            let answer = node.merge(&format!("{leases}/w"), &beat).await.expect("answers");
            assert_eq!(answer.code, 200, "{}", answer.json());
        }
    };
    tokio::time::timeout(Duration::from_secs(5), beats).await.expect("heartbeats are not held up");
    assert!(is_waiting(&admin, 1.0).await);

    // Who gave up frees the seat; who waited gets it.
    drop((holder, flood));
    assert_eq!(waiting.join_all().await, [200]);
    let full = format!("{JANE},reason=\"queue-full\"");
    assert!(metric(&admin, rejected, &full).await.is_some_and(|count| count >= 40.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_gives_its_seat_back_and_who_leaves_does_not_wait() {
    let (plane, admin) = tight(&[]).await;
    let jane = user(&plane, "jane", &[]);
    let watches = [
        jane.open(Method::GET, &format!("{MAPS}?watch=true"), &[], "").await.expect("opens"),
        jane.open(Method::GET, &format!("{MAPS}?watch=true"), &[], "").await.expect("opens"),
        jane.open(Method::GET, &format!("{MAPS}?watch=true"), &[], "").await.expect("opens"),
    ];
    assert!(watches.iter().all(|watch| watch.status() == 200));
    assert_eq!(jane.get(MAPS).await.expect("answers").code, 200);

    let holder = stuck(&plane, "jane").await;
    let running = "apiserver_flowcontrol_current_executing_requests";
    eventually("jane's seat is taken", || async { metric(&admin, running, JANE).await == Some(1.0) })
        .await
        .expect("taken");
    let mut waits = tokio::task::JoinSet::from_iter([{
        let jane = jane.clone();
        async move { jane.get(MAPS).await.map(drop) }
    }]);
    eventually("one waits", || is_waiting(&admin, 1.0)).await.expect("waits");
    waits.abort_all();
    eventually("it left", || is_waiting(&admin, 0.0)).await.expect("left");
    drop(holder);
    assert_eq!(jane.get(MAPS).await.expect("answers").code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_ended_and_frees_its_seat() {
    let (plane, admin) = tight(&["--request-timeout=2s"]).await;
    let jane = user(&plane, "jane", &[]);
    let mut holder = stuck(&plane, "jane").await;
    let running = "apiserver_flowcontrol_current_executing_requests";
    eventually("jane's seat is taken", || async { metric(&admin, running, JANE).await == Some(1.0) })
        .await
        .expect("taken");
    assert_eq!(jane.get(MAPS).await.expect("answers").code, 429, "no seat within a quarter of the time");
    let mut answer = String::new();
    let reading = holder.read_to_string(&mut answer);
    // The connection ends with the answer: the rest of the body cannot be told from a next request.
    let _ended = tokio::time::timeout(Duration::from_secs(30), reading).await.expect("is answered");
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert!(answer.contains("Timeout: request did not complete within the allotted timeout"), "{answer}");
    eventually("jane's seat is free", || async { metric(&admin, running, JANE).await == Some(0.0) })
        .await
        .expect("free");

    // A watch goes on.
    let path = format!("{MAPS}?watch=true");
    let mut watch = jane.open(Method::GET, &path, &[], "").await.expect("opens").into_body();
    tokio::time::sleep(Duration::from_secs(3)).await;
    made(&admin, MAPS, &json!({"metadata": {"name": "late"}})).await;
    let mut seen = String::new();
    while !seen.contains("late") {
        let frame = tokio::time::timeout(Duration::from_secs(10), watch.frame()).await.expect("in time");
        let data = frame.expect("goes on").expect("no error").into_data().expect("data");
        seen += &String::from_utf8_lossy(&data);
    }
    let refused = jane.get(&format!("{MAPS}?timeout=soon")).await.expect("answers");
    assert_eq!(refused.code, 400, "{}", refused.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fairness_requests_are_only_counted() {
    let flags = |_: &std::path::Path| {
        vec![
            "--enable-priority-and-fairness=false".to_owned(),
            "--max-mutating-requests-inflight=1".to_owned(),
        ]
    };
    let plane = ControlPlane::start_with(flags).await.expect("starts");
    let jane = user(&plane, "jane", &[]);
    let answer = jane.get(MAPS).await.expect("answers");
    assert!(!answer.headers.contains_key("x-kubernetes-pf-flowschema-uid"));
    // One that comes while another asks is turned away itself: then the next one stays.
    let holders = tokio::sync::Mutex::new(Vec::new());
    eventually("there is no room to write", || async {
        holders.lock().await.push(stuck(&plane, "jane").await);
        jane.post(MAPS, &json!({})).await.expect("answers").code == 429
    })
    .await
    .expect("full");
    assert_eq!(jane.get(MAPS).await.expect("answers").code, 403, "reads go on");
}
