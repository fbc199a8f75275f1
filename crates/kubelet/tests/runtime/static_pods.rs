//! Static pods: they run without an API server, survive the kubelet, follow
//! their manifests, and are shown by mirrors once there is an API server.

use std::sync::Arc;

use api::types::core::v1::Pod;
use kubelet::cluster::Cluster as _;
use kubelet::pod;
use kubelet::runtime::record::Record;
use kubelet::sources::files;
use kubelet::worker::task::Tools;
use serde_json::json;

use crate::fake::Fake;
use crate::machine::{IMAGE, Kubelet, Machine, run, until};

const NAME: &str = "web-node";

fn manifest(seconds: u32) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": [{"name": "c", "image": IMAGE,
            "command": ["sh", "-c", format!("trap 'exit 0' TERM; while :; do sleep 0.{seconds}; done")]}]}
    })
    .to_string()
}

/// The running container of the pod, and the pod's uid.
async fn running(kubelet: &Kubelet, what: &str) -> (Record, String) {
    until(what, async || {
        let (found, shown) = kubelet.pods.find("default", NAME, "")?;
        let record = shown.observed.latest("c").filter(|record| record.is_running())?.clone();
        Some((record, pod::id(&found).uid))
    })
    .await
}

async fn mirror(cluster: &Fake, what: &str, uid: &str) -> Arc<Pod> {
    until(what, async || {
        let mirror = cluster.pods.lock().get(NAME).cloned()?;
        (pod::annotation(&mirror, pod::CONFIG_MIRROR) == Some(uid)).then_some(mirror)
    })
    .await
}

fn kubelet_with_files(machine: &Machine, tools: &Arc<Tools>) -> Kubelet {
    let kubelet = Kubelet::start(tools);
    kubelet.follow(files::watch(machine.path("manifests"), "node"));
    kubelet
}

async fn story(machine: &Machine) {
    let cluster = Arc::new(Fake::default());
    let tools = machine.tools(&cluster).await;
    let directory = machine.path("manifests");
    std::fs::create_dir(&directory).expect("mkdir");
    let file = directory.join("web.json");
    let write = |text: &str| {
        let partial = directory.join(".partial");
        std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, &file)).expect("write");
    };

    // Without a word from the API server.
    let kubelet = kubelet_with_files(machine, &tools);
    write(&manifest(1));
    let (first, first_uid) = running(&kubelet, "the static pod").await;

    // A restart finds it.
    kubelet.crash().await;
    let kubelet = kubelet_with_files(machine, &tools);
    let (again, uid) = running(&kubelet, "the same pod").await;
    assert_eq!((&again.id, &again.state, &uid), (&first.id, &first.state, &first_uid));

    // The API server comes, but somebody else has the name.
    let other = json!({"metadata": {"namespace": "default", "name": NAME, "uid": "other",
        "annotations": {pod::CONFIG_MIRROR: "another node's"}}, "spec": {"containers": []}});
    let other: Pod = serde_json::from_value(other).expect("a pod");
    cluster.pods.lock().insert(NAME.to_owned(), Arc::new(other));
    let (changes, source) = tokio::sync::mpsc::channel(4);
    kubelet.follow(source);
    changes.send(kubelet::cluster::PodChange::Synced(kubelet::cluster::Source::Api)).await.expect("listens");
    // The foreign pod was not in this node's watch: it is not ours to remove.
    kubelet.follow(only_changes(cluster.watch_pods()));
    cluster.pods.lock().remove(NAME);
    let shown = mirror(&cluster, "a mirror once the name is free", &uid).await;
    assert_eq!(
        shown.metadata.owner_references.as_ref().map(|owners| owners[0].uid.as_str()),
        Some("node-uid")
    );
    until("the mirror's status", async || cluster.status(NAME).filter(|status| status["phase"] == "Running"))
        .await;

    // A mirror that is deleted comes back; the pod does not notice.
    cluster.statuses.lock().clear();
    cluster.remove(NAME);
    let second = mirror(&cluster, "a new mirror", &uid).await;
    assert_ne!(pod::id(&second).uid, pod::id(&shown).uid);
    until("the new mirror's status", async || cluster.status(NAME)).await;
    let mirror_uid = pod::id(&second).uid;
    assert!(kubelet.pods.find("default", NAME, &mirror_uid).is_some(), "found by the mirror's uid, for logs");
    assert_eq!(running(&kubelet, "the pod").await.0.id, first.id);

    // Another manifest is another pod, after the old one.
    write(&manifest(2));
    let (changed, uid) = until("the changed pod", async || {
        let (record, uid) = running(&kubelet, "a pod").await;
        (record.id != first.id).then_some((record, uid))
    })
    .await;
    assert_ne!(uid, first_uid);
    assert_eq!(changed.attempt, 0, "a pod of its own");
    mirror(&cluster, "the changed mirror", &uid).await;

    // A manifest changed while the kubelet is away.
    kubelet.crash().await;
    write(&manifest(3));
    let kubelet = kubelet_with_files(machine, &tools);
    let uid = until("the pod of the newest manifest", async || {
        let (record, uid) = running(&kubelet, "a pod").await;
        (record.id != changed.id).then_some(uid)
    })
    .await;
    let left = tools.runtime.pods().await.expect("pods");
    assert_eq!(left.len(), 1, "the old one ended before: {left:?}");
    kubelet.follow(cluster.watch_pods());
    mirror(&cluster, "the newest mirror", &uid).await;

    // The manifest goes, and everything with it.
    std::fs::remove_file(&file).expect("remove");
    until("the end", async || {
        let is_gone = kubelet.pods.list().is_empty() && !cluster.pods.lock().contains_key(NAME);
        is_gone.then_some(())
    })
    .await;
    machine.assert_clean(&tools).await;
    kubelet.crash().await;
}

/// A watch that begins with what happens from now on.
fn only_changes(
    mut source: tokio::sync::mpsc::Receiver<kubelet::cluster::PodChange>,
) -> tokio::sync::mpsc::Receiver<kubelet::cluster::PodChange> {
    let (sender, changes) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let mut has_synced = false;
        while let Some(change) = source.recv().await {
            if !has_synced {
                has_synced = matches!(change, kubelet::cluster::PodChange::Synced(_));
            } else if sender.send(change).await.is_err() {
                return;
            }
        }
    });
    changes
}

#[test]
fn static_pods() {
    run(async |machine| story(machine).await);
}
