//! Others who vouch for users, and who say what they may do: issuers of tokens,
//! token webhooks, authorization webhooks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use daemon::{Clock as _, SystemClock};
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use rcgen::KeyPair;
use serde_json::{Value, json};
use testkit::{ControlPlane, Remote, Rest};

const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn who(plane: &ControlPlane, token: &str) -> (u16, Value) {
    let rest = Rest::new(&plane.session_with(None, Some(token))).expect("client");
    let answer = rest.post(WHOAMI, &json!({})).await.expect("answers");
    (answer.code, answer.json()["status"].get("userInfo").cloned().unwrap_or_default())
}

fn user(plane: &ControlPlane, name: &str) -> Rest {
    Rest::new(&plane.session(name, &[]).expect("session")).expect("client")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_knows_tokens_and_is_not_asked_twice() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let remote = Remote::start(move |_, review| {
        counted.fetch_add(1, Ordering::SeqCst);
        assert_eq!((&review["kind"], &review["apiVersion"]), (&json!("TokenReview"), &json!("authentication.k8s.io/v1")));
        assert_eq!(review["spec"]["audiences"], json!(["https://kubernetes.default.svc.cluster.local"]));
        let status = match review["spec"]["token"].as_str() {
            Some("good") => json!({"authenticated": true, "user": {"username": "jane", "uid": "u", "groups": ["devs"], "extra": {"k": ["v"]}}}),
            Some("elsewhere") => json!({"authenticated": true, "user": {"username": "jane"}, "audiences": ["other"]}),
            _ => json!({"authenticated": false, "error": "unknown"}),
        };
        (200, json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}))
    })
    .await
    .expect("starts");
    let config = remote.kubeconfig("/tokens").expect("writes");
    let flags = |_: &Path| {
        vec![
            format!("--authentication-token-webhook-config-file={}", config.display()),
            "--authentication-token-webhook-version=v1".to_owned(),
        ]
    };
    let plane = ControlPlane::start_with(flags).await.expect("starts");
    let jane = json!({"username": "jane", "uid": "u", "groups": ["devs", "system:authenticated"], "extra": {"k": ["v"]}});
    for _ in 0..3 {
        assert_eq!(who(&plane, "good").await, (201, jane.clone()));
        assert_eq!(who(&plane, "bad").await.0, 401);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2, "yes and no are remembered");
    assert_eq!(who(&plane, "elsewhere").await.0, 401);
    // Reviews ask it, too.
    let review = json!({"spec": {"token": "good"}});
    let admin = plane.rest().expect("client");
    let answer =
        admin.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.expect("answers").json();
    assert_eq!(
        (&answer["status"]["authenticated"], &answer["status"]["user"]["username"]),
        (&json!(true), &json!("jane"))
    );
}

/// An issuer: its keys are those in the list, by their names.
struct Issuer {
    remote: Remote,
    keys: Arc<Mutex<Vec<Value>>>,
}

impl Issuer {
    async fn start() -> Self {
        let keys: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (shown, url) = (Arc::clone(&keys), Arc::new(Mutex::new(String::new())));
        let named = Arc::clone(&url);
        let remote = Remote::start(move |path, _| match path {
            "/.well-known/openid-configuration" => {
                let url = named.lock().clone();
                (200, json!({"issuer": url, "jwks_uri": format!("{url}/keys")}))
            }
            "/keys" => (200, json!({"keys": *shown.lock()})),
            _ => (404, json!({})),
        })
        .await
        .expect("starts");
        remote.url().clone_into(&mut url.lock());
        Self { remote, keys }
    }

    fn add_key(&self, id: &str) -> EncodingKey {
        let pair = KeyPair::generate().expect("a key");
        let text = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        // An uncompressed point: its sort, then both coordinates.
        let point = pair.public_key_raw();
        self.keys.lock().push(json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id,
            "x": text(&point[1..33]), "y": text(&point[33..65]),
        }));
        EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key")
    }

    fn token(&self, id: &str, key: &EncodingKey, change: Value) -> String {
        let now = SystemClock.now().as_second();
        let mut claims = json!({
            "iss": self.remote.url(), "aud": "client", "sub": "jane", "exp": now + 60, "iat": now,
            "groups": ["devs"], "hd": "example.com",
        });
        api::patch::merge_patch(&mut claims, change);
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, key).expect("signs")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_openid_issuer() {
    let issuer = Issuer::start().await;
    let key = issuer.add_key("one");
    let flags = |_: &Path| {
        vec![
            format!("--oidc-issuer-url={}", issuer.remote.url()),
            "--oidc-client-id=client".to_owned(),
            format!("--oidc-ca-file={}", issuer.remote.ca().display()),
            "--oidc-signing-algs=ES256".to_owned(),
            "--oidc-groups-claim=groups".to_owned(),
            "--oidc-groups-prefix=oidc:".to_owned(),
            "--oidc-required-claim=hd=example.com".to_owned(),
        ]
    };
    let plane = ControlPlane::start_with(flags).await.expect("starts");
    let jane = json!({"username": format!("{}#jane", issuer.remote.url()), "groups": ["oidc:devs", "system:authenticated"]});
    let good = issuer.token("one", &key, json!({}));
    assert_eq!(who(&plane, &good).await, (201, jane.clone()));
    assert_eq!(who(&plane, &issuer.token("one", &key, json!({"aud": ["other", "client"]}))).await.0, 201);

    let now = SystemClock.now().as_second();
    for (change, what) in [
        (json!({"aud": "other"}), "another audience"),
        (json!({"exp": now - 1}), "expired"),
        (json!({"exp": null}), "for ever"),
        (json!({"nbf": now + 3600}), "too early"),
        (json!({"iss": "https://other"}), "another issuer"),
        (json!({"hd": "evil.com"}), "a claim that is wrong"),
        (json!({"sub": null}), "nobody"),
    ] {
        assert_eq!(who(&plane, &issuer.token("one", &key, change)).await.0, 401, "{what}");
    }
    // Signed by somebody else, or not at all.
    let stranger = KeyPair::generate().expect("a key");
    let stranger = EncodingKey::from_ec_pem(stranger.serialize_pem().as_bytes()).expect("a key");
    assert_eq!(who(&plane, &issuer.token("one", &stranger, json!({}))).await.0, 401);
    let (head, _) = good.rsplit_once('.').expect("three parts");
    assert_eq!(who(&plane, &format!("{head}.")).await.0, 401);
    let none = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let body = good.split('.').nth(1).expect("three parts");
    assert_eq!(who(&plane, &format!("{none}.{body}.AA")).await.0, 401);
    // The server's own tokens go on to work.
    let admin = plane.rest().expect("client");
    admin
        .post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "sa"}}))
        .await
        .expect("answers");
    let path = "/api/v1/namespaces/default/serviceaccounts/sa/token";
    let own = admin.post(path, &json!({"spec": {}})).await.expect("answers").json();
    let (code, found) = who(&plane, own["status"]["token"].as_str().expect("a token")).await;
    assert_eq!((code, &found["username"]), (201, &json!("system:serviceaccount:default:sa")));
}

#[tokio::test(flavor = "multi_thread")]
async fn issuers_from_a_file_with_expressions() {
    let issuer = Issuer::start().await;
    let key = issuer.add_key("one");
    let ca = std::fs::read_to_string(issuer.remote.ca()).expect("a CA");
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "jwt": [{
            "issuer": {"url": issuer.remote.url(), "audiences": ["client", "cli"], "audienceMatchPolicy": "MatchAny", "certificateAuthority": ca},
            "claimMappings": {
                "username": {"expression": "'u:' + claims.sub"},
                "groups": {"expression": "claims.groups.map(g, 'g:' + g)"},
                "extra": [{"key": "example.com/hd", "valueExpression": "claims.hd"}],
            },
            "claimValidationRules": [{"expression": "claims.hd.endsWith('.com')", "message": "no"}],
            "userValidationRules": [{"expression": "!user.username.startsWith('u:system:')", "message": "reserved"}],
        }],
        "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}]},
    });
    let flags = |folder: &Path| {
        let path = folder.join("authentication.yaml");
        std::fs::write(&path, config.to_string()).expect("writes");
        vec![format!("--authentication-config={}", path.display())]
    };
    let plane = ControlPlane::start_with(flags).await.expect("starts");
    let jane = json!({"username": "u:jane", "groups": ["g:devs", "system:authenticated"], "extra": {"example.com/hd": ["example.com"]}});
    assert_eq!(who(&plane, &issuer.token("one", &key, json!({"aud": "cli"}))).await, (201, jane));
    for change in [json!({"sub": "system:admin"}), json!({"hd": "example.org"}), json!({"hd": null})] {
        assert_eq!(who(&plane, &issuer.token("one", &key, change.clone())).await.0, 401, "{change}");
    }
    let nobody = Rest::new(&plane.session_with(None, None)).expect("client");
    assert_eq!(nobody.get("/livez").await.expect("answers").code, 200);
    assert_eq!(nobody.get("/version").await.expect("answers").code, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_says_who_may() {
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let noted = Arc::clone(&asked);
    let remote = Remote::start(move |_, review| {
        let spec = &review["spec"];
        noted.lock().push(spec.clone());
        let status = match (spec["user"].as_str(), spec["resourceAttributes"]["verb"].as_str()) {
            (Some("jane"), Some("list")) => json!({"allowed": true, "reason": "she may"}),
            (Some("eve"), _) => json!({"allowed": false, "denied": true, "reason": "never"}),
            (Some("broken"), _) => return (400, json!({})),
            _ => json!({"allowed": false, "reason": "unknown"}),
        };
        (200, json!({"kind": "SubjectAccessReview", "apiVersion": review["apiVersion"], "status": status}))
    })
    .await
    .expect("starts");
    let config = remote.kubeconfig("/access").expect("writes");
    let flags = |_: &Path| {
        vec![
            "--authorization-mode=Node,Webhook,RBAC".to_owned(),
            format!("--authorization-webhook-config-file={}", config.display()),
            "--authorization-webhook-version=v1".to_owned(),
        ]
    };
    let plane = ControlPlane::start_with(flags).await.expect("starts");
    let jane = user(&plane, "jane");
    for _ in 0..3 {
        assert_eq!(jane.get(MAPS).await.expect("answers").code, 200);
    }
    let of_jane = || asked.lock().iter().filter(|spec| spec["user"] == "jane").count();
    assert_eq!(of_jane(), 1, "a yes is remembered");
    let refused = jane.get("/api/v1/nodes/w").await.expect("answers").json();
    assert_eq!(
        refused["message"],
        "nodes \"w\" is forbidden: User \"jane\" cannot get resource \"nodes\" in API group \"\" at the cluster scope: unknown"
    );
    // What it refuses, nobody behind it allows; who may do everything is not asked about.
    let eve = Rest::new(&plane.session("eve", &["system:authenticated"]).expect("session")).expect("client");
    assert_eq!(eve.post(WHOAMI, &json!({})).await.expect("answers").code, 403);
    let other = user(&plane, "other");
    assert_eq!(other.post(WHOAMI, &json!({})).await.expect("answers").code, 201, "RBAC is asked after it");
    assert_eq!(plane.rest().expect("client").get(MAPS).await.expect("answers").code, 200);
    assert!(asked.lock().iter().all(|spec| spec["user"] != "admin"));
    // An answer that is none is an error, not a no.
    let answer = user(&plane, "broken").get(MAPS).await.expect("answers");
    assert_eq!(answer.code, 500, "{}", answer.json());

    let review = json!({"spec": {"user": "eve", "resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let admin = plane.rest().expect("client");
    let answer = admin
        .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)
        .await
        .expect("answers")
        .json();
    assert_eq!(answer["status"], json!({"allowed": false, "denied": true, "reason": "never"}));
    let rules = json!({"spec": {"namespace": "default"}});
    let answer = jane
        .send(
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            &[("content-type", "application/json")],
            rules.to_string(),
        )
        .await
        .expect("answers")
        .json();
    assert_eq!(answer["status"]["incomplete"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn authorizers_from_a_file_with_conditions() {
    let remote = Remote::start(|_, review| {
        assert_eq!(review["spec"]["user"], "jane", "others are not asked about");
        (500, json!({}))
    })
    .await
    .expect("starts");
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
        "authorizers": [
            {"type": "Webhook", "name": "first", "webhook": {
                "authorizedTTL": "30s", "unauthorizedTTL": "30s", "timeout": "1s",
                "subjectAccessReviewVersion": "v1", "matchConditionSubjectAccessReviewVersion": "v1",
                "failurePolicy": "Deny",
                "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": remote.kubeconfig("/access").expect("writes")},
                "matchConditions": [
                    {"expression": "has(request.resourceAttributes)"},
                    {"expression": "request.user == 'jane'"},
                ],
            }},
            {"type": "RBAC", "name": "rbac"},
        ],
    });
    let flags = |folder: &Path| {
        let path = folder.join("authorization.yaml");
        std::fs::write(&path, config.to_string()).expect("writes");
        vec![format!("--authorization-config={}", path.display())]
    };
    let plane = ControlPlane::start_with(flags).await.expect("starts");
    assert_eq!(user(&plane, "bob").post(WHOAMI, &json!({})).await.expect("answers").code, 201);
    let jane = user(&plane, "jane");
    assert_eq!(jane.get("/version").await.expect("answers").code, 200, "a path is no resource");
    assert_eq!(jane.post(WHOAMI, &json!({})).await.expect("answers").code, 500, "no answer is no yes");
}
