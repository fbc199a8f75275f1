//! What verifiers of service account tokens are told.

use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

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
