//! The API as clients see it: watches, selectors, pages, deletion, reviews,
//! bad input, by REST and by gRPC.

use http::Method;
use serde_json::{Value, json};
use testkit::{ControlPlane, Events, Rest};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn plane() -> (ControlPlane, Rest) {
    let plane = ControlPlane::start().await.expect("starts");
    let rest = plane.rest().expect("client");
    (plane, rest)
}

async fn make_map(rest: &Rest, name: &str, label: &str) -> Value {
    let body = json!({"metadata": {"name": name, "labels": {"l": label}}, "data": {"k": "v"}});
    let answer = rest.post(MAPS, &body).await.expect("answers");
    assert_eq!(answer.code, 201, "{}", answer.json());
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_each_change_once_and_resumes_over_a_restart() {
    let (mut plane, rest) = plane().await;
    let first = make_map(&rest, "a", "x").await;
    let from = first["metadata"]["resourceVersion"].as_str().expect("version").to_owned();
    let mut events =
        Events::open(&rest, &format!("{MAPS}?watch=true&labelSelector=l%3Dx&resourceVersion={from}")).await;
    make_map(&rest, "b", "x").await;
    make_map(&rest, "c", "y").await;
    let left = rest
        .merge(&format!("{MAPS}/b"), &json!({"metadata": {"labels": {"l": "y"}}}))
        .await
        .expect("answers");
    assert_eq!(left.code, 200);
    rest.delete(&format!("{MAPS}/a")).await.expect("answers");
    events.expect("ADDED", "b").await;
    let gone = events.expect("DELETED", "b").await;
    assert_eq!(gone["metadata"]["labels"]["l"], "x", "an object that leaves shows its last selected state");
    events.expect("DELETED", "a").await;

    plane.restart().await.expect("restarts");
    let rest = plane.rest().expect("client");
    let mut events = Events::open(&rest, &format!("{MAPS}?watch=true&resourceVersion={from}")).await;
    events.expect("ADDED", "b").await;
    events.expect("ADDED", "c").await;
    events.expect("MODIFIED", "b").await;
    events.expect("DELETED", "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_of_one_moment() {
    let (_plane, rest) = plane().await;
    for name in ["a", "b", "c", "d"] {
        make_map(&rest, name, "x").await;
    }
    let page = rest.get(&format!("{MAPS}?limit=3&labelSelector=l%3Dx")).await.expect("answers").json();
    let token = page["metadata"]["continue"].as_str().expect("token").to_owned();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(3));
    rest.delete(&format!("{MAPS}/d")).await.expect("answers");
    make_map(&rest, "e", "x").await;
    let rest_of_it = rest
        .get(&format!("{MAPS}?limit=3&labelSelector=l%3Dx&continue={token}"))
        .await
        .expect("answers")
        .json();
    let names: Vec<_> = rest_of_it["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|one| one["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["d"], "the second page is of the first page's moment");
    assert_eq!(rest_of_it["metadata"]["resourceVersion"], page["metadata"]["resourceVersion"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_and_grace_hold_an_object() {
    let (_plane, rest) = plane().await;
    let body = json!({"metadata": {"name": "held", "finalizers": ["example.com/f"]}});
    assert_eq!(rest.post(MAPS, &body).await.expect("answers").code, 201);
    let one = format!("{MAPS}/held");
    let answer = rest.delete(&one).await.expect("answers").json();
    assert!(answer["metadata"]["deletionTimestamp"].is_string(), "{answer}");
    assert_eq!(rest.get(&one).await.expect("answers").code, 200);
    let freed = rest.merge(&one, &json!({"metadata": {"finalizers": null}})).await.expect("answers");
    assert_eq!(freed.code, 200, "{}", freed.json());
    assert_eq!(rest.get(&one).await.expect("answers").code, 404);

    let wrong = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}});
    make_map(&rest, "kept", "x").await;
    let path = format!("{MAPS}/kept");
    let answer = rest
        .send(Method::DELETE, &path, &[("content-type", "application/json")], wrong.to_string())
        .await
        .expect("answers");
    assert_eq!((answer.code, answer.json()["reason"].clone()), (409, "Conflict".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_get_addresses_and_give_them_back() {
    let (_plane, rest) = plane().await;
    let services = "/api/v1/namespaces/default/services";
    let body = |name: &str| json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let made = rest.post(services, &body("a")).await.expect("answers").json();
    let ip = made["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().expect("a port");
    assert!((30000..=32767).contains(&port), "{made}");
    let mut same = body("b");
    same["spec"]["clusterIP"] = ip.as_str().into();
    let refused = rest.post(services, &same).await.expect("answers");
    assert_eq!(refused.code, 422, "{}", refused.json());
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
    let ranges = rest.get(ranges).await.expect("answers").json();
    assert_eq!(ranges["spec"]["cidrs"], json!(["10.96.0.0/16"]));
    assert_eq!(ranges["status"]["conditions"][0]["type"], "Ready");
    let addresses = "/apis/networking.k8s.io/v1/ipaddresses";
    assert_eq!(rest.get(&format!("{addresses}/{ip}")).await.expect("answers").code, 200);
    rest.delete(&format!("{services}/a")).await.expect("answers");
    assert_eq!(rest.get(&format!("{addresses}/{ip}")).await.expect("answers").code, 404);
    assert_eq!(rest.post(services, &same).await.expect("answers").code, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_what() {
    let (plane, admin) = plane().await;
    let jane = Rest::new(&plane.session("jane", &["devs"]).expect("session")).expect("client");
    let refused = jane.get("/api/v1/namespaces/default/secrets").await.expect("answers");
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.json()["message"],
        r#"secrets is forbidden: User "jane" cannot list resource "secrets" in API group "" in the namespace "default""#
    );
    let binding = json!({
        "metadata": {"name": "jane"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    assert_eq!(admin.post(bindings, &binding).await.expect("answers").code, 201);
    testkit::eventually("the binding is in force", || async {
        jane.get("/api/v1/namespaces/default/secrets").await.is_ok_and(|answer| answer.code == 200)
    })
    .await
    .expect("in time");
    let mut escalating = binding.clone();
    escalating["roleRef"]["name"] = "cluster-admin".into();
    assert_eq!(jane.post(bindings, &escalating).await.expect("answers").code, 403);

    let nobody = Rest::new(&plane.session_with(None, None)).expect("client");
    for (path, code) in [
        ("/version", 200),
        ("/livez", 200),
        ("/readyz", 200),
        ("/api", 403),
        ("/api/v1/pods", 403),
        ("/metrics", 403),
    ] {
        assert_eq!(nobody.get(path).await.expect("answers").code, code, "{path}");
    }
    let forged = Rest::new(&plane.session_with(None, Some("eyJhbGciOiJub25lIn0.e30."))).expect("client");
    let answer = forged.get("/api").await.expect("answers");
    assert_eq!((answer.code, answer.json()["reason"].clone()), (401, "Unauthorized".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_service_accounts() {
    let (plane, rest) = plane().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    assert_eq!(
        rest.post(accounts, &json!({"metadata": {"name": "robot"}})).await.expect("answers").code,
        201
    );
    let request = json!({"spec": {"expirationSeconds": 600}});
    let answer = rest.post(&format!("{accounts}/robot/token"), &request).await.expect("answers");
    assert_eq!(answer.code, 201, "{}", answer.json());
    let token = answer.json()["status"]["token"].as_str().expect("a token").to_owned();
    let robot = Rest::new(&plane.session_with(None, Some(&token))).expect("client");
    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let who = robot.post(review, &json!({})).await.expect("answers").json();
    assert_eq!(who["status"]["userInfo"]["username"], "system:serviceaccount:default:robot", "{who}");
    rest.delete(&format!("{accounts}/robot")).await.expect("answers");
    testkit::eventually("the token dies with its account", || async {
        robot.post(review, &json!({})).await.is_ok_and(|answer| answer.code == 401)
    })
    .await
    .expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_a_status_and_harms_nothing() {
    let (plane, rest) = plane().await;
    let json_type = [("content-type", "application/json")];
    let yaml_type = [("content-type", "application/yaml")];
    let nested =
        format!(r#"{{"metadata":{{"name":"n"}},"data":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let big = format!(r#"{{"metadata":{{"name":"big"}},"data":{{"k":"{}"}}}}"#, "x".repeat(10 << 20));
    let table: [(&[(&str, &str)], String, u16, &str); 8] = [
        (&json_type, "{".into(), 400, "BadRequest"),
        (&json_type, "[]".into(), 400, "BadRequest"),
        (&json_type, r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"}}"#.into(), 400, "BadRequest"),
        (&json_type, r#"{"metadata":{"name":"x"},"data":{"k":1}}"#.into(), 400, "BadRequest"),
        (&json_type, r#"{"metadata":{"name":"Not A Name"}}"#.into(), 422, "Invalid"),
        (&json_type, nested, 400, "BadRequest"),
        (&json_type, big, 413, "RequestEntityTooLarge"),
        (&yaml_type, "a: [b".into(), 400, "BadRequest"),
    ];
    for (headers, body, code, reason) in table {
        let shown: String = body.chars().take(60).collect();
        let answer = rest.send(Method::POST, MAPS, headers, body).await.expect("answers");
        let status = answer.json();
        assert_eq!(
            (answer.code, status["reason"].as_str(), status["kind"].as_str()),
            (code, Some(reason), Some("Status")),
            "{shown}: {status}"
        );
    }
    let unknown = json!({"metadata": {"name": "u"}, "dota": {}});
    let strict = rest.post(&format!("{MAPS}?fieldValidation=Strict"), &unknown).await.expect("answers");
    assert_eq!(strict.code, 400);
    assert!(
        strict.json()["message"].as_str().expect("message").contains(r#"unknown field "dota""#),
        "{}",
        strict.json()
    );
    let warned = rest.post(MAPS, &unknown).await.expect("answers");
    assert_eq!(warned.code, 201);
    assert_eq!(warned.headers.get("warning").expect("a warning"), r#"299 - "unknown field \"dota\"""#);
    let media = rest.send(Method::POST, MAPS, &[("content-type", "text/csv")], "a,b").await.expect("answers");
    assert_eq!(media.code, 415);
    let missing = rest
        .post("/api/v1/namespaces/absent/configmaps", &json!({"metadata": {"name": "x"}}))
        .await
        .expect("answers");
    assert_eq!(
        (missing.code, missing.json()["message"].clone()),
        (404, r#"namespaces "absent" not found"#.into())
    );
    for path in ["/api/v2", "/apis/none/v1/things", "/api/v1/namespaces/default/things", "/nowhere"] {
        assert_eq!(rest.get(path).await.expect("answers").code, 404, "{path}");
    }

    let grpc = plane.admin().expect("client");
    let target = wire::objects::Target {
        version: "v1".into(),
        resource: "configmaps".into(),
        namespace: "default".into(),
        ..Default::default()
    };
    let status =
        grpc.create_json(target, "{".into(), &client::WriteOptions::default()).await.expect_err("no JSON");
    assert_eq!((status.reason, status.code), (api::Reason::BadRequest, 400));
    let status = grpc.get::<api::types::core::v1::ConfigMap>("default", "absent").await.expect_err("absent");
    assert_eq!(status, api::Status::not_found("", "configmaps", "absent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_follow_over_grpc() {
    use api::types::core::v1::ConfigMap;
    let (plane, rest) = plane().await;
    make_map(&rest, "before", "x").await;
    let client = plane.admin().expect("client");
    let cache = client::Cache::<ConfigMap>::start(
        &client,
        client::Scope { namespace: "default".into(), ..Default::default() },
    );
    cache.synced().await;
    assert!(cache.get("default", "before").is_some());
    let mut new = ConfigMap::default();
    new.metadata.name = Some("after".into());
    new.metadata.namespace = Some("default".into());
    let created = client.create(&new).await.expect("creates");
    let revision: u64 = created.metadata.resource_version.expect("version").parse().expect("a number");
    cache.reached(revision).await;
    assert!(cache.get("default", "after").is_some());
    client.delete::<ConfigMap>("default", "after", &client::DeleteOptions::default()).await.expect("deletes");
    testkit::eventually("the deletion arrives", || async { cache.get("default", "after").is_none() })
        .await
        .expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_after_its_token_is_too_old() {
    use base64::Engine as _;
    let (_plane, rest) = plane().await;
    for name in ["a", "b", "c", "d"] {
        make_map(&rest, name, "x").await;
    }
    let first = rest.get(&format!("{MAPS}?limit=2")).await.expect("answers").json();
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut token: Value =
        serde_json::from_slice(&engine.decode(token).expect("base64")).expect("the server's own JSON");
    token["at"] = json!(1);
    let old = engine.encode(token.to_string());
    let gone = rest.get(&format!("{MAPS}?limit=2&continue={old}")).await.expect("answers");
    assert_eq!((gone.code, &gone.json()["reason"]), (410, &json!("Expired")));
    let inconsistent = gone.json()["metadata"]["continue"].as_str().expect("another token").to_owned();
    make_map(&rest, "e", "x").await;
    let rest_of_it = rest.get(&format!("{MAPS}?continue={inconsistent}")).await.expect("answers").json();
    let names: Vec<&Value> =
        rest_of_it["items"].as_array().expect("items").iter().map(|one| &one["metadata"]["name"]).collect();
    let seen: Vec<&Value> =
        first["items"].as_array().expect("items").iter().map(|one| &one["metadata"]["name"]).collect();
    let all: Vec<&Value> = seen.into_iter().chain(names).filter(|name| *name != "kube-root-ca.crt").collect();
    assert_eq!(all, ["a", "b", "c", "d", "e"], "what was made meanwhile shows");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_twice_is_told() {
    let (_plane, rest) = plane().await;
    let json = [("content-type", "application/json")];
    let body = r#"{"metadata": {"name": "m", "nope": 1}, "data": {"a": "1", "a": "2"}}"#;
    let post = |query: &'static str| rest.send(Method::POST, query, &json, body);
    let refused =
        post("/api/v1/namespaces/default/configmaps?fieldValidation=Strict").await.expect("answers");
    assert_eq!(
        refused.json()["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"metadata.nope\", duplicate field \"data.a\""
    );
    let warned = post("/api/v1/namespaces/default/configmaps").await.expect("answers");
    assert_eq!((warned.code, &warned.json()["data"]["a"]), (201, &json!("2")));
    let warnings: Vec<&str> =
        warned.headers.get_all("warning").iter().map(|one| one.to_str().expect("text")).collect();
    assert_eq!(
        warnings,
        ["299 - \"unknown field \\\"metadata.nope\\\"\"", "299 - \"duplicate field \\\"data.a\\\"\""]
    );
    let apply = [("content-type", "application/apply-patch+yaml")];
    let config = "apiVersion: v1\nkind: ConfigMap\ndata:\n  b: one\n  b: two\n";
    let at = format!("{MAPS}/n?fieldManager=f&fieldValidation=Strict");
    let refused = rest.send(Method::PATCH, &at, &apply, config).await.expect("answers");
    assert_eq!(
        refused.json()["message"],
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 5: key \"b\" already set in map"
    );
    let applied =
        rest.send(Method::PATCH, &format!("{MAPS}/n?fieldManager=f"), &apply, config).await.expect("answers");
    assert_eq!((applied.code, &applied.json()["data"]["b"]), (201, &json!("two")), "{}", applied.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_selected_by_their_own_names() {
    let (_plane, rest) = plane().await;
    let at = "/apis/events.k8s.io/v1/namespaces/default/events";
    let made = rest.post(at, &json!({
        "metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "a", "reason": "r",
        "type": "Normal", "reportingController": "c", "reportingInstance": "i",
        "regarding": {"namespace": "default", "kind": "Pod", "name": "p"},
    })).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    for (path, field, count) in [
        (at, "reportingController=c", 1),
        (at, "regarding.name=p,reason=r", 1),
        (at, "regarding.name=q", 0),
        ("/api/v1/namespaces/default/events", "source=c", 1),
        ("/api/v1/namespaces/default/events", "involvedObject.name=p", 1),
    ] {
        let found = rest.get(&format!("{path}?fieldSelector={field}")).await.expect("answers").json();
        assert_eq!(found["items"].as_array().map(Vec::len), Some(count), "{field}: {found}");
    }
    let wrong = rest.get(&format!("{at}?fieldSelector=involvedObject.name=p")).await.expect("answers");
    assert_eq!(wrong.json()["message"], "field label not supported: involvedObject.name");
}
