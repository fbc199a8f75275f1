//! The API server, as far as a node needs one: pods that can be created and
//! deleted, statuses and events that can be looked at, and an absence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::types::authentication::v1::TokenRequest;
use api::types::coordination::v1::Lease;
use api::types::core::v1::{ConfigMap, Node, Pod, Secret, Service};
use futures::FutureExt as _;
use kubelet::cluster::{Answer, Cluster, ClusterError, Happening, PodChange};
use kubelet::pod::{self, PodId};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The API server.
#[derive(Default)]
pub struct Fake {
    /// Statuses by the pod's name.
    pub statuses: Mutex<BTreeMap<String, Value>>,
    /// Names of pods that were deleted.
    pub deleted: Mutex<Vec<String>>,
    /// Events: reason and message.
    pub told: Mutex<Vec<String>>,
    /// Pods that exist, by name.
    pub pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    /// Secrets by name.
    pub secrets: Mutex<BTreeMap<String, Secret>>,
    /// Config maps that do not exist.
    pub missing_maps: Mutex<Vec<String>>,
    /// Nobody answers.
    pub is_away: AtomicBool,
    watchers: Mutex<Vec<mpsc::UnboundedSender<PodChange>>>,
}

fn none<'a, T: Send + 'a>(what: &str) -> Answer<'a, T> {
    let what = what.to_owned();
    async move { Err(ClusterError::NotFound { what }) }.boxed()
}

fn away<'a, T: Send + 'a>() -> Answer<'a, T> {
    async { Err(ClusterError::Other("connection refused".to_owned())) }.boxed()
}

fn some<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    async move { Ok(value) }.boxed()
}

impl Fake {
    fn is_away(&self) -> bool {
        self.is_away.load(Ordering::SeqCst)
    }

    /// What a pod's status is now.
    pub fn status(&self, name: &str) -> Option<Value> {
        self.statuses.lock().get(name).cloned()
    }

    /// Whether an event of this text was told.
    pub fn has_told(&self, text: &str) -> bool {
        self.told.lock().iter().any(|told| told == text)
    }

    fn say(&self, change: &PodChange) {
        self.watchers.lock().retain(|watcher| watcher.send(change.clone()).is_ok());
    }

    /// Somebody makes a pod.
    pub fn put(&self, pod: Pod) {
        let pod = Arc::new(pod);
        self.pods.lock().insert(pod::id(&pod).name, Arc::clone(&pod));
        self.say(&PodChange::Set(pod));
    }

    /// Somebody deletes a pod for good.
    pub fn remove(&self, name: &str) {
        if let Some(pod) = self.pods.lock().remove(name) {
            self.say(&PodChange::Gone(pod::id(&pod)));
        }
    }
}

impl Cluster for Fake {
    fn watch_pods(&self) -> mpsc::Receiver<PodChange> {
        let (watcher, mut watched) = mpsc::unbounded_channel();
        for pod in self.pods.lock().values() {
            let _ = watcher.send(PodChange::Set(Arc::clone(pod)));
        }
        let _ = watcher.send(PodChange::Synced(kubelet::cluster::Source::Api));
        self.watchers.lock().push(watcher);
        let (sender, changes) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(change) = watched.recv().await {
                if sender.send(change).await.is_err() {
                    return;
                }
            }
        });
        changes
    }
    fn pod<'a>(&'a self, _: &'a PodId) -> Answer<'a, Pod> {
        none("pod")
    }
    fn create_pod<'a>(&'a self, pod: &'a Pod) -> Answer<'a, ()> {
        let name = pod::id(pod).name;
        if self.is_away() {
            return away();
        }
        if self.pods.lock().contains_key(&name) {
            return async { Err(ClusterError::AlreadyExists { what: "pod".to_owned() }) }.boxed();
        }
        let mut made = pod.clone();
        made.metadata.uid = Some(uuid::Uuid::new_v4().to_string());
        self.put(made);
        some(())
    }
    fn patch_pod_status<'a>(&'a self, id: &'a PodId, status: &'a Value) -> Answer<'a, ()> {
        if self.is_away() {
            return away();
        }
        if self.pods.lock().get(&id.name).is_some_and(|pod| pod::id(pod).uid != id.uid) {
            return async { Err(ClusterError::Conflict("uid".to_owned())) }.boxed();
        }
        self.statuses.lock().insert(id.name.clone(), status.clone());
        some(())
    }
    fn delete_pod<'a>(&'a self, id: &'a PodId) -> Answer<'a, ()> {
        if self.is_away() {
            return away();
        }
        self.deleted.lock().push(id.name.clone());
        if self.pods.lock().get(&id.name).is_some_and(|pod| pod::id(pod).uid == id.uid) {
            self.remove(&id.name);
        }
        some(())
    }
    fn config_map<'a>(&'a self, _: &'a str, name: &'a str) -> Answer<'a, Arc<ConfigMap>> {
        if self.is_away() {
            return away();
        }
        if self.missing_maps.lock().iter().any(|missing| missing == name) {
            return none(&format!("configmap \"{name}\""));
        }
        let map = serde_json::from_value(json!({"data": {"greeting": "hello"}})).expect("a config map");
        some(Arc::new(map))
    }
    fn secret<'a>(&'a self, _: &'a str, name: &'a str) -> Answer<'a, Arc<Secret>> {
        match self.secrets.lock().get(name) {
            Some(secret) => some(Arc::new(secret.clone())),
            None => none("secret"),
        }
    }
    fn services<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<Arc<Service>>> {
        some(Vec::new())
    }
    fn token<'a>(&'a self, _: &'a str, _: &'a str, _: &'a TokenRequest) -> Answer<'a, TokenRequest> {
        none("token")
    }
    fn node<'a>(&'a self, name: &'a str) -> Answer<'a, Node> {
        if self.is_away() {
            return away();
        }
        let node = json!({"metadata": {"name": name, "uid": "node-uid"}});
        some(serde_json::from_value(node).expect("a node"))
    }
    fn create_node<'a>(&'a self, _: &'a Node) -> Answer<'a, ()> {
        none("node")
    }
    fn patch_node<'a>(&'a self, _: &'a str, _: &'a Value) -> Answer<'a, ()> {
        none("node")
    }
    fn patch_node_status<'a>(&'a self, _: &'a str, _: &'a Value) -> Answer<'a, ()> {
        none("node")
    }
    fn put_lease<'a>(&'a self, _: &'a Lease) -> Answer<'a, Lease> {
        none("lease")
    }
    fn lease<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, Lease> {
        none("lease")
    }
    fn tell_pod(&self, _: &Pod, happening: Happening) {
        self.told.lock().push(format!("{} {}", happening.reason, happening.message));
    }
    fn tell_node(&self, _: &str, _: Happening) {}
}
