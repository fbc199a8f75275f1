//! Extenders against a small server.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::profile::Profile;
use crate::schedule::fitting;
use crate::testing::{asking, cluster, info, on_node, plain_node, search};

type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A server that answers each verb with one text, and what it was asked.
async fn server(answers: Value) -> (String, Asked) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/scheduler/", listener.local_addr().expect("an address"));
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    daemon::tasks::spawn("extender", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answers, log) = (answers.clone(), Arc::clone(&log));
            let serve = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (answers, log) = (answers.clone(), Arc::clone(&log));
                async move {
                    let verb = request.uri().path().trim_start_matches("/scheduler/").to_owned();
                    let body = request.into_body().collect().await?.to_bytes();
                    log.lock().push((verb.clone(), serde_json::from_slice(&body).unwrap_or_default()));
                    let answer = answers.get(&verb).map(Value::to_string);
                    let code = if answer.is_some() { 200 } else { 500 };
                    let body = Full::new(Bytes::from(answer.unwrap_or_default()));
                    Ok::<_, hyper::Error>(Response::builder().status(code).body(body).expect("a response"))
                }
            });
            let stream = TokioIo::new(stream);
            daemon::tasks::spawn("connection", async move {
                // A client that goes away is no failure of the test.
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, serve).await;
            });
        }
    });
    (url, asked)
}

fn made(given: Value) -> anyhow::Result<Vec<Arc<Extender>>> {
    let file = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration", "extenders": given,
    });
    extenders(&Configuration::parse(&file.to_string())?.expect("a configuration"))
}

fn one(url: &str, more: Value) -> Vec<Arc<Extender>> {
    let mut given = json!({"urlPrefix": url});
    given.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    made(json!([given])).unwrap_or_else(|error| panic!("{error:#}"))
}

fn names(found: &Fitting<'_>) -> Vec<String> {
    found.nodes.iter().map(|node| node.name.to_string()).collect()
}

#[tokio::test]
async fn nodes_are_refused_and_scored() {
    let answers = json!({
        "filter": {"NodeNames": ["a", "c"], "FailedNodes": {"b": "no"}},
        "prioritize": [{"Host": "c", "Score": 7}],
    });
    let (url, asked) = server(answers).await;
    let more = json!({"filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 2, "nodeCacheCapable": true});
    let extenders = one(&url, more);
    let mut cluster = cluster(["a", "b", "c"].map(plain_node).into());
    let (pod, profile) = (info(asking("p", "1")), Profile::default());
    let mut found = fitting(&pod, cluster.snapshot(), &profile, &mut search());
    consult(&extenders, &pod, &mut found).await.expect("it is asked");
    assert_eq!((names(&found), found.extra.clone()), (vec!["a".to_owned(), "c".to_owned()], vec![0, 140]));
    let told: Vec<_> = found.diagnosis.refusals.iter().map(|(node, one)| (&**node, one.plugin)).collect();
    assert_eq!(told, [("b", NAME)]);
    let asked = asked.lock();
    assert_eq!(asked[0].1["NodeNames"], json!(["a", "b", "c"]));
    assert_eq!((&asked[0].1["Nodes"], &asked[0].1["Pod"]["metadata"]["name"]), (&Value::Null, &json!("p")));
    assert_eq!(asked[1].1["NodeNames"], json!(["a", "c"]));
}

#[tokio::test]
async fn extenders_that_do_not_follow_nodes_get_them_whole() {
    let answers = json!({"filter": {
        "nodes": {"items": [{"metadata": {"name": "a"}}]}, "failedAndUnresolvableNodes": {"b": "never"}}});
    let (url, asked) = server(answers).await;
    let extenders = one(&url, json!({"filterVerb": "filter"}));
    let mut cluster = cluster(["a", "b"].map(plain_node).into());
    let (pod, profile) = (info(asking("p", "1")), Profile::default());
    let mut found = fitting(&pod, cluster.snapshot(), &profile, &mut search());
    consult(&extenders, &pod, &mut found).await.expect("it is asked");
    assert_eq!(names(&found), ["a"]);
    assert!(!found.diagnosis.refusals[0].1.objection.can_be_evicted_away);
    assert_eq!(asked.lock()[0].1["Nodes"]["items"][1]["metadata"]["name"], "b");
}

#[tokio::test]
async fn only_extenders_that_may_be_ignored_are() {
    let (url, _) = server(json!({})).await;
    let mut cluster = cluster(["a", "b"].map(plain_node).into());
    let (pod, profile) = (info(asking("p", "1")), Profile::default());
    for (ignorable, passes) in [(true, true), (false, false)] {
        let extenders = one(&url, json!({"filterVerb": "filter", "ignorable": ignorable}));
        let mut found = fitting(&pod, cluster.snapshot(), &profile, &mut search());
        let outcome = consult(&extenders, &pod, &mut found).await;
        assert_eq!((outcome.is_ok(), found.nodes.len()), (passes, 2));
    }
}

#[tokio::test]
async fn extenders_are_asked_about_pods_that_want_their_resources() {
    let (url, asked) = server(json!({})).await;
    let extenders = one(&url, json!({"filterVerb": "filter", "managedResources": [{"name": "x.io/gpu"}]}));
    let mut cluster = cluster(["a", "b"].map(plain_node).into());
    let (pod, profile) = (info(asking("p", "1")), Profile::default());
    let mut found = fitting(&pod, cluster.snapshot(), &profile, &mut search());
    consult(&extenders, &pod, &mut found).await.expect("it is not asked");
    assert!(asked.lock().is_empty());
}

#[tokio::test]
async fn victims_are_judged_and_pods_bound() {
    let answers = json!({
        "preempt": {"NodeNameToMetaVictims": {"b": {"Pods": [{"UID": "v"}], "NumPDBViolations": 1}}},
        "bind": {"Error": "not today"},
    });
    let (url, asked) = server(answers).await;
    let extenders =
        one(&url, json!({"preemptVerb": "preempt", "bindVerb": "bind", "nodeCacheCapable": true}));
    let mut cluster = cluster(["a", "b"].map(plain_node).into());
    let victim = on_node(asking("v", "1"), "b");
    cluster.set_pod(&victim);
    let candidate =
        |node: &str| Candidate { node: node.into(), victims: vec![Arc::clone(&victim)], violations: 0 };
    let pod = info(asking("p", "1"));
    let candidates = vec![candidate("a"), candidate("b")];
    let kept = judge(&extenders, &pod, cluster.snapshot(), candidates).await.expect("it is asked");
    assert_eq!((kept.len(), &*kept[0].node, kept[0].violations), (1, "b", 1));
    assert_eq!(asked.lock()[0].1["NodeNameToMetaVictims"]["a"]["Pods"], json!([{"UID": "v"}]));
    let bound = bind(&extenders, &pod, "b").await.expect("an extender binds");
    assert_eq!(bound.expect_err("it refuses").to_string(), "not today");
    let args = json!({"PodName": "p", "PodNamespace": "ns", "PodUID": "p", "Node": "b"});
    assert_eq!(asked.lock()[1].1, args);
    assert!(bind(&[], &pod, "b").await.is_none());
}

#[test]
fn what_cannot_be_done_is_refused_with_what_to_do() {
    for (given, words) in [
        (json!([{}]), "urlPrefix is missing"),
        (json!([{"urlPrefix": "http://x", "prioritizeVerb": "p"}]), "positive weight"),
        (json!([{"urlPrefix": "http://x", "managedResources": [{"name": "cpu"}]}]), "no extended resource"),
        (
            json!([{"urlPrefix": "http://x", "bindVerb": "b"}, {"urlPrefix": "http://y", "bindVerb": "b"}]),
            "only one",
        ),
        (json!([{"urlPrefix": "https://x", "tlsConfig": {"insecure": true}}]), "give caFile"),
        (json!([{"urlPrefix": "https://x", "tlsConfig": {"certFile": "c"}}]), "or neither"),
        (json!([{"urlPrefix": "http://x", "httpTimeout": "soon"}]), "write 15s"),
    ] {
        let error = made(given.clone()).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(error.contains(words), "{given}: {error}");
    }
}
