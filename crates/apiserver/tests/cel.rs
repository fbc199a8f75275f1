//! Expressions through the REST front: in schemas, in webhooks' match conditions,
//! and in policies.

use http::Method;
use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/x.io/v1/namespaces/default/widgets";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

async fn plane() -> (ControlPlane, Rest) {
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    (plane, rest)
}

async fn create(rest: &Rest, at: &str, object: Value) {
    let made = rest.post(at, &object).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    settle(rest, at).await;
}

/// Admission reads from the watch cache, and a consistent list waits for it.
async fn settle(rest: &Rest, at: &str) {
    assert_eq!(rest.get(at).await.expect("answers").code, 200, "{at}");
}

fn definition(rule: &str) -> Value {
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "min": {"type": "integer"}, "max": {"type": "integer"},
                    "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]},
                },
                "x-kubernetes-validations": [{"rule": rule}],
            },
            "status": {
                "type": "object", "properties": {"n": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.n > 0", "fieldPath": ".n", "message": "must be positive"}],
            },
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.x.io"},
        "spec": {
            "group": "x.io", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}},
            }],
        },
    })
}

fn widget(spec: Value) -> Value {
    json!({"apiVersion": "x.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_schemas_are_enforced() {
    let (_plane, rest) = plane().await;
    let refused = rest.post(DEFINITIONS, &definition("self.nope == 1")).await.expect("answers");
    assert_eq!(refused.code, 422);
    let message = refused.json()["message"].as_str().expect("message").to_owned();
    assert!(
        message.contains(
            "compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^"
        ),
        "{message}"
    );
    create(&rest, DEFINITIONS, definition("self.min <= self.max")).await;
    testkit::eventually("the kind is served", || async {
        rest.get(WIDGETS).await.is_ok_and(|answer| answer.code == 200)
    })
    .await
    .expect("in time");
    let refused = rest.post(WIDGETS, &widget(json!({"min": 2, "max": 1}))).await.expect("answers");
    assert_eq!(
        (refused.code, refused.json()["message"].as_str()),
        (422, Some("Widget.x.io \"w\" is invalid: spec: Invalid value: failed rule: self.min <= self.max"))
    );
    create(&rest, WIDGETS, widget(json!({"min": 1, "max": 2, "name": "a"}))).await;
    let patch = |path: String, patch: Value| {
        let rest = &rest;
        async move { rest.send(Method::PATCH, &path, &MERGE, patch.to_string()).await.expect("answers") }
    };
    for (path, change, code, message) in [
        ("w", json!({"spec": {"min": 0}}), 200, ""),
        ("w", json!({"spec": {"min": 3}}), 422, "spec: Invalid value: failed rule: self.min <= self.max"),
        ("w", json!({"spec": {"name": "b"}}), 422, "spec.name: Invalid value: \"b\": is immutable"),
        ("w/status", json!({"status": {"n": 0}}), 422, "status.n: Invalid value: must be positive"),
        ("w/status", json!({"status": {"n": 1}}), 200, ""),
    ] {
        let answer = patch(format!("{WIDGETS}/{path}"), change.clone()).await;
        assert_eq!(answer.code, code, "{change}: {}", answer.json());
        if code != 200 {
            assert_eq!(
                answer.json()["message"],
                format!("Widget.x.io \"w\" is invalid: {message}"),
                "{change}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn match_conditions_decide_who_is_called() {
    let (_plane, rest) = plane().await;
    let hook = |name: &str, policy: &str, expression: &str| {
        json!({"metadata": {"name": name}, "webhooks": [{
            "name": format!("{name}.x.io"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            // Nobody listens: to be called is to fail.
            "clientConfig": {"url": "https://127.0.0.1:1/"}, "failurePolicy": policy,
            "matchConditions": [{"name": "c", "expression": expression}],
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
        }]})
    };
    for (policy, expression, code, message) in [
        ("Fail", "object.metadata.name.startsWith('b')", 201, ""),
        (
            "Fail",
            "request.operation == 'CREATE' && request.userInfo.username == 'admin'",
            500,
            "failed calling webhook",
        ),
        (
            "Fail",
            "oldObject == null && request.namespace == 'default' && !request.dryRun",
            500,
            "failed calling webhook",
        ),
        ("Fail", "!authorizer.group('').resource('pods').namespace('x').check('create').allowed()", 201, ""),
        ("Fail", "authorizer.path('/healthz').check('get').allowed()", 500, "failed calling webhook"),
        (
            "Fail",
            "object.data.nope == 'x'",
            403,
            "configmaps \"a\" is forbidden: expression 'object.data.nope == 'x'' resulted in error: no such key: nope",
        ),
        ("Ignore", "object.data.nope == 'x'", 201, ""),
    ] {
        create(&rest, VALIDATING, hook("h", policy, expression)).await;
        let answer =
            rest.post(MAPS, &json!({"metadata": {"name": "a"}, "data": {"a": "b"}})).await.expect("answers");
        assert_eq!(answer.code, code, "{expression}: {}", answer.json());
        let said = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(said.contains(message), "{expression}: {said}");
        rest.delete(&format!("{VALIDATING}/h")).await.expect("answers");
        settle(&rest, VALIDATING).await;
        rest.delete(&format!("{MAPS}/a")).await.expect("answers");
    }
}

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

/// A policy on configmaps with more in its spec, and its binding with more in its.
async fn bind(rest: &Rest, name: &str, policy: Value, binding: Value) {
    let mut spec = json!({
        "matchConstraints": {"resourceRules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
            "resources": ["configmaps"],
        }]},
    });
    let mut bound = json!({"policyName": name, "validationActions": ["Deny"]});
    for (to, from) in [(&mut spec, policy), (&mut bound, binding)] {
        for (key, value) in from.as_object().into_iter().flatten() {
            to[key] = value.clone();
        }
    }
    create(rest, POLICIES, json!({"metadata": {"name": name}, "spec": spec})).await;
    create(rest, BINDINGS, json!({"metadata": {"name": format!("{name}-b")}, "spec": bound})).await;
}

async fn unbind(rest: &Rest, name: &str) {
    for path in [format!("{BINDINGS}/{name}-b"), format!("{POLICIES}/{name}")] {
        let gone = rest.delete(&path).await.expect("answers");
        assert_eq!(gone.code, 200, "{}", gone.json());
    }
    settle(rest, POLICIES).await;
}

/// Creates a map, and deletes it again if that is taken.
async fn try_map(rest: &Rest, data: Value) -> (u16, String, String) {
    let made = rest.post(MAPS, &json!({"metadata": {"name": "m"}, "data": data})).await.expect("answers");
    let warning = made.headers.get("warning").map(|value| value.to_str().expect("text").to_owned());
    let message = made.json()["message"].as_str().unwrap_or_default().to_owned();
    if made.code == 201 {
        let gone = rest.delete(&format!("{MAPS}/m")).await.expect("answers");
        assert_eq!(gone.code, 200, "{}", gone.json());
    }
    (made.code, message, warning.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_judge() {
    let (_plane, rest) = plane().await;
    let denied = |why: &str| {
        format!(
            "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p-b' denied request: {why}"
        )
    };
    let rule = "object.data.size == 'small'";
    for (policy, data, code, message) in [
        (json!({"validations": [{"expression": rule}]}), json!({"size": "small"}), 201, String::new()),
        (
            json!({"validations": [{"expression": rule}]}),
            json!({"size": "big"}),
            422,
            denied(&format!("failed expression: {rule}")),
        ),
        (
            json!({"validations": [{"expression": rule, "message": "too big", "reason": "Forbidden"}]}),
            json!({"size": "big"}),
            403,
            denied("too big"),
        ),
        (
            json!({"validations": [{"expression": rule, "messageExpression": "object.data.size + ' is too big'"}]}),
            json!({"size": "huge"}),
            422,
            denied("huge is too big"),
        ),
        (
            json!({
                "variables": [
                    {"name": "size", "expression": "object.data.size"},
                    {"name": "words", "expression": "[variables.size, namespaceObject.metadata.name]"},
                    {"name": "unused", "expression": "object.data.nope"},
                ],
                "validations": [{"expression": "variables.words == ['small', 'default']"}],
            }),
            json!({"size": "small"}),
            201,
            String::new(),
        ),
        (
            json!({"matchConditions": [{"name": "c", "expression": "object.data.size == 'big'"}], "validations": [{"expression": "false"}]}),
            json!({"size": "small"}),
            201,
            String::new(),
        ),
        (
            json!({"validations": [{"expression": "object.data.nope == ''"}]}),
            json!({}),
            422,
            denied("expression 'object.data.nope == ''' resulted in error: no such key: data"),
        ),
        (
            json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.data.nope == ''"}]}),
            json!({}),
            201,
            String::new(),
        ),
    ] {
        bind(&rest, "p", policy.clone(), json!({})).await;
        let (found, said, _) = try_map(&rest, data).await;
        assert_eq!((found, said), (code, message), "{policy}");
        unbind(&rest, "p").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_are_judged_by_what_was() {
    let (_plane, rest) = plane().await;
    create(&rest, MAPS, json!({"metadata": {"name": "m"}, "data": {"keep": "yes"}})).await;
    let deletions = json!({
        "matchConstraints": {"resourceRules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"],
        }]},
        "validations": [{"expression": "object == null && oldObject.data.keep != 'yes'", "message": "kept"}],
    });
    bind(&rest, "p", deletions, json!({})).await;
    let refused = rest.delete(&format!("{MAPS}/m")).await.expect("answers");
    assert_eq!(
        (refused.code, refused.json()["message"].as_str()),
        (
            422,
            Some(
                "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p-b' denied request: kept"
            )
        )
    );
    unbind(&rest, "p").await;
    assert_eq!(rest.delete(&format!("{MAPS}/m")).await.expect("answers").code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_choose_and_warn() {
    let (_plane, rest) = plane().await;
    let never = json!({"validations": [{"expression": "false", "message": "never"}]});
    let warned = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p-b': never";
    for (binding, code, warning) in [
        (json!({"validationActions": ["Warn", "Audit"]}), 201, format!("299 - \"{warned}\"")),
        (json!({"validationActions": ["Audit"]}), 201, String::new()),
        (
            json!({"matchResources": {"namespaceSelector": {"matchLabels": {"no": "such"}}}}),
            201,
            String::new(),
        ),
        (json!({"matchResources": {"objectSelector": {"matchLabels": {"no": "such"}}}}), 201, String::new()),
        (
            json!({"matchResources": {"excludeResourceRules": [{
                "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"], "resourceNames": ["m"],
            }]}}),
            201,
            String::new(),
        ),
        (json!({}), 422, String::new()),
    ] {
        bind(&rest, "p", never.clone(), binding.clone()).await;
        let (found, _, said) = try_map(&rest, json!({})).await;
        assert_eq!((found, said), (code, warning), "{binding}");
        unbind(&rest, "p").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_come_from_objects() {
    let (_plane, rest) = plane().await;
    let limit = |name: &str, size: &str| json!({"metadata": {"name": name, "labels": {"limit": "yes"}}, "data": {"size": size}});
    create(&rest, MAPS, limit("l1", "3")).await;
    create(&rest, MAPS, limit("l2", "5")).await;
    let policy = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{
            "expression": "int(object.data.size) <= int(params.data.size)",
            "messageExpression": "'at most ' + params.data.size",
        }],
    });
    let denied = |why: &str| {
        format!(
            "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p-b' denied request: {why}"
        )
    };
    let by_label = json!({"selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Deny"});
    for (reference, size, code, message) in [
        (json!({"name": "l1", "parameterNotFoundAction": "Deny"}), "3", 201, String::new()),
        (json!({"name": "l1", "parameterNotFoundAction": "Deny"}), "4", 422, denied("at most 3")),
        (by_label.clone(), "6", 422, denied("at most 3")),
        (by_label, "2", 201, String::new()),
        (
            json!({"name": "nope", "parameterNotFoundAction": "Deny"}),
            "1",
            422,
            denied(
                "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction",
            ),
        ),
        (json!({"name": "nope", "parameterNotFoundAction": "Allow"}), "9", 201, String::new()),
    ] {
        bind(&rest, "p", policy.clone(), json!({"paramRef": reference})).await;
        let (found, said, _) = try_map(&rest, json!({"size": size})).await;
        assert_eq!((found, said), (code, message), "{reference} {size}");
        unbind(&rest, "p").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_policies_are_stopped() {
    let (_plane, rest) = plane().await;
    let chain = |first: &str, step: &dyn Fn(usize) -> String, length: usize| {
        let mut variables = vec![json!({"name": "v0", "expression": first})];
        variables.extend((1..length).map(|at| json!({"name": format!("v{at}"), "expression": step(at - 1)})));
        variables
    };
    let nested = chain("[1]", &|at| format!("[variables.v{at}]"), 1000);
    let shared = chain("[1]", &|at| format!("[variables.v{at}, variables.v{at}, variables.v{at}]"), 60);
    let doubled = chain("'aaaaaaaaaa'", &|at| format!("variables.v{at} + variables.v{at}"), 60);
    // Asked in their order, each chain is short, and yet the value nests.
    let in_order: String = (0..1000).map(|at| format!("size(variables.v{at}) > 0 && ")).collect();
    for (variables, rule) in [
        (nested.clone(), "variables.v999 == []".to_owned()),
        (nested, format!("{in_order}true")),
        (shared, "variables.v59 == variables.v59".to_owned()),
        (doubled, "size(variables.v59) > 0".to_owned()),
    ] {
        bind(&rest, "p", json!({"variables": variables, "validations": [{"expression": rule}]}), json!({}))
            .await;
        let (code, said, _) = try_map(&rest, json!({})).await;
        assert_eq!(code, 422, "{said}");
        assert!(
            said.ends_with("resulted in error: operation cancelled: actual cost limit exceeded"),
            "{said}"
        );
        unbind(&rest, "p").await;
    }
    assert_eq!(try_map(&rest, json!({})).await.0, 201);
}
