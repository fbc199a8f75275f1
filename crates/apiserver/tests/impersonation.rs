//! Acting as somebody else, by REST and by gRPC.

use client::Client;
use client::kubeconfig::Impersonation;
use http::Method;
use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn who(rest: &Rest, headers: &[(&str, &str)]) -> (u16, Value) {
    let headers = [&[("content-type", "application/json")], headers].concat();
    let answer = rest.send(Method::POST, WHOAMI, &headers, "{}").await.expect("answers");
    let mut body = answer.json();
    if answer.code == 201 {
        (201, body["status"]["userInfo"].take())
    } else {
        (answer.code, body["message"].take())
    }
}

/// Gives `jane` a role with these rules.
async fn grant(admin: &Rest, name: &str, rules: Value) {
    let role = json!({"metadata": {"name": name}, "rules": rules});
    assert_eq!(admin.post(&format!("{RBAC}/clusterroles"), &role).await.expect("answers").code, 201);
    let binding = json!({
        "metadata": {"name": name},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
    });
    assert_eq!(
        admin.post(&format!("{RBAC}/clusterrolebindings"), &binding).await.expect("answers").code,
        201
    );
    // A read waits until everything written is seen.
    admin.get(&format!("{RBAC}/clusterrolebindings")).await.expect("answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_becomes_somebody_else() {
    let plane = ControlPlane::start().await.expect("starts");
    let admin = plane.rest().expect("client");
    let cases: [(&[(&str, &str)], Value); 4] = [
        (&[("Impersonate-User", "bob")], json!({"username": "bob", "groups": ["system:authenticated"]})),
        (
            &[
                ("Impersonate-User", "bob"),
                ("Impersonate-Group", "a"),
                ("Impersonate-Group", "b"),
                ("Impersonate-Uid", "u"),
            ],
            json!({"username": "bob", "uid": "u", "groups": ["a", "b", "system:authenticated"]}),
        ),
        (
            &[("Impersonate-User", "system:serviceaccount:n:sa")],
            json!({"username": "system:serviceaccount:n:sa",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]}),
        ),
        (
            &[
                ("Impersonate-User", "bob"),
                ("Impersonate-Extra-Scopes", "view"),
                ("Impersonate-Extra-Scopes", "edit"),
            ],
            json!({"username": "bob", "groups": ["system:authenticated"], "extra": {"scopes": ["view", "edit"]}}),
        ),
    ];
    for (headers, expected) in cases {
        assert_eq!(who(&admin, headers).await, (201, expected), "{headers:?}");
    }
    // Whoever is not authenticated may not even ask who they are.
    let nobody = who(&admin, &[("Impersonate-User", "system:anonymous")]).await;
    let without =
        who(&admin, &[("Impersonate-User", "bob"), ("Impersonate-Group", "system:unauthenticated")]).await;
    assert_eq!((nobody.0, without.0), (403, 403));
    let (code, why) = who(&admin, &[("Impersonate-Group", "g")]).await;
    assert_eq!(code, 400, "{why}");
    // What the user may, not what the sender may.
    let maps = "/api/v1/namespaces/default/configmaps";
    let answer = admin.send(Method::GET, maps, &[("Impersonate-User", "bob")], "").await.expect("answers");
    assert_eq!(
        (answer.code, answer.json()["message"].clone()),
        (
            403,
            json!(
                "configmaps is forbidden: User \"bob\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\""
            )
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_of_a_user_needs_its_right() {
    let plane = ControlPlane::start().await.expect("starts");
    let admin = plane.rest().expect("client");
    let jane = Rest::new(&plane.session("jane", &[]).expect("session")).expect("client");
    let (code, why) = who(&jane, &[("Impersonate-User", "bob")]).await;
    let expected = "selfsubjectreviews.authentication.k8s.io is forbidden: User \"jane\" cannot \
        impersonate-on:user-info:create resource \"selfsubjectreviews\" in API group \"authentication.k8s.io\" at the cluster scope";
    assert_eq!((code, why), (403, json!(expected)));

    grant(&admin, "plain", json!([
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"]},
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["devs"]},
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["sa"]},
        {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "resourceNames": ["view"]},
        {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["uids"], "resourceNames": ["u"]},
    ])).await;
    let bob = ("Impersonate-User", "bob");
    let table: [(&[(&str, &str)], u16); 9] = [
        (&[bob], 201),
        (&[("Impersonate-User", "eve")], 403),
        (&[bob, ("Impersonate-Group", "devs")], 201),
        (&[bob, ("Impersonate-Group", "system:masters")], 403),
        (&[bob, ("Impersonate-Extra-scopes", "view")], 201),
        (&[bob, ("Impersonate-Extra-scopes", "view"), ("Impersonate-Extra-scopes", "edit")], 403),
        (&[bob, ("Impersonate-Uid", "u")], 201),
        (&[bob, ("Impersonate-Uid", "v")], 403),
        (&[("Impersonate-User", "system:serviceaccount:n:sa")], 201),
    ];
    for (headers, expected) in table {
        let (code, body) = who(&jane, headers).await;
        assert_eq!(code, expected, "{headers:?}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn constrained_modes_give_one_action() {
    let plane = ControlPlane::start().await.expect("starts");
    let admin = plane.rest().expect("client");
    let jane = Rest::new(&plane.session("jane", &[]).expect("session")).expect("client");
    let review = json!({"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"],
        "verbs": ["impersonate-on:arbitrary-node:create", "impersonate-on:user-info:create"]});
    grant(&admin, "constrained", json!([
        review,
        {"verbs": ["impersonate:arbitrary-node"], "apiGroups": ["authentication.k8s.io"], "resources": ["nodes"], "resourceNames": ["w1"]},
        {"verbs": ["impersonate:user-info"], "apiGroups": ["authentication.k8s.io"], "resources": ["users", "groups"]},
    ])).await;
    let (code, node) = who(&jane, &[("Impersonate-User", "system:node:w1")]).await;
    let expected = json!({"username": "system:node:w1", "groups": ["system:nodes", "system:authenticated"]});
    assert_eq!((code, node), (201, expected));
    assert_eq!(who(&jane, &[("Impersonate-User", "system:node:w2")]).await.0, 403);
    assert_eq!(who(&jane, &[("Impersonate-User", "bob"), ("Impersonate-Group", "g")]).await.0, 201);
    let (code, why) =
        who(&jane, &[("Impersonate-User", "bob"), ("Impersonate-Group", "system:masters")]).await;
    assert_eq!(code, 403);
    assert!(
        why.as_str().expect("text").ends_with("impersonating the system:masters group is not allowed"),
        "{why}"
    );
    // Another action is another right.
    let list =
        jane.send(Method::GET, "/api/v1/nodes", &[("Impersonate-User", "bob")], "").await.expect("answers");
    assert!(list.json()["message"].as_str().expect("text").contains("cannot impersonate-on:user-info:list"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_becomes_its_own_node() {
    let plane = ControlPlane::start().await.expect("starts");
    let admin = plane.rest().expect("client");
    let namespace = "/api/v1/namespaces/default";
    let made = async |path: String, object: Value| {
        let answer = admin.post(&path, &object).await.expect("answers");
        assert_eq!(answer.code, 201, "{}", answer.json());
        answer.json()
    };
    made(format!("{namespace}/serviceaccounts"), json!({"metadata": {"name": "agent"}})).await;
    made("/api/v1/nodes".into(), json!({"metadata": {"name": "w1"}})).await;
    let spec =
        json!({"nodeName": "w1", "serviceAccountName": "agent", "containers": [{"name": "c", "image": "i"}]});
    let pod = made(format!("{namespace}/pods"), json!({"metadata": {"name": "p"}, "spec": spec})).await;
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": pod["metadata"]["uid"]});
    let asked = json!({"spec": {"boundObjectRef": bound}});
    let token = made(format!("{namespace}/serviceaccounts/agent/token"), asked).await;
    let token = token["status"]["token"].as_str().expect("a token").to_owned();
    let role = json!({"metadata": {"name": "agent"}, "rules": [
        {"verbs": ["impersonate-on:associated-node:create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]},
        {"verbs": ["impersonate:associated-node"], "apiGroups": ["authentication.k8s.io"], "resources": ["nodes"]},
    ]});
    made(format!("{RBAC}/clusterroles"), role).await;
    made(
        format!("{RBAC}/clusterrolebindings"),
        json!({"metadata": {"name": "agent"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "agent"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "agent"}}),
    )
    .await;
    admin.get(&format!("{RBAC}/clusterrolebindings")).await.expect("answers");
    let agent = Rest::new(&plane.session_with(None, Some(&token))).expect("client");
    let (_, own) = who(&agent, &[]).await;
    assert_eq!(own["extra"]["authentication.kubernetes.io/node-name"], json!(["w1"]), "{own}");
    let (code, node) = who(&agent, &[("Impersonate-User", "system:node:w1")]).await;
    assert_eq!((code, &node["username"]), (201, &json!("system:node:w1")));
    assert_eq!(who(&agent, &[("Impersonate-User", "system:node:w2")]).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_grpc() {
    let plane = ControlPlane::start().await.expect("starts");
    let mut session = plane.session("admin", &["system:masters"]).expect("session");
    session.impersonation =
        Impersonation { user: "bob".into(), groups: vec!["g".into()], ..Impersonation::default() };
    let client = Client::new(&session, "test").expect("client");
    let refusal = client.get::<api::types::core::v1::Node>("", "w").await.expect_err("bob may not");
    assert!(refusal.message.contains("User \"bob\" cannot get resource \"nodes\""), "{}", refusal.message);
    session.impersonation.groups = vec!["system:masters".into()];
    let client = Client::new(&session, "test").expect("client");
    assert!(client.find::<api::types::core::v1::Node>("", "w").await.expect("allowed").is_none());
    session.impersonation.user.clear();
    let client = Client::new(&session, "test").expect("client");
    assert_eq!(client.find::<api::types::core::v1::Node>("", "w").await.expect_err("no user").code, 400);
}
