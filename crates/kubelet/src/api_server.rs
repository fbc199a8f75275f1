//! [`Cluster`] over the API server's gRPC service.

use std::sync::Arc;

use api::Reason;
use api::types::authentication::v1::TokenRequest;
use api::types::coordination::v1::Lease;
use api::types::core::v1::{ConfigMap, Node, ObjectReference, Pod, Secret, Service};
use client::Client;
use client::cached::{Cache, Scope};
use client::events::Recorder;
use client::verbs::{DeleteOptions, Patch, WriteOptions, target};
use client::watch::{Step, Watched, follow};
use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::cluster::{Answer, Cluster, ClusterError, Happening, PodChange, Source};
use crate::pod::{self, PodId};

/// The API server as seen by one node.
pub struct ApiServer {
    client: Client,
    node: String,
    recorder: Recorder,
    services: Arc<Cache<Service>>,
}

impl ApiServer {
    /// The API server behind a client, for the node of that name.
    #[must_use]
    pub fn new(client: Client, node: &str) -> Self {
        let recorder = Recorder::start(&client, "kubelet", Some(node), crate::time::now);
        let services = Cache::start(&client, Scope::default());
        Self { client, node: node.to_owned(), recorder, services }
    }
}

fn failed(what: String) -> impl FnOnce(api::Status) -> ClusterError {
    move |status| match status.reason {
        Reason::NotFound => ClusterError::NotFound { what },
        Reason::AlreadyExists => ClusterError::AlreadyExists { what },
        Reason::Conflict => ClusterError::Conflict(status.message),
        _ => ClusterError::Other(format!("{what}: {}", status.message)),
    }
}

/// What a watch of pods has reported, so that a new list shows what is gone.
#[derive(Default)]
struct Reported {
    pods: std::collections::HashMap<String, PodId>,
    has_listed: bool,
}

impl Reported {
    fn changes(&mut self, step: Step) -> Vec<PodChange> {
        let mut changes = Vec::new();
        let decode = |json: &[u8]| match serde_json::from_slice::<Pod>(json) {
            Ok(pod) => Some(Arc::new(pod)),
            Err(error) => {
                tracing::error!(error = %error, "pod from the API server not understood");
                None
            }
        };
        match step {
            Step::Listed { items, .. } => {
                let pods: Vec<Arc<Pod>> = items.iter().filter_map(|item| decode(item)).collect();
                let now: std::collections::HashMap<String, PodId> =
                    pods.iter().map(|pod| pod::id(pod)).map(|id| (id.uid.clone(), id)).collect();
                let gone = self.pods.values().filter(|id| !now.contains_key(&id.uid)).cloned();
                changes.extend(gone.map(PodChange::Gone));
                changes.extend(pods.into_iter().map(PodChange::Set));
                self.pods = now;
                if !std::mem::replace(&mut self.has_listed, true) {
                    changes.push(PodChange::Synced(Source::Api));
                }
            }
            Step::Applied { json, .. } => {
                if let Some(pod) = decode(&json) {
                    let id = pod::id(&pod);
                    self.pods.insert(id.uid.clone(), id);
                    changes.push(PodChange::Set(pod));
                }
            }
            Step::Deleted { json, .. } => {
                if let Some(pod) = decode(&json) {
                    let id = pod::id(&pod);
                    self.pods.remove(&id.uid);
                    changes.push(PodChange::Gone(id));
                }
            }
            Step::Progress { .. } => {}
        }
        changes
    }
}

impl Cluster for ApiServer {
    fn watch_pods(&self) -> mpsc::Receiver<PodChange> {
        let (sender, receiver) = mpsc::channel(1024);
        let (steps, mut taken) = mpsc::unbounded_channel();
        let client = self.client.clone();
        let watched = Watched {
            target: target::<Pod>("", ""),
            labels: String::new(),
            fields: format!("spec.nodeName={}", self.node),
        };
        daemon::tasks::spawn("watch-pods", async move {
            follow(&client, &watched, |step| steps.send(step).is_ok()).await;
        });
        daemon::tasks::spawn("report-pods", async move {
            let mut reported = Reported::default();
            while let Some(step) = taken.recv().await {
                for change in reported.changes(step) {
                    if sender.send(change).await.is_err() {
                        return;
                    }
                }
            }
        });
        receiver
    }

    fn pod<'a>(&'a self, id: &'a PodId) -> Answer<'a, Pod> {
        async move { self.client.get::<Pod>(&id.namespace, &id.name).await.map_err(failed(format!("pod {id}"))) }.boxed()
    }

    fn create_pod<'a>(&'a self, pod: &'a Pod) -> Answer<'a, ()> {
        async move { self.client.create(pod).await.map(drop).map_err(failed("mirror pod".to_owned())) }
            .boxed()
    }

    fn patch_pod_status<'a>(&'a self, id: &'a PodId, status: &'a Value) -> Answer<'a, ()> {
        async move {
            // Lists are replaced whole: this component alone owns them. The uid
            // makes a pod of the same name refuse another's status.
            let patch = Patch::Merge(json!({"metadata": {"uid": id.uid}, "status": status}));
            let patched = self.client.patch_status::<Pod>(&id.namespace, &id.name, &patch).await;
            patched.map(drop).map_err(failed(format!("status of pod {id}")))
        }
        .boxed()
    }

    fn delete_pod<'a>(&'a self, id: &'a PodId) -> Answer<'a, ()> {
        async move {
            let options =
                DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::of_uid(id.uid.clone()) };
            let deleted = self.client.delete::<Pod>(&id.namespace, &id.name, &options).await;
            deleted.map_err(failed(format!("pod {id}")))
        }
        .boxed()
    }

    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Arc<ConfigMap>> {
        async move {
            let map = self.client.get::<ConfigMap>(namespace, name).await;
            map.map(Arc::new).map_err(failed(format!("configmap \"{name}\"")))
        }
        .boxed()
    }

    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Arc<Secret>> {
        async move {
            let secret = self.client.get::<Secret>(namespace, name).await;
            secret.map(Arc::new).map_err(failed(format!("secret \"{name}\"")))
        }
        .boxed()
    }

    fn services<'a>(&'a self, namespace: &'a str) -> Answer<'a, Vec<Arc<Service>>> {
        async move { Ok(self.services.list_namespace(namespace)) }.boxed()
    }

    fn token<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        request: &'a TokenRequest,
    ) -> Answer<'a, TokenRequest> {
        async move {
            let mut target = target::<api::types::core::v1::ServiceAccount>(namespace, name);
            "token".clone_into(&mut target.subresource);
            let body = serde_json::to_vec(request).map_err(|error| ClusterError::Other(error.to_string()))?;
            let what = format!("token of serviceaccount \"{name}\"");
            let answer = self
                .client
                .create_json(target, body.into(), &WriteOptions::default())
                .await
                .map_err(failed(what))?;
            serde_json::from_slice(&answer.json).map_err(|error| ClusterError::Other(error.to_string()))
        }
        .boxed()
    }

    fn node<'a>(&'a self, name: &'a str) -> Answer<'a, Node> {
        async move { self.client.get::<Node>("", name).await.map_err(failed(format!("node {name}"))) }.boxed()
    }

    fn create_node<'a>(&'a self, node: &'a Node) -> Answer<'a, ()> {
        async move { self.client.create(node).await.map(drop).map_err(failed("node".to_owned())) }.boxed()
    }

    fn patch_node<'a>(&'a self, name: &'a str, patch: &'a Value) -> Answer<'a, ()> {
        async move {
            let patch = Patch::Merge(patch.clone());
            self.client
                .patch::<Node>("", name, &patch)
                .await
                .map(drop)
                .map_err(failed(format!("node {name}")))
        }
        .boxed()
    }

    fn patch_node_status<'a>(&'a self, name: &'a str, patch: &'a Value) -> Answer<'a, ()> {
        async move {
            let patch = Patch::Strategic(patch.clone());
            self.client
                .patch_status::<Node>("", name, &patch)
                .await
                .map(drop)
                .map_err(failed(format!("node {name}")))
        }
        .boxed()
    }

    fn put_lease<'a>(&'a self, lease: &'a Lease) -> Answer<'a, Lease> {
        async move {
            let what = || failed("node lease".to_owned());
            if lease.metadata.resource_version.is_some() {
                self.client.update(lease).await.map_err(what())
            } else {
                self.client.create(lease).await.map_err(what())
            }
        }
        .boxed()
    }

    fn lease<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Lease> {
        async move { self.client.get::<Lease>(namespace, name).await.map_err(failed(format!("lease {name}"))) }.boxed()
    }

    fn tell_pod(&self, pod: &Pod, happening: Happening) {
        let about =
            ObjectReference { field_path: happening.field_path.clone(), ..client::events::reference(pod) };
        self.tell(about, happening);
    }

    fn tell_node(&self, name: &str, happening: Happening) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.tell(about, happening);
    }
}

impl ApiServer {
    fn tell(&self, about: ObjectReference, happening: Happening) {
        if happening.is_warning {
            self.recorder.warning(about, happening.reason, happening.message);
        } else {
            self.recorder.normal(about, happening.reason, happening.message);
        }
    }
}
