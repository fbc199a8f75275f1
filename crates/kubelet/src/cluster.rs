//! What the kubelet needs of the API server, as one narrow trait: tests and
//! standalone nodes implement it without a cluster.

use std::sync::Arc;

use api::types::authentication::v1::TokenRequest;
use api::types::coordination::v1::Lease;
use api::types::core::v1::{ConfigMap, Node, Pod, Secret, Service};
use futures::future::BoxFuture;
use serde_json::Value;

use crate::pod::PodId;

/// A call to the API server that failed, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no such object.
    #[error("{what} not found")]
    NotFound {
        /// Kind and name.
        what: String,
    },
    /// There is one already.
    #[error("{what} exists already")]
    AlreadyExists {
        /// Kind and name.
        what: String,
    },
    /// The object is not the one meant: another uid or revision.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Anything else; worth another try later.
    #[error("{0}")]
    Other(String),
}

/// A change in the set of pods bound to this node.
#[derive(Clone, Debug)]
pub enum PodChange {
    /// The pod as it is now.
    Set(Arc<Pod>),
    /// The pod is gone.
    Gone(PodId),
    /// Everything that this source has has been reported once.
    Synced(Source),
}

/// Where pods come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The API server.
    Api,
    /// Manifests on this node.
    Files,
}

/// What happened, for an Event object.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Whether it is a warning.
    pub is_warning: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// The container concerned, as a field path.
    pub field_path: Option<String>,
}

/// The result of a call.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, ClusterError>>;

/// The API server, as far as a node needs it.
pub trait Cluster: Send + Sync + 'static {
    /// Pods bound to this node, from now on.
    fn watch_pods(&self) -> tokio::sync::mpsc::Receiver<PodChange>;
    /// A pod as the API server has it now.
    fn pod<'a>(&'a self, id: &'a PodId) -> Answer<'a, Pod>;
    /// Creates a pod (mirror pods).
    fn create_pod<'a>(&'a self, pod: &'a Pod) -> Answer<'a, ()>;
    /// Replaces the fields of a pod's status that `status` has.
    fn patch_pod_status<'a>(&'a self, id: &'a PodId, status: &'a Value) -> Answer<'a, ()>;
    /// Deletes a pod at once, if it still has that uid.
    fn delete_pod<'a>(&'a self, id: &'a PodId) -> Answer<'a, ()>;
    /// A config map.
    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Arc<ConfigMap>>;
    /// A secret.
    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Arc<Secret>>;
    /// Services of a namespace, for environment variables.
    fn services<'a>(&'a self, namespace: &'a str) -> Answer<'a, Vec<Arc<Service>>>;
    /// A token for a service account.
    fn token<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        request: &'a TokenRequest,
    ) -> Answer<'a, TokenRequest>;
    /// A node.
    fn node<'a>(&'a self, name: &'a str) -> Answer<'a, Node>;
    /// Creates a node.
    fn create_node<'a>(&'a self, node: &'a Node) -> Answer<'a, ()>;
    /// Merges metadata or spec of a node.
    fn patch_node<'a>(&'a self, name: &'a str, patch: &'a Value) -> Answer<'a, ()>;
    /// Merges a node's status.
    fn patch_node_status<'a>(&'a self, name: &'a str, patch: &'a Value) -> Answer<'a, ()>;
    /// Creates or renews a lease (its resource version, if any, must match).
    fn put_lease<'a>(&'a self, lease: &'a Lease) -> Answer<'a, Lease>;
    /// The lease of a node.
    fn lease<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Lease>;
    /// Tells about a pod; best effort.
    fn tell_pod(&self, pod: &Pod, happening: Happening);
    /// Tells about a node; best effort.
    fn tell_node(&self, name: &str, happening: Happening);
}
