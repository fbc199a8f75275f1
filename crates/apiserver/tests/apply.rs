//! Server-side apply, and the owners that every other write leaves behind.

use http::Method;
use serde_json::{Value, json};
use testkit::{Answer, ControlPlane, Rest};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const APPLY: [(&str, &str); 1] = [("content-type", "application/apply-patch+yaml")];
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

async fn plane() -> (ControlPlane, Rest) {
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    (plane, rest)
}

fn deployment(replicas: u32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    })
}

async fn apply(rest: &Rest, path: &str, manager: &str, body: &Value) -> Answer {
    let path = format!("{path}?fieldManager={manager}");
    rest.send(Method::PATCH, &path, &APPLY, body.to_string()).await.expect("answers")
}

fn owned<'a>(object: &'a Value, manager: &str, subresource: &str) -> &'a Value {
    let entries = object["metadata"]["managedFields"].as_array().expect("owners");
    let found = entries.iter().find(|entry| {
        entry["manager"] == manager && entry["subresource"].as_str().unwrap_or_default() == subresource
    });
    found.map_or(&Value::Null, |entry| &entry["fieldsV1"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_applied_shared_and_taken() {
    let (_plane, rest) = plane().await;
    let web = format!("{DEPLOYMENTS}/web");
    let made = apply(&rest, &web, "one", &deployment(1, "i1")).await;
    assert_eq!(made.code, 201, "{}", made.json());
    assert_eq!(made.json()["spec"]["strategy"]["type"], "RollingUpdate", "defaults are filled in");
    assert_eq!(owned(&made.json(), "one", "")["f:spec"].get("f:strategy"), None, "and nobody's");
    let again = apply(&rest, &web, "one", &deployment(1, "i1")).await.json();
    assert_eq!(again["metadata"]["resourceVersion"], made.json()["metadata"]["resourceVersion"]);

    let refused = apply(&rest, &web, "two", &deployment(2, "i1")).await;
    let status = refused.json();
    assert_eq!((refused.code, status["reason"].as_str()), (409, Some("Conflict")), "{status}");
    assert_eq!(status["message"], "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    assert_eq!(
        status["details"]["causes"][0],
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.replicas"})
    );
    let forced = apply(&rest, &web, "two&force=true", &deployment(2, "i1")).await.json();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(owned(&forced, "one", "")["f:spec"].get("f:replicas"), None);
    assert!(owned(&forced, "two", "")["f:spec"].get("f:replicas").is_some());

    // What two gives up goes: a default takes its place.
    let mut less = deployment(0, "i1");
    less["spec"].as_object_mut().expect("spec").remove("replicas");
    let less = apply(&rest, &web, "two", &less).await.json();
    assert_eq!(less["spec"]["replicas"], 1, "{less}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_writes_leave_owners_behind() {
    let (_plane, rest) = plane().await;
    let made = rest
        .post(&format!("{DEPLOYMENTS}?fieldManager=maker"), &deployment(1, "i"))
        .await
        .expect("answers")
        .json();
    let spec = &owned(&made, "maker", "")["f:spec"];
    assert!(spec.get("f:replicas").is_some() && spec.get("f:strategy").is_some(), "{spec}");
    let web = format!("{DEPLOYMENTS}/web");
    let patched = rest
        .send(
            Method::PATCH,
            &format!("{web}?fieldManager=patcher"),
            &MERGE,
            r#"{"metadata":{"labels":{"a":"b"}}}"#,
        )
        .await
        .expect("answers")
        .json();
    assert_eq!(owned(&patched, "patcher", ""), &json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}));
    // A status is owned through its subresource, and only the status.
    let reported = rest
        .send(
            Method::PATCH,
            &format!("{web}/status?fieldManager=reporter"),
            &MERGE,
            r#"{"spec":{"replicas":7},"status":{"observedGeneration":1}}"#,
        )
        .await
        .expect("answers")
        .json();
    assert_eq!(
        owned(&reported, "reporter", "status"),
        &json!({"f:status": {"f:observedGeneration": {}}}),
        "{reported}"
    );
    // So are replicas through a scale.
    let scaled = rest
        .send(
            Method::PATCH,
            &format!("{web}/scale?fieldManager=scaler"),
            &MERGE,
            r#"{"spec":{"replicas":4}}"#,
        )
        .await
        .expect("answers");
    assert_eq!(scaled.json()["spec"]["replicas"], 4, "{}", scaled.json());
    let scaled = rest.get(&web).await.expect("answers").json();
    assert_eq!(owned(&scaled, "scaler", "scale"), &json!({"f:spec": {"f:replicas": {}}}));
    let refused = apply(&rest, &web, "applier", &deployment(1, "i")).await.json();
    assert!(
        refused["message"].as_str().expect("message").starts_with(
            "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\" using apps/v1"
        ),
        "{refused}"
    );
    let scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 6},
    });
    let forced = apply(&rest, &format!("{web}/scale"), "applier&force=true", &scale).await.json();
    assert_eq!(forced["spec"]["replicas"], 6, "{forced}");
    // Owners can be reset by hand.
    let reset = rest
        .send(Method::PATCH, &web, &MERGE, r#"{"metadata":{"managedFields":[{}]}}"#)
        .await
        .expect("answers")
        .json();
    assert_eq!(reset["metadata"].get("managedFields"), None, "{reset}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_applied_by_itself() {
    let (_plane, rest) = plane().await;
    let web = format!("{DEPLOYMENTS}/web");
    let status = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 9}, "status": {"observedGeneration": 3},
    });
    assert_eq!(apply(&rest, &format!("{web}/status"), "r", &status).await.code, 404, "it makes nothing");
    apply(&rest, &web, "one", &deployment(1, "i")).await;
    let applied = apply(&rest, &format!("{web}/status"), "r", &status).await.json();
    assert_eq!(
        (&applied["spec"]["replicas"], &applied["status"]["observedGeneration"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(owned(&applied, "r", "status"), &json!({"f:status": {"f:observedGeneration": {}}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_applies_say_why() {
    let (_plane, rest) = plane().await;
    let web = format!("{DEPLOYMENTS}/web");
    let no_manager =
        rest.send(Method::PATCH, &web, &APPLY, deployment(1, "i").to_string()).await.expect("answers");
    assert_eq!(no_manager.code, 422);
    assert!(no_manager.json()["message"].as_str().expect("message").contains("fieldManager: Required value"));
    let force = rest.send(Method::PATCH, &format!("{web}?force=true"), &MERGE, "{}").await.expect("answers");
    assert_eq!(force.code, 422);
    let mut unknown = deployment(1, "i");
    unknown["spec"]["replica"] = json!(1);
    let unknown = apply(&rest, &web, "one", &unknown).await;
    assert_eq!(
        unknown.json()["message"],
        "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema"
    );
    let mut other = deployment(1, "i");
    other["kind"] = json!("StatefulSet");
    assert_eq!(apply(&rest, &web, "one", &other).await.code, 400);
    let mut owners = deployment(1, "i");
    owners["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    let owners = apply(&rest, &web, "one", &owners).await;
    assert_eq!(
        (owners.code, owners.json()["message"].clone()),
        (400, "metadata.managedFields must be nil".into())
    );
    let stale = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "m", "uid": "00000000-0000-0000-0000-000000000000"},
    });
    let stale = apply(&rest, "/api/v1/namespaces/default/configmaps/m", "one", &stale).await;
    assert_eq!(stale.code, 409, "{}", stale.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn appliers_in_two_versions_of_one_kind_share() {
    let (_plane, rest) = plane().await;
    let base =
        |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/a");
    let of = |version: &str, spec: Value| {
        json!({
            "apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a"}, "spec": spec,
        })
    };
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let first = of("v1", json!({"maxReplicas": 5, "minReplicas": 2, "scaleTargetRef": target}));
    let made = apply(&rest, &base("v1"), "one", &first).await;
    assert_eq!(made.code, 201, "{}", made.json());
    let second = of("v2", json!({"maxReplicas": 7}));
    let refused = apply(&rest, &base("v2"), "two", &second).await.json();
    assert_eq!(
        refused["message"], "Apply failed with 1 conflict: conflict with \"one\": .spec.maxReplicas",
        "{refused}"
    );
    let forced = apply(&rest, &base("v2"), "two&force=true", &second).await.json();
    assert_eq!((&forced["spec"]["maxReplicas"], &forced["spec"]["minReplicas"]), (&json!(7), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_generates_is_nobodys() {
    let (_plane, rest) = plane().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    });
    let made = rest.post(&format!("{jobs}?fieldManager=maker"), &job).await.expect("answers").json();
    assert!(made["metadata"]["labels"]["job-name"] == "j", "{made}");
    let spec = &owned(&made, "maker", "")["f:spec"];
    assert!(spec.get("f:selector").is_none(), "{spec}");
    assert!(spec["f:template"].get("f:metadata").is_none(), "{spec}");
    // So a manager that takes over the fields, and applies them, generates nothing away.
    job["spec"]["backoffLimit"] = json!(2);
    let path = format!("{jobs}/j");
    let applied = apply(&rest, &path, "maker&force=true", &job).await;
    assert_eq!(applied.code, 200, "{}", applied.json());
}
