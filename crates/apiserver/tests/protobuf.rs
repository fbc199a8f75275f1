//! The Kubernetes protobuf encoding, both ways: bodies, lists, watches.

use api::protobuf;
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};
use testkit::{ControlPlane, Rest};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MEDIA: &str = "application/vnd.kubernetes.protobuf";

fn decoded(of: &str, message: &[u8]) -> Map<String, Value> {
    let schema = resources::schema();
    protobuf::decode(&schema, schema.find(of).expect("a struct"), message).expect("decodes")
}

/// A pod with a field of every encoding.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "x"}, "annotations": {"a": "ä", "b": ""}},
        "spec": {
            "containers": [{
                "name": "c", "image": "i", "command": ["a", "b"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "ports": [{"containerPort": 80, "name": "web"}],
                "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 5},
                "readinessProbe": {"tcpSocket": {"port": 80}},
                "volumeMounts": [{"name": "one", "mountPath": "/one"}],
            }],
            "volumes": [{"name": "one", "emptyDir": {}}, {"name": "two", "hostPath": {"path": "/x"}}],
            "securityContext": {"runAsUser": 1000, "supplementalGroups": [1, 2, 3_000_000]},
            "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "tolerations": [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": -1}],
        },
    })
}

async fn control_plane() -> (ControlPlane, Rest) {
    let plane = ControlPlane::start().await.expect("starts");
    let rest = plane.rest().expect("client");
    let account = json!({"metadata": {"name": "default"}});
    rest.post("/api/v1/namespaces/default/serviceaccounts", &account).await.expect("answers");
    (plane, rest)
}

async fn send(rest: &Rest, method: Method, path: &str, body: impl Into<Bytes>) -> (u16, Bytes) {
    let headers = [("accept", MEDIA), ("content-type", MEDIA)];
    let answer = rest.send(method, path, &headers, body).await.expect("answers");
    (answer.code, answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_the_same_in_both_encodings() {
    let (_plane, rest) = control_plane().await;
    let schema = resources::schema();
    let id = schema.find("core/v1.Pod").expect("pods");
    let body = protobuf::encode(&schema, id, pod("a").as_object().expect("an object")).expect("encodes");
    let (code, made) = send(&rest, Method::POST, PODS, protobuf::seal("v1", "Pod", &body)).await;
    assert_eq!(code, 201, "{}", String::from_utf8_lossy(&made));
    let by_json = rest.post(PODS, &pod("b")).await.expect("answers");
    assert_eq!(by_json.code, 201, "{}", by_json.json());

    let shown = rest.get(&format!("{PODS}/a")).await.expect("answers").json();
    assert_eq!(shown["spec"], by_json.json()["spec"], "bodies in both encodings say the same");
    let envelope = protobuf::open(&made).expect("an envelope");
    assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), ("v1", "Pod"));
    let read = decoded("core/v1.Pod", envelope.raw);
    assert_eq!(read["spec"], shown["spec"]);
    assert_eq!(read["metadata"], shown["metadata"]);

    let (_, list) = send(&rest, Method::GET, PODS, "").await;
    let envelope = protobuf::open(&list).expect("an envelope");
    assert_eq!(envelope.kind, "PodList");
    let read = decoded("core/v1.PodList", envelope.raw);
    let shown = rest.get(PODS).await.expect("answers").json();
    assert_eq!(
        (&read["items"][0]["spec"], &read["items"][1]["metadata"]["name"]),
        (&shown["items"][0]["spec"], &json!("b"))
    );
    assert!(read["metadata"]["resourceVersion"].is_string());

    // What has no encoding is told in one that it has, or not at all.
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(rest.send(Method::GET, crds, &[("accept", MEDIA)], "").await.expect("answers").code, 200);
    let table = format!("{MEDIA};as=Table;v=v1;g=meta.k8s.io");
    let refused = rest.send(Method::GET, PODS, &[("accept", &table)], "").await.expect("answers");
    assert_eq!(refused.code, 406);
    let partial = format!("{MEDIA};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    let list = rest.send(Method::GET, PODS, &[("accept", &partial)], "").await.expect("answers").body;
    let envelope = protobuf::open(&list).expect("an envelope");
    assert_eq!(
        (envelope.api_version.as_str(), envelope.kind.as_str()),
        ("meta.k8s.io/v1", "PartialObjectMetadataList")
    );
    let read = decoded("meta/v1.PartialObjectMetadataList", envelope.raw);
    assert_eq!(read["items"][0]["metadata"]["name"], "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_are_framed() {
    let (_plane, rest) = control_plane().await;
    assert_eq!(rest.post(PODS, &pod("a")).await.expect("answers").code, 201);
    let path = format!("{PODS}?watch=true&resourceVersion=0&timeoutSeconds=2");
    let response = rest.open(Method::GET, &path, &[("accept", MEDIA)], "").await.expect("answers");
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let label = json!({"metadata": {"labels": {"app": "y"}}});
    let changed = rest.merge(&format!("{PODS}/a"), &label).await;
    assert_eq!(changed.expect("answers").code, 200);
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    let mut rest_of = &bytes[..];
    let mut seen = Vec::new();
    while let Some((length, after)) = rest_of.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        rest_of = after;
        // An event: its type in field 1; in field 2 a message whose field 1 is the object.
        let at = frame.windows(4).position(|four| four == b"k8s\0").expect("an object");
        let event = String::from_utf8_lossy(&frame[2..2 + frame[1] as usize]).into_owned();
        let pod = decoded("core/v1.Pod", protobuf::open(&frame[at..]).expect("an envelope").raw);
        seen.push((event, pod["metadata"]["labels"]["app"].as_str().unwrap_or_default().to_owned()));
    }
    let wanted = [("ADDED", "x"), ("MODIFIED", "y")];
    assert_eq!(seen, wanted.map(|(event, app)| (event.to_owned(), app.to_owned())));
}
