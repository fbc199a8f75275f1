//! kube-rs: typed objects, server-side apply, watches, and an operator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, CustomResource, CustomResourceExt as _, Resource as _, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use testkit::ControlPlane;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn client(plane: &ControlPlane) -> Client {
    let config = Kubeconfig::read_from(plane.kubeconfig().expect("a kubeconfig")).expect("it is read");
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("reads")).expect("a client")
}

fn map(name: &str, value: &str) -> ConfigMap {
    let mut map =
        ConfigMap { data: Some(BTreeMap::from([("k".into(), value.into())])), ..ConfigMap::default() };
    map.metadata.name = Some(name.to_owned());
    map.labels_mut().insert("app".into(), "x".into());
    map
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_written_and_read() {
    let plane = ControlPlane::start().await.expect("starts");
    let client = client(&plane).await;
    let version = client.apiserver_version().await.expect("a version");
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let made = maps.create(&PostParams::default(), &map("a", "1")).await.expect("creates");
    let twice = maps.create(&PostParams::default(), &map("a", "1")).await.expect_err("exists");
    assert_eq!(code(&twice), 409);

    let mut newer = made.clone();
    newer.data = Some(BTreeMap::from([("k".into(), "2".into())]));
    let newer = maps.replace("a", &PostParams::default(), &newer).await.expect("replaces");
    let stale = maps.replace("a", &PostParams::default(), &made).await.expect_err("it is older");
    assert_eq!(code(&stale), 409);
    let version = |map: &ConfigMap| map.resource_version().and_then(|text| text.parse::<u64>().ok());
    assert!(version(&newer) > version(&made));
    let merge = Patch::Merge(json!({"data": {"k": null, "l": "3"}}));
    let merged = maps.patch("a", &PatchParams::default(), &merge).await.expect("merges");
    assert_eq!(merged.data, Some(BTreeMap::from([("l".into(), "3".into())])));

    let by = |name: &str| PatchParams::apply(name);
    let applied =
        |value: &str| Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"m": value}}));
    maps.patch("a", &by("one"), &applied("1")).await.expect("applies");
    let conflict = maps.patch("a", &by("two"), &applied("2")).await.expect_err("it is one's");
    assert_eq!(code(&conflict), 409);
    let forced = maps.patch("a", &by("two").force(), &applied("2")).await.expect("takes it over");
    assert_eq!(forced.data.expect("data")["m"], "2");

    for name in ["b", "c"] {
        maps.create(&PostParams::default(), &map(name, "1")).await.expect("creates");
    }
    let page = maps.list(&ListParams::default().limit(2)).await.expect("lists");
    assert_eq!((page.items.len(), page.metadata.remaining_item_count), (2, Some(1)));
    let token = page.metadata.continue_.expect("there are more");
    let rest = maps.list(&ListParams::default().continue_token(&token)).await.expect("lists");
    assert_eq!(rest.items[0].name_any(), "c");
    let partial = maps.list_metadata(&ListParams::default().fields("metadata.name=b")).await.expect("lists");
    assert_eq!(partial.items.len(), 1);
    maps.delete("b", &DeleteParams::default()).await.expect("deletes");
    assert_eq!(code(&maps.get("b").await.expect_err("it is gone")), 404);

    let namespaces: Api<Namespace> = Api::all(client);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("n".to_owned());
    namespaces.create(&dry, &namespace).await.expect("would create");
    assert!(namespaces.get_opt("n").await.expect("answers").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_see_every_change() {
    let plane = ControlPlane::start().await.expect("starts");
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&plane).await);
    maps.create(&PostParams::default(), &map("a", "1")).await.expect("creates");
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut seen = watcher(maps.clone(), config.labels("app=x")).applied_objects().boxed();
        let mut next = async || {
            let next = tokio::time::timeout(PATIENCE, seen.try_next()).await.expect("in time");
            next.expect("a change").expect("the watch lives").data.expect("data")["k"].clone()
        };
        let before = next().await;
        for value in ["2", "3"] {
            let patch = Patch::Merge(json!({"data": {"k": value}}));
            maps.patch("a", &PatchParams::default(), &patch).await.expect("merges");
            assert_eq!(next().await, value, "after {before}");
        }
    }
}

/// What the operator is asked for.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "compat.example.com", version = "v1", kind = "Echo", namespaced, status = "EchoStatus")]
struct EchoSpec {
    /// What to say.
    #[schemars(length(min = 1))]
    text: String,
}

/// What it has done.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
struct EchoStatus {
    said: String,
}

async fn reconcile(echo: Arc<Echo>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let namespace = echo.namespace().unwrap_or_default();
    let maps: Api<ConfigMap> = Api::namespaced(Client::clone(&client), &namespace);
    let owner = echo.controller_owner_ref(&()).expect("an owner");
    let name = echo.name_any();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [owner]},
        "data": {"text": echo.spec.text},
    });
    maps.patch(&name, &PatchParams::apply("echo").force(), &Patch::Apply(map)).await?;
    let echoes: Api<Echo> = Api::namespaced(Client::clone(&client), &namespace);
    let status = json!({"status": {"said": echo.spec.text}});
    echoes.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(Action::await_change())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_reconciles() {
    let plane = ControlPlane::start().await.expect("starts");
    let client = client(&plane).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = Echo::crd_name();
    let apply = PatchParams::apply("compat");
    definitions.patch(name, &apply, &Patch::Apply(Echo::crd())).await.expect("applies");
    let established = await_condition(definitions, name, conditions::is_crd_established());
    tokio::time::timeout(PATIENCE, established).await.expect("in time").expect("established");

    let echoes: Api<Echo> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let operator = Controller::new(echoes.clone(), watcher::Config::default())
        .owns(maps.clone(), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(100)), Arc::new(client))
        .for_each(|_| std::future::ready(()));
    let operator = daemon::tasks::spawn("operator", operator);
    let empty = Echo::new("e", EchoSpec { text: String::new() });
    assert_eq!(code(&echoes.create(&PostParams::default(), &empty).await.expect_err("too short")), 422);
    let echo = Echo::new("e", EchoSpec { text: "one".to_owned() });
    echoes.create(&PostParams::default(), &echo).await.expect("creates");
    let said = |text: &'static str| {
        await_condition(echoes.clone(), "e", move |echo: Option<&Echo>| {
            echo.and_then(|echo| echo.status.as_ref()).is_some_and(|status| status.said == text)
        })
    };
    tokio::time::timeout(PATIENCE, said("one")).await.expect("in time").expect("said");
    let change = Patch::Merge(json!({"spec": {"text": "two"}}));
    echoes.patch("e", &PatchParams::default(), &change).await.expect("merges");
    tokio::time::timeout(PATIENCE, said("two")).await.expect("in time").expect("said");
    // What it made comes back when somebody takes it away.
    maps.delete("e", &DeleteParams::default()).await.expect("deletes");
    testkit::eventually("the map is back", || async {
        maps.get_opt("e")
            .await
            .is_ok_and(|map| map.is_some_and(|map| map.data.expect("data")["text"] == "two"))
    })
    .await
    .expect("in time");
    operator.abort();
}
