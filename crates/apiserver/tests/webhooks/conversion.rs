//! Conversion webhooks: a definition with two versions whose objects differ.

use serde_json::{Value, json};
use testkit::{ControlPlane, Events, Rest};

use super::server::Server;

pub(super) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(super) const V1: &str = "/apis/x.io/v1/namespaces/default/boxes";
pub(super) const V2: &str = "/apis/x.io/v2/namespaces/default/boxes";

/// In v1 a box has a size `WxH`; in v2 a width and a height.
pub(super) fn definition(server: &Server) -> Value {
    let version = |name: &str, storage: bool, fields: Value| {
        let spec = json!({"type": "object", "properties": fields});
        json!({
            "name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
        })
    };
    let whole = json!({"type": "string"});
    let number = json!({"type": "integer"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boxes.x.io"},
        "spec": {
            "group": "x.io", "scope": "Namespaced", "names": {"plural": "boxes", "kind": "Box"},
            "versions": [
                version("v1", true, json!({"size": whole})),
                version("v2", false, json!({"width": number, "height": number, "depth": {"type": "integer", "default": 7}})),
            ],
            "conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"], "clientConfig": server.client_config("/convert"),
            }},
        },
    })
}

pub(super) fn convert(path: &str, asked: &Value) -> Value {
    let wanted = &asked["desiredAPIVersion"];
    let objects = asked["objects"].as_array().expect("objects");
    if objects.iter().any(|one| one["metadata"]["name"] == "bad") {
        return json!({"result": {"status": "Failure", "message": "bad is bad"}});
    }
    let one = |object: &Value| {
        let mut object = object.clone();
        let spec = &object["spec"];
        object["spec"] = if wanted == "x.io/v2" {
            let (width, height) =
                spec["size"].as_str().and_then(|size| size.split_once('x')).expect("a size");
            json!({"width": width.parse::<u32>().expect("a number"), "height": height.parse::<u32>().expect("a number")})
        } else {
            json!({"size": format!("{}x{}", spec["width"], spec["height"])})
        };
        object["apiVersion"] = wanted.clone();
        object["metadata"]["labels"] = json!({"converted": path.trim_start_matches('/')});
        object
    };
    json!({"result": {"status": "Success"}, "convertedObjects": objects.iter().map(one).collect::<Vec<_>>()})
}

async fn plane() -> (ControlPlane, Rest, Server) {
    let server = Server::start(convert).await;
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    let made = rest.post(DEFINITIONS, &definition(&server)).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    testkit::eventually("the kind is served", || async {
        rest.get(V2).await.is_ok_and(|answer| answer.code == 200)
    })
    .await
    .expect("in time");
    (plane, rest, server)
}

pub(super) fn v1(name: &str, size: &str) -> Value {
    json!({"apiVersion": "x.io/v1", "kind": "Box", "metadata": {"name": name}, "spec": {"size": size}})
}

fn v2(name: &str, width: u32, height: u32) -> Value {
    json!({"apiVersion": "x.io/v2", "kind": "Box", "metadata": {"name": name},
        "spec": {"width": width, "height": height}})
}

/// How often the webhook was called, and for how many objects.
fn calls(server: &Server) -> (usize, usize) {
    let asked = server.hook.asked.lock();
    let objects = asked.iter().map(|(_, asked)| asked["objects"].as_array().map_or(0, Vec::len)).sum();
    (asked.len(), objects)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_seen_in_every_version() {
    let (_plane, rest, server) = plane().await;
    let made = rest.post(V1, &v1("a", "1x2")).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    assert_eq!(calls(&server), (0, 0), "what is stored as it came is not converted");
    let made = rest.post(V2, &v2("b", 3, 4)).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    assert_eq!(made.json()["spec"], json!({"width": 3, "height": 4, "depth": 7}));

    let read = rest.get(&format!("{V2}/a")).await.expect("answers").json();
    assert_eq!((&read["apiVersion"], &read["spec"]["width"]), (&json!("x.io/v2"), &json!(1)));
    assert_eq!(read["metadata"]["labels"], json!({"converted": "convert"}));
    let read = rest.get(&format!("{V1}/b")).await.expect("answers").json();
    assert_eq!((&read["apiVersion"], &read["spec"]), (&json!("x.io/v1"), &json!({"size": "3x4"})));

    rest.post(V1, &v1("c", "5x6")).await.expect("answers");
    let before = calls(&server);
    let list = rest.get(V2).await.expect("answers").json();
    let widths: Vec<&Value> =
        list["items"].as_array().expect("items").iter().map(|one| &one["spec"]["width"]).collect();
    assert_eq!(widths, [1, 3, 5]);
    let after = calls(&server);
    assert!(after.0 <= before.0 + 1, "one call for all that are not known yet: {before:?} {after:?}");

    let patched = rest.merge(&format!("{V2}/a"), &json!({"spec": {"height": 9}})).await.expect("answers");
    assert_eq!(patched.code, 200, "{}", patched.json());
    let read = rest.get(&format!("{V1}/a")).await.expect("answers").json();
    assert_eq!(read["spec"], json!({"size": "1x9"}));
    assert_eq!(rest.delete(&format!("{V2}/a")).await.expect("answers").code, 200);
    assert_eq!(rest.get(&format!("{V1}/a")).await.expect("answers").code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_conversion_is_told() {
    let (_plane, rest, _server) = plane().await;
    assert_eq!(rest.post(V1, &v1("bad", "1x2")).await.expect("answers").code, 201);
    for at in [format!("{V2}/bad"), V2.to_owned()] {
        let answer = rest.get(&at).await.expect("answers");
        assert_eq!(answer.code, 500, "{at}");
        let message = answer.json()["message"].as_str().expect("a message").to_owned();
        assert!(
            message.ends_with("conversion webhook for x.io/v1, Kind=Box failed: bad is bad"),
            "{message}"
        );
    }
    // In its own version it is there, and can go.
    assert_eq!(rest.get(&format!("{V1}/bad")).await.expect("answers").code, 200);
    assert_eq!(rest.delete(&format!("{DEFINITIONS}/boxes.x.io")).await.expect("answers").code, 200);
    testkit::eventually("the definition is gone", || async {
        rest.get(&format!("{DEFINITIONS}/boxes.x.io")).await.is_ok_and(|answer| answer.code == 404)
    })
    .await
    .expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_share_what_was_converted() {
    let (_plane, rest, server) = plane().await;
    rest.post(V1, &v1("first", "1x1")).await.expect("answers");
    let mut watches = Vec::new();
    for _ in 0..8 {
        watches.push(Events::open(&rest, &format!("{V2}?watch=true")).await);
    }
    for watch in &mut watches {
        watch.expect("ADDED", "first").await;
    }
    let before = calls(&server).1;
    rest.post(V1, &v1("w", "8x9")).await.expect("answers");
    for watch in &mut watches {
        let object = watch.expect("ADDED", "w").await;
        assert_eq!(object["spec"], json!({"width": 8, "height": 9, "depth": 7}));
    }
    assert_eq!(calls(&server).1, before + 1, "one conversion for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_say_how_they_convert() {
    let (_plane, rest, server) = plane().await;
    for (change, wanted) in [
        (json!({"strategy": "Other"}), "spec.conversion.strategy: Unsupported value: \"Other\""),
        (
            json!({"strategy": "Webhook"}),
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
        ),
        (
            json!({"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": server.client_config("/c")}}),
            "spec.conversion.webhookClientConfig: Forbidden: should not be set when strategy is not set to Webhook",
        ),
        (
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v9"], "clientConfig": server.client_config("/c")}}),
            "must include at least one of v1, v1beta1",
        ),
        (
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {}}}),
            "spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required",
        ),
        (
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {"url": "http://x/"}}}),
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme",
        ),
    ] {
        let mut other = definition(&server);
        other["metadata"]["name"] = json!("others.x.io");
        other["spec"]["names"] = json!({"plural": "others", "kind": "Other"});
        other["spec"]["conversion"] = change.clone();
        let answer = rest.post(DEFINITIONS, &other).await.expect("answers");
        assert_eq!(answer.code, 422, "{change}: {}", answer.json());
        let message = answer.json()["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(wanted), "{wanted} in {message}");
    }
}
