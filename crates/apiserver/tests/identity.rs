//! Who a request is from: impersonation, and what verifiers of tokens are told.

use http::Method;
use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn whoami(rest: &Rest, headers: &[(&str, &str)]) -> (u16, Value) {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    let answer = rest.send(Method::POST, REVIEWS, &all, "{}").await.expect("answers");
    (answer.code, answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn users_ask_as_others_where_they_may() {
    let plane = ControlPlane::start().await.expect("control plane");
    let admin = plane.rest().expect("client");
    let as_jane =
        [("impersonate-user", "jane"), ("impersonate-group", "staff"), ("impersonate-extra-a", "b")];
    let (code, review) = whoami(&admin, &as_jane).await;
    assert_eq!(code, 201, "{review}");
    assert_eq!(
        review["status"]["userInfo"],
        json!({"username": "jane", "groups": ["staff", "system:authenticated"], "extra": {"a": ["b"]}})
    );
    let made = |path: &'static str, body: Value| {
        let admin = &admin;
        async move {
            let made = admin.post(path, &body).await.expect("answers");
            assert_eq!(made.code, 201, "{}", made.json());
        }
    };
    made("/apis/rbac.authorization.k8s.io/v1/clusterroles", json!({
        "metadata": {"name": "as-jane"},
        "rules": [{"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"]}],
    }))
    .await;
    made(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        json!({
            "metadata": {"name": "as-jane"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "as-jane"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
        }),
    )
    .await;
    let bob = Rest::new(&plane.session("bob", &[]).expect("session")).expect("client");
    testkit::eventually("the role is in force", || async {
        whoami(&bob, &[("impersonate-user", "jane")]).await.0 == 201
    })
    .await
    .expect("in time");
    let (code, refused) = whoami(&bob, &as_jane).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "groups \"staff\" is forbidden: User \"bob\" cannot impersonate resource \"groups\" in API group \"\" at the cluster scope"
    );
    assert_eq!(whoami(&bob, &[("impersonate-user", "system:serviceaccount:default:default")]).await.0, 403);
    assert_eq!(whoami(&admin, &[("impersonate-group", "staff")]).await.0, 500);
    // What one may as oneself one may not as somebody else.
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let as_other = [("impersonate-user", "jane")];
    assert_eq!(admin.send(Method::GET, secrets, &as_other, "").await.expect("answers").code, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn issuers_are_described() {
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    let told = rest.get("/.well-known/openid-configuration").await.expect("answers").json();
    assert_eq!(told["issuer"], "https://kubernetes.default.svc.cluster.local");
    let keys = rest.get("/openid/v1/jwks").await.expect("answers");
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    let key = &keys.json()["keys"][0];
    assert_eq!(key["alg"], told["id_token_signing_alg_values_supported"][0]);

    // A token verifies against the key as anybody would do it.
    let request = json!({"spec": {"audiences": ["elsewhere"]}});
    testkit::eventually("the account is there", || async {
        let made = rest
            .post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "a"}}))
            .await;
        made.is_ok_and(|made| matches!(made.code, 201 | 409))
    })
    .await
    .expect("in time");
    let token = rest
        .post("/api/v1/namespaces/default/serviceaccounts/a/token", &request)
        .await
        .expect("answers")
        .json();
    let token = token["status"]["token"].as_str().expect("a token");
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.clone()).expect("a key");
    let header = jsonwebtoken::decode_header(token).expect("a header");
    assert_eq!(header.kid.as_deref(), key["kid"].as_str());
    let mut rules = jsonwebtoken::Validation::new(header.alg);
    rules.set_audience(&["elsewhere"]);
    let by = jsonwebtoken::DecodingKey::from_jwk(&jwk).expect("a key");
    let claims = jsonwebtoken::decode::<Value>(token, &by, &rules).expect("verifies").claims;
    assert_eq!(claims["sub"], "system:serviceaccount:default:a");
    // Others than service accounts may not look.
    let nobody = Rest::new(&plane.session_with(None, None)).expect("client");
    assert_eq!(nobody.get("/openid/v1/jwks").await.expect("answers").code, 403);
}
