//! Custom resources through the REST front: established at once, served like any
//! kind, and gone with their definition.

use http::Method;
use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/x.io/v1/namespaces/default/widgets";
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

fn definition() -> Value {
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer", "minimum": 1},
                    "color": {"type": "string", "default": "red"},
                },
            },
            "status": {"type": "object", "properties": {"n": {"type": "integer"}}},
        },
    });
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema},
            "subresources": {
                "status": {},
                "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.n"},
            },
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
            "selectableFields": [{"jsonPath": ".spec.color"}],
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.x.io"},
        "spec": {
            "group": "x.io", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["w"], "categories": ["all"]},
            "versions": [version("v1", true), version("v2alpha1", false)],
        },
    })
}

fn widget(name: &str, size: i64) -> Value {
    json!({"apiVersion": "x.io/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size}})
}

async fn plane() -> (ControlPlane, Rest) {
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    let made = rest.post(DEFINITIONS, &definition()).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    served(&rest, 200).await;
    (plane, rest)
}

async fn served(rest: &Rest, code: u16) {
    testkit::eventually("the kind is served, or not", || async {
        rest.get(WIDGETS).await.is_ok_and(|answer| answer.code == code)
    })
    .await
    .expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_served_like_any_kind() {
    let (mut plane, rest) = plane().await;
    let definition = rest.get(&format!("{DEFINITIONS}/widgets.x.io")).await.expect("answers").json();
    let conditions: Vec<(&str, &str)> = definition["status"]["conditions"]
        .as_array()
        .expect("conditions")
        .iter()
        .map(|one| (one["type"].as_str().expect("text"), one["status"].as_str().expect("text")))
        .collect();
    assert_eq!(conditions, [("NamesAccepted", "True"), ("Established", "True")]);
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));

    let group = rest.get("/apis/x.io").await.expect("answers").json();
    assert_eq!(group["preferredVersion"]["version"], "v1", "{group}");
    let list = rest.get("/apis/x.io/v1").await.expect("answers").json();
    let names: Vec<&str> = list["resources"]
        .as_array()
        .expect("resources")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(names, ["widgets", "widgets/status", "widgets/scale"]);
    let document = rest.get("/openapi/v3/apis/x.io/v1").await.expect("answers").json();
    assert_eq!(
        document["components"]["schemas"]["io.x.v1.Widget"]["properties"]["spec"]["properties"]["size"]["type"],
        "integer"
    );
    let second = rest.get("/openapi/v2").await.expect("answers").json();
    let size = &second["definitions"]["io.x.v1.Widget"]["properties"]["spec"]["properties"]["size"];
    assert_eq!(size, &json!({"type": "integer", "minimum": 1}));
    let media = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    for asked in [media, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"] {
        let wire = rest.send(Method::GET, "/openapi/v2", &[("accept", asked)], "").await.expect("answers");
        assert_eq!(wire.headers["content-type"], media);
        assert!(wire.body.starts_with(b"\x0a\x032.0"), "the version comes first");
    }

    let made = rest.post(WIDGETS, &widget("a", 3)).await.expect("answers");
    assert_eq!((made.code, made.json()["spec"]["color"].clone()), (201, "red".into()), "{}", made.json());
    let refused = rest.post(WIDGETS, &widget("b", 0)).await.expect("answers");
    assert_eq!(refused.code, 422, "{}", refused.json());
    assert_eq!(
        refused.json()["message"],
        "Widget.x.io \"b\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"
    );
    let other = rest.get("/apis/x.io/v2alpha1/namespaces/default/widgets/a").await.expect("answers").json();
    assert_eq!((&other["apiVersion"], &other["spec"]["size"]), (&json!("x.io/v2alpha1"), &json!(3)));

    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = rest.send(Method::GET, WIDGETS, &accept, "").await.expect("answers").json();
    assert_eq!(table["rows"][0]["cells"], json!(["a", 3]));
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    let blue = rest.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dblue")).await.expect("answers").json();
    assert_eq!(blue["items"], json!([]));
    let red = rest.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dred")).await.expect("answers").json();
    assert_eq!((&red["kind"], red["items"].as_array().map(Vec::len)), (&json!("WidgetList"), Some(1)));

    // What was established is there again after a restart.
    plane.restart().await.expect("restarts");
    let rest = plane.rest().expect("client");
    assert_eq!(rest.get(&format!("{WIDGETS}/a")).await.expect("answers").json()["spec"]["size"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_patches_and_applies() {
    let (_plane, rest) = plane().await;
    rest.post(WIDGETS, &widget("a", 3)).await.expect("answers");
    let path = format!("{WIDGETS}/a");
    let patch = |path: String, body: &'static str| {
        let rest = rest.clone();
        async move { rest.send(Method::PATCH, &path, &MERGE, body).await.expect("answers") }
    };
    let reported = patch(format!("{path}/status"), r#"{"spec":{"size":9},"status":{"n":2}}"#).await.json();
    assert_eq!((&reported["spec"]["size"], &reported["status"]["n"]), (&json!(3), &json!(2)));
    assert_eq!(reported["metadata"]["generation"], 1);
    let scaled = patch(format!("{path}/scale"), r#"{"spec":{"replicas":5}}"#).await.json();
    assert_eq!(
        (&scaled["kind"], &scaled["spec"]["replicas"], &scaled["status"]["replicas"]),
        (&json!("Scale"), &json!(5), &json!(2))
    );
    let changed = patch(path.clone(), r#"{"spec":{"size":6,"sise":1}}"#).await;
    assert_eq!(changed.headers.get("warning").expect("a warning"), r#"299 - "unknown field \"spec.sise\"""#);
    assert_eq!(changed.json()["metadata"]["generation"], 3);
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    assert_eq!(rest.send(Method::PATCH, &path, &strategic, "{}").await.expect("answers").code, 415);

    let apply = [("content-type", "application/apply-patch+yaml")];
    let body = widget("a", 8).to_string();
    let query = "fieldManager=me";
    let refused =
        rest.send(Method::PATCH, &format!("{path}?{query}"), &apply, body.clone()).await.expect("answers");
    assert_eq!(refused.code, 409, "{}", refused.json());
    let forced =
        rest.send(Method::PATCH, &format!("{path}?{query}&force=true"), &apply, body).await.expect("answers");
    assert_eq!(forced.json()["spec"]["size"], 8, "{}", forced.json());
    let no_version = rest
        .send(Method::PUT, &path, &[("content-type", "application/json")], widget("a", 2).to_string())
        .await
        .expect("answers");
    assert_eq!(no_version.code, 422, "an update says what it changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_go_with_their_definition() {
    let (_plane, rest) = plane().await;
    let mut held = widget("held", 1);
    held["metadata"]["finalizers"] = json!(["x.io/hold"]);
    rest.post(WIDGETS, &held).await.expect("answers");
    rest.post(WIDGETS, &widget("free", 1)).await.expect("answers");
    let path = format!("{DEFINITIONS}/widgets.x.io");
    rest.delete(&path).await.expect("answers");
    testkit::eventually("what nothing holds is gone", || async {
        rest.get(&format!("{WIDGETS}/free")).await.is_ok_and(|answer| answer.code == 404)
    })
    .await
    .expect("in time");
    let terminating = rest.get(&path).await.expect("answers").json();
    assert!(terminating["metadata"]["deletionTimestamp"].is_string(), "{terminating}");
    let body = r#"{"metadata":{"finalizers":null}}"#;
    rest.send(Method::PATCH, &format!("{WIDGETS}/held"), &MERGE, body).await.expect("answers");
    testkit::eventually("the definition is gone", || async {
        rest.get(&path).await.is_ok_and(|answer| answer.code == 404)
    })
    .await
    .expect("in time");
    served(&rest, 404).await;
    // Made again, it begins empty.
    assert_eq!(rest.post(DEFINITIONS, &definition()).await.expect("answers").code, 201);
    served(&rest, 200).await;
    assert_eq!(rest.get(WIDGETS).await.expect("answers").json()["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_belong_to_the_first() {
    let (_plane, rest) = plane().await;
    let mut second = definition();
    second["metadata"]["name"] = json!("wheels.x.io");
    second["spec"]["names"] = json!({"plural": "wheels", "kind": "Wheel", "shortNames": ["w"]});
    rest.post(DEFINITIONS, &second).await.expect("answers");
    let path = format!("{DEFINITIONS}/wheels.x.io");
    testkit::eventually("the conflict is reported", || async {
        let found = rest.get(&path).await.map(|answer| answer.json()).unwrap_or_default();
        found["status"]["conditions"][0]["reason"] == "ShortNamesConflict"
    })
    .await
    .expect("in time");
    assert_eq!(rest.get("/apis/x.io/v1/namespaces/default/wheels").await.expect("answers").code, 404);
    rest.delete(&format!("{DEFINITIONS}/widgets.x.io")).await.expect("answers");
    testkit::eventually("the name is free", || async {
        rest.get("/apis/x.io/v1/namespaces/default/wheels").await.is_ok_and(|answer| answer.code == 200)
    })
    .await
    .expect("in time");
}
