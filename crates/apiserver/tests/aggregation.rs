//! An extension API server behind an `APIService`, over real TLS both ways.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use client::{Client, Target};
use daemon::server::{Limits, Peer, Service, serve};
use daemon::tls::{ServerFiles, ServerTls};
use daemon::{Clock as _, Shutdown, SystemClock};
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use kubeadm::pki::{Folder, Subject};
use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const MAP: &str = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
const THINGS: &str = "/apis/x.example.com/v1/namespaces/default/things";

/// An API server that tells what it was asked, by whom.
struct Extension;

impl Service for Extension {
    type Body = Full<Bytes>;

    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response<Full<Bytes>> {
        let asks = |user: &str| request.headers().get("x-remote-user").is_some_and(|value| value == user);
        let answer = match request.uri().path() {
            "/apis/x.example.com/v1" if !asks("system:kube-aggregator") && !asks("admin") => {
                return Response::builder().status(401).body(Full::default()).expect("an answer");
            }
            "/apis/x.example.com/v1" => json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "x.example.com/v1",
                "resources": [{"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"]}],
            }),
            "/openapi/v2" => json!({
                "swagger": "2.0", "info": {"title": "x", "version": "v1"},
                "paths": {THINGS: {"get": {"responses": {"200": {"description": "OK"}}}}, "/healthz": {}},
                "definitions": {"com.example.x.v1.Thing": {"type": "object"}},
            }),
            path => {
                let header = |name: &str| -> Vec<&str> {
                    request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
                };
                json!({
                    "kind": "Asked", "path": path, "query": request.uri().query(), "method": request.method().as_str(),
                    "user": header("x-remote-user"), "groups": header("x-remote-group"),
                    "authorization": header("authorization"), "is_proven": peer.certificates.is_some(),
                })
            }
        };
        Response::new(Full::new(answer.to_string().into()))
    }
}

/// Starts one whose clients are vouched for by what the cluster says.
async fn extension(folder: &Path, client_ca: &str, shutdown: &Shutdown) -> (u16, String) {
    daemon::tls::install_crypto();
    std::fs::write(folder.join("clients.crt"), client_ca).expect("writes");
    let now = SystemClock.now();
    let pki = Folder::new(folder);
    let authority = pki.authority(now).expect("an authority");
    let subject = Subject::server("x", vec!["x.default.svc".to_owned()]);
    pki.ensure("x", &authority, &subject, now).expect("a pair");
    let tls = ServerTls::load(ServerFiles {
        certificate: folder.join("x.crt"),
        key: folder.join("x.key"),
        client_ca: Some(folder.join("clients.crt")),
        front_proxy_ca: None,
    })
    .expect("loads");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = listener.local_addr().expect("address").port();
    let serving = serve(listener, tls, Limits::default(), Arc::new(Extension), shutdown.clone());
    daemon::tasks::spawn("extension", serving);
    (port, base64::engine::general_purpose::STANDARD.encode(authority.pem()))
}

async fn made(rest: &Rest, path: &str, body: Value) {
    let made = rest.post(path, &body).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
}

/// Status and reason of an API service's condition.
async fn availability(rest: &Rest, name: &str) -> (String, String) {
    let service = rest.get(&format!("{SERVICES}/{name}")).await.expect("answers").json();
    let condition = &service["status"]["conditions"][0];
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

async fn becomes(rest: &Rest, name: &str, status: &str, reason: &str) {
    let reached = testkit::eventually("the condition", || async {
        availability(rest, name).await == (status.to_owned(), reason.to_owned())
    });
    if reached.await.is_err() {
        panic!(
            "{:?} instead of {status} {reason}",
            rest.get(&format!("{SERVICES}/{name}")).await.map(|answer| answer.json())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_answer_for_their_groups() {
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    let told = rest.get(MAP).await.expect("answers").json();
    assert_eq!(told["data"]["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    assert_eq!(told["data"]["requestheader-username-headers"], "[\"X-Remote-User\"]");
    let client_ca = told["data"]["requestheader-client-ca-file"].as_str().expect("an authority");
    let folder = tempfile::tempdir().expect("temporary folder");
    let shutdown = Shutdown::default();
    let (port, ca) = extension(folder.path(), client_ca, &shutdown).await;

    made(
        &rest,
        SERVICES,
        json!({
            "metadata": {"name": "v1.x.example.com"},
            "spec": {
                "group": "x.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
                "caBundle": ca, "service": {"namespace": "default", "name": "x", "port": port},
            },
        }),
    )
    .await;
    becomes(&rest, "v1.x.example.com", "False", "ServiceNotFound").await;
    assert_eq!(rest.get(THINGS).await.expect("answers").code, 503);
    made(
        &rest,
        "/api/v1/namespaces/default/services",
        json!({
            "metadata": {"name": "x"}, "spec": {"type": "ExternalName", "externalName": "localhost"},
        }),
    )
    .await;
    becomes(&rest, "v1.x.example.com", "True", "Passed").await;

    let answer = rest.send(Method::GET, &format!("{THINGS}/a?b=c"), &[("x-remote-user", "root")], "").await;
    let asked = answer.expect("answers").json();
    assert_eq!(
        asked,
        json!({
            "kind": "Asked", "path": format!("{THINGS}/a"), "query": "b=c", "method": "GET", "user": ["admin"],
            "groups": ["system:masters", "system:authenticated"], "authorization": [], "is_proven": true,
        })
    );
    // It is asked only for what the user may do.
    let bob = Rest::new(&plane.session("bob", &[]).expect("session")).expect("client");
    let refused = bob.get(THINGS).await.expect("answers");
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.json()["message"],
        "things.x.example.com is forbidden: User \"bob\" cannot list resource \"things\" in API group \"x.example.com\" in the namespace \"default\""
    );

    is_discovered(&rest).await;
    over_grpc(&plane).await;

    // A certificate of somebody else.
    let wrong = base64::engine::general_purpose::STANDARD.encode(client_ca);
    rest.merge(&format!("{SERVICES}/v1.x.example.com"), &json!({"spec": {"caBundle": wrong}}))
        .await
        .expect("answers");
    becomes(&rest, "v1.x.example.com", "False", "FailedDiscoveryCheck").await;
    let insecure = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}});
    rest.merge(&format!("{SERVICES}/v1.x.example.com"), &insecure).await.expect("answers");
    becomes(&rest, "v1.x.example.com", "True", "Passed").await;

    rest.delete(&format!("{SERVICES}/v1.x.example.com")).await.expect("answers");
    testkit::eventually("nobody answers", || async {
        rest.get(THINGS).await.is_ok_and(|answer| answer.code == 404)
    })
    .await
    .expect("in time");
    shutdown.begin();
}

/// What others serve is in every document.
async fn is_discovered(rest: &Rest) {
    let groups = rest.get("/apis").await.expect("answers").json();
    let group = groups["groups"].as_array().expect("groups").last().expect("a group").clone();
    assert_eq!(group["preferredVersion"], json!({"groupVersion": "x.example.com/v1", "version": "v1"}));
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let groups = rest.send(Method::GET, "/apis", &accept, "").await.expect("answers").json();
    let group = groups["items"].as_array().expect("groups").last().expect("a group").clone();
    assert_eq!(group["metadata"]["name"], "x.example.com");
    assert_eq!(group["versions"][0]["freshness"], "Current");
    assert_eq!(group["versions"][0]["resources"][0]["resource"], "things");
    let list = rest.get("/apis/x.example.com/v1").await.expect("answers").json();
    assert_eq!(list["resources"][0]["name"], "things");
    let index = rest.get("/openapi/v3").await.expect("answers").json();
    assert!(index["paths"]["apis/x.example.com/v1"].is_object());
    let whole = rest.get("/openapi/v2").await.expect("answers").json();
    assert!(whole["paths"][THINGS].is_object() && whole["paths"]["/healthz"].is_null());
    assert_eq!(whole["definitions"]["com.example.x.v1.Thing"], json!({"type": "object"}));
    assert!(whole["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
}

/// The same by the other front.
async fn over_grpc(plane: &ControlPlane) {
    let session = plane.session("admin", &["system:masters"]).expect("session");
    let client = Client::new(&session, "test").expect("client");
    let thing = |name: &str| Target {
        group: "x.example.com".into(),
        version: "v1".into(),
        resource: "things".into(),
        namespace: "default".into(),
        name: name.into(),
        ..Target::default()
    };
    let asked = |json: &[u8]| {
        let asked: Value = serde_json::from_slice(json).expect("JSON");
        [&asked["method"], &asked["path"], &asked["query"]].map(|part| part.as_str().unwrap_or("").to_owned())
    };
    let got = client.get_json(thing("a")).await.expect("answers");
    assert_eq!(asked(&got.json), ["GET", &format!("{THINGS}/a"), ""]);
    let patch = client::Patch::Merge(json!({"a": 1}));
    let options = client::WriteOptions { dry_run: true, ..client::WriteOptions::default() };
    let patched = client.patch_json(thing("a"), &patch, &options).await.expect("answers");
    let query = "dryRun=All&fieldManager=test&fieldValidation=Warn";
    assert_eq!(asked(&patched.json), ["PATCH", &format!("{THINGS}/a"), query]);
    let options = client::ListOptions { labels: "a=b".into(), ..client::ListOptions::default() };
    assert!(client.list_json(thing(""), &options).await.expect("answers").items.is_empty());
    let found = client.discover().await.expect("answers");
    let groups = found.get("items").and_then(Value::as_array).expect("groups");
    assert!(groups.iter().any(|group| group["metadata"]["name"] == "x.example.com"));
    let bob = Client::new(&plane.session("bob", &[]).expect("session"), "test").expect("client");
    assert_eq!(bob.get_json(thing("a")).await.expect_err("bob may not").code, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_here_is_registered() {
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    for name in ["v1.", "v1.apps", "v1.apiregistration.k8s.io"] {
        becomes(&rest, name, "True", "Local").await;
    }
    made(&rest, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json!({
        "metadata": {"name": "as.y.example.com"},
        "spec": {
            "group": "y.example.com", "scope": "Namespaced", "names": {"plural": "as", "kind": "A"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    }))
    .await;
    becomes(&rest, "v1.y.example.com", "True", "Local").await;
    let own = rest.get(&format!("{SERVICES}/v1.y.example.com")).await.expect("answers").json();
    assert_eq!(own["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    rest.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/as.y.example.com")
        .await
        .expect("answers");
    testkit::eventually("it is taken away", || async {
        rest.get(&format!("{SERVICES}/v1.y.example.com")).await.is_ok_and(|answer| answer.code == 404)
    })
    .await
    .expect("in time");
}
