//! Bad input by REST and by gRPC: both fronts give the same status, the server's
//! memory stays bounded, and it goes on serving.

use std::sync::Arc;

use bytes::Bytes;
use client::{Client, WriteOptions};
use daemon::{Clock as _, SystemClock};
use http::Method;
use kubeadm::pki::Subject;
use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};
use wire::objects::{FieldValidation, Target, UpdateRequest};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn maps(name: &str) -> Target {
    Target {
        version: "v1".to_owned(),
        resource: "configmaps".to_owned(),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        ..Target::default()
    }
}

async fn both() -> (ControlPlane, Rest, Client) {
    let plane = ControlPlane::start().await.expect("control plane");
    let (rest, grpc) = (plane.rest().expect("client"), plane.admin().expect("client"));
    (plane, rest, grpc)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_ascii_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_fronts_refuse_the_same() {
    let (_plane, rest, grpc) = both().await;
    let nested = |depth: usize| {
        format!(r#"{{"metadata":{{"name":"n"}},"data":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    let big = format!(r#"{{"metadata":{{"name":"big"}},"data":{{"k":"{}"}}}}"#, "x".repeat(10 << 20));
    let table: [(&str, String, u16, &str); 8] = [
        ("cut short", "{".into(), 400, "BadRequest"),
        ("not an object", "[]".into(), 400, "BadRequest"),
        ("not UTF-8", "{\"metadata\":{\"name\":\"\u{fffd}\"}}".into(), 422, "Invalid"),
        (
            "another kind",
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"}}"#.into(),
            400,
            "BadRequest",
        ),
        ("a wrong type", r#"{"metadata":{"name":"x"},"data":{"k":1}}"#.into(), 400, "BadRequest"),
        ("a bad name", r#"{"metadata":{"name":"Not A Name"}}"#.into(), 422, "Invalid"),
        ("a deep nesting bomb", nested(100_000), 400, "BadRequest"),
        ("10 MB", big, 413, "RequestEntityTooLarge"),
    ];
    for (what, body, code, reason) in table {
        let answer = rest.send(Method::POST, MAPS, &JSON, body.clone()).await.expect("answers");
        let by_rest = answer.json();
        assert_eq!((answer.code, by_rest["reason"].as_str()), (code, Some(reason)), "{what}: {by_rest}");
        let by_grpc = grpc
            .create_json(maps(""), Bytes::from(body), &WriteOptions::default())
            .await
            .expect_err("refused");
        assert_eq!(by_grpc.to_json(), by_rest, "{what}");
    }
    let unknown = json!({"metadata": {"name": "u"}, "dota": {}});
    let by_rest =
        rest.post(&format!("{MAPS}?fieldValidation=Strict"), &unknown).await.expect("answers").json();
    let strict = WriteOptions { strict: true, ..WriteOptions::default() };
    let by_grpc = grpc.create_json(maps(""), unknown.to_string().into(), &strict).await.expect_err("refused");
    assert_eq!(by_rest["reason"], "BadRequest");
    assert_eq!(by_grpc.to_json(), by_rest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_version_is_a_conflict() {
    let (_plane, rest, grpc) = both().await;
    let made = rest.post(MAPS, &json!({"metadata": {"name": "m"}})).await.expect("answers").json();
    let path = format!("{MAPS}/m");
    let mut newer: Value = made.clone();
    newer["data"] = json!({"a": "b"});
    let put = |body: &Value| rest.send(Method::PUT, &path, &JSON, body.to_string());
    assert_eq!(put(&newer).await.expect("answers").code, 200);
    let mut stale = made;
    stale["data"] = json!({"lost": "write"});
    let answer = put(&stale).await.expect("answers");
    let by_rest = answer.json();
    assert_eq!((answer.code, by_rest["reason"].as_str()), (409, Some("Conflict")), "{by_rest}");
    let request = UpdateRequest {
        target: Some(maps("m")),
        json: stale.to_string().into(),
        field_validation: FieldValidation::Unset.into(),
        ..UpdateRequest::default()
    };
    let by_grpc = client::of_grpc(&grpc.objects().update(request).await.expect_err("a conflict"));
    assert_eq!(by_grpc.to_json(), by_rest);
    let kept = rest.get(&path).await.expect("answers").json();
    assert_eq!(kept["data"], json!({"a": "b"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_prove_who_they_are() {
    let plane = ControlPlane::start().await.expect("control plane");
    let now = SystemClock.now();
    let long_ago = now - jiff::SignedDuration::from_hours(24 * 365 * 20);
    let expired = plane.authority().issue(&Subject::client("old", &["system:masters"]), long_ago);
    let elsewhere = tempfile::tempdir().expect("temporary folder");
    let stranger = kubeadm::pki::Folder::new(elsewhere.path()).authority(now).expect("another authority");
    let forged = stranger.issue(&Subject::client("admin", &["system:masters"]), now);
    let sessions = [
        ("an expired certificate", plane.session_with(Some(expired.expect("issued")), None)),
        ("another authority's certificate", plane.session_with(Some(forged.expect("issued")), None)),
        ("a wrong token", plane.session_with(None, Some("abcdef.0123456789abcdef"))),
    ];
    for (what, session) in sessions {
        let rest = Rest::new(&session).expect("client");
        let answer = rest.get(MAPS).await.expect(what);
        let by_rest = answer.json();
        assert_eq!((answer.code, by_rest["reason"].as_str()), (401, Some("Unauthorized")), "{what}");
        assert_eq!(by_rest["message"], "Unauthorized", "{what}");
        let grpc = Client::new(&session, "test").expect("client");
        let by_grpc = grpc.get_json(maps("x")).await.expect_err(what);
        assert_eq!(by_grpc.to_json(), by_rest, "{what}");
    }
    let jane = plane.session("jane", &[]).expect("session");
    let by_rest = Rest::new(&jane).expect("client").get(&format!("{MAPS}/x")).await.expect("answers").json();
    assert_eq!(by_rest["reason"], "Forbidden");
    let by_grpc =
        Client::new(&jane, "test").expect("client").get_json(maps("x")).await.expect_err("forbidden");
    assert_eq!(by_grpc.to_json(), by_rest);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_under_large_bodies() {
    let (_plane, rest, grpc) = both().await;
    let big =
        Bytes::from(format!(r#"{{"metadata":{{"name":"b"}},"data":{{"k":"{}"}}}}"#, "x".repeat(10 << 20)));
    let deep = Bytes::from(format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20)));
    let before = resident_kib();
    let (rest, grpc) = (Arc::new(rest), Arc::new(grpc));
    for _ in 0..8 {
        let requests = (0..8).map(|number| {
            let (rest, grpc) = (Arc::clone(&rest), Arc::clone(&grpc));
            let body = if number % 2 == 0 { big.clone() } else { deep.clone() };
            async move {
                if number % 4 < 2 {
                    let code = rest.send(Method::POST, MAPS, &JSON, body).await.map(|answer| answer.code);
                    assert!(matches!(code, Ok(400 | 413) | Err(_)), "{code:?}");
                } else {
                    grpc.create_json(maps(""), body, &WriteOptions::default()).await.expect_err("refused");
                }
            }
        });
        futures::future::join_all(requests).await;
    }
    let grown = resident_kib().saturating_sub(before) / 1024;
    // 640 MiB were sent, by clients in this same process.
    assert!(grown < 200, "{grown} MiB more are resident");
    assert_eq!(rest.post(MAPS, &json!({"metadata": {"name": "fine"}})).await.expect("answers").code, 201);
}
