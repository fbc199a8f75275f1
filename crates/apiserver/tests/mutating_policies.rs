//! Policies that change what is written.

use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn plane() -> (ControlPlane, Rest) {
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    (plane, rest)
}

async fn create(rest: &Rest, at: &str, object: Value) {
    let made = rest.post(at, &object).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    // Admission reads from the watch cache, and a consistent list waits for it.
    assert_eq!(rest.get(at).await.expect("answers").code, 200, "{at}");
}

/// Puts a policy for deployments and config maps into force.
async fn bind(rest: &Rest, name: &str, mutations: &[Value], more: Value) {
    let rule = |group: &str, resource: &str| json!({"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]});
    let mut spec = json!({
        "matchConstraints": {"resourceRules": [rule("apps", "deployments"), rule("", "configmaps")]},
        "mutations": mutations, "reinvocationPolicy": "Never", "failurePolicy": "Fail",
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    create(rest, POLICIES, json!({"metadata": {"name": name}, "spec": spec})).await;
    create(rest, BINDINGS, json!({"metadata": {"name": format!("{name}-b")}, "spec": {"policyName": name}}))
        .await;
}

fn apply(source: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": source}})
}

fn patch(source: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": source}})
}

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [
            {"name": "c", "image": "i", "args": ["one"]},
        ]}},
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_are_changed() {
    let (_plane, rest) = plane().await;
    let containers = "object.spec.template.spec.containers.map(c, Object.spec.template.spec.containers{name: c.name, image: 'registry/' + c.image})";
    let mutations = [
        apply(&format!(
            "Object{{spec: Object.spec{{replicas: object.spec.replicas + variables.more, template: Object.spec.template{{spec: Object.spec.template.spec{{containers: {containers}}}}}}}}}"
        )),
        // It sees what the one before did.
        patch(
            "[JSONPatch{op: 'add', path: '/metadata/annotations', value: {'replicas': string(object.spec.replicas)}}, JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('x.io/y'), value: 'z'}]",
        ),
        // A test that fails changes nothing.
        patch(
            "[JSONPatch{op: 'test', path: '/spec/replicas', value: 99}, JSONPatch{op: 'replace', path: '/spec/replicas', value: 1}]",
        ),
    ];
    let more = json!({
        "variables": [{"name": "more", "expression": "2"}],
        "matchConditions": [{"name": "c", "expression": "request.operation == 'CREATE'"}],
    });
    bind(&rest, "p", &mutations, more).await;
    let made = rest.post(DEPLOYMENTS, &deployment("d")).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    let made = made.json();
    assert_eq!(made["spec"]["replicas"], 3);
    assert_eq!(made["metadata"]["annotations"], json!({"replicas": "3", "x.io/y": "z"}));
    let container = &made["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["image"], &container["args"]), (&json!("registry/i"), &json!(["one"])));
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log", "what is filled in stays");
    // The condition does not hold for an update.
    let changed =
        rest.merge(&format!("{DEPLOYMENTS}/d"), &json!({"spec": {"replicas": 5}})).await.expect("answers");
    assert_eq!(changed.json()["spec"]["replicas"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_is_refused() {
    let (_plane, rest) = plane().await;
    for (mutation, why) in [
        (
            apply(
                "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'c', args: ['two']}]}}}}",
            ),
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[0].args",
        ),
        (
            apply("Object{spec: Object.spec{nope: 1}}"),
            "error applying patch: failed to convert patch object to typed object: .spec.nope: field not declared in schema",
        ),
        (patch("[JSONPatch{op: 'remove', path: '/nope'}]"), "JSON Patch: "),
        (
            apply("Object{spec: Object.spec{replicas: object.spec.nope}}"),
            "expression 'Object{spec: Object.spec{replicas: object.spec.nope}}' resulted in error: no such key: nope",
        ),
    ] {
        bind(&rest, "p", std::slice::from_ref(&mutation), json!({})).await;
        let answer = rest.post(DEPLOYMENTS, &deployment("d")).await.expect("answers");
        assert_eq!(answer.code, 422, "{mutation}: {}", answer.json());
        let told = answer.json()["message"].as_str().expect("a message").to_owned();
        let start = format!(
            "deployments.apps \"d\" is forbidden: policy 'p' with binding 'p-b' denied request: {why}"
        );
        assert!(told.starts_with(&start), "{told}\n{start}");
        assert_eq!(
            rest.merge(&format!("{POLICIES}/p"), &json!({"spec": {"failurePolicy": "Ignore"}}))
                .await
                .expect("answers")
                .code,
            200
        );
        rest.get(POLICIES).await.expect("answers");
        let answer =
            rest.post(&format!("{DEPLOYMENTS}?dryRun=All"), &deployment("d")).await.expect("answers");
        assert_eq!(answer.code, 201, "{mutation}: {}", answer.json());
        for at in [format!("{POLICIES}/p"), format!("{BINDINGS}/p-b")] {
            assert_eq!(rest.delete(&at).await.expect("answers").code, 200);
        }
        rest.get(POLICIES).await.expect("answers");
        rest.get(BINDINGS).await.expect("answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_asked_again_for_what_others_did() {
    let (_plane, rest) = plane().await;
    let mark = |name: &str| {
        patch(&format!(
            "[JSONPatch{{op: 'add', path: '/data/{name}', value: (has(object.data.{name}) ? object.data.{name} : '') + string(size(object.data))}}]"
        ))
    };
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    bind(&rest, "a", &[mark("a")], again).await;
    bind(&rest, "b", &[mark("b")], json!({})).await;
    let made =
        rest.post(MAPS, &json!({"metadata": {"name": "m"}, "data": {"k": "v"}})).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    // The first sees what the second did, and the second is not asked twice.
    assert_eq!(made.json()["data"], json!({"k": "v", "a": "13", "b": "2"}));
}
