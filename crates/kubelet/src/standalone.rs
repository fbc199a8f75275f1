//! [`Cluster`] for a node without an API server: there are no objects but the
//! manifests of static pods, and what would be an event is logged.

use std::sync::Arc;

use api::types::authentication::v1::TokenRequest;
use api::types::coordination::v1::Lease;
use api::types::core::v1::{ConfigMap, Node, Pod, Secret, Service};
use futures::FutureExt as _;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::cluster::{Answer, Cluster, ClusterError, Happening, PodChange, Source};
use crate::pod::{self, PodId};

/// A cluster of nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standalone;

fn nothing<'a, T: Send + 'a>() -> Answer<'a, T> {
    async { Err(ClusterError::Other("this node has no API server".to_owned())) }.boxed()
}

impl Cluster for Standalone {
    fn watch_pods(&self) -> mpsc::Receiver<PodChange> {
        crate::sources::empty(Source::Api)
    }

    fn pod<'a>(&'a self, _: &'a PodId) -> Answer<'a, Pod> {
        nothing()
    }

    fn create_pod<'a>(&'a self, _: &'a Pod) -> Answer<'a, ()> {
        nothing()
    }

    fn patch_pod_status<'a>(&'a self, _: &'a PodId, _: &'a Value) -> Answer<'a, ()> {
        nothing()
    }

    fn delete_pod<'a>(&'a self, _: &'a PodId) -> Answer<'a, ()> {
        nothing()
    }

    fn config_map<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, Arc<ConfigMap>> {
        nothing()
    }

    fn secret<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, Arc<Secret>> {
        nothing()
    }

    fn services<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<Arc<Service>>> {
        nothing()
    }

    fn token<'a>(&'a self, _: &'a str, _: &'a str, _: &'a TokenRequest) -> Answer<'a, TokenRequest> {
        nothing()
    }

    fn node<'a>(&'a self, _: &'a str) -> Answer<'a, Node> {
        nothing()
    }

    fn create_node<'a>(&'a self, _: &'a Node) -> Answer<'a, ()> {
        nothing()
    }

    fn patch_node<'a>(&'a self, _: &'a str, _: &'a Value) -> Answer<'a, ()> {
        nothing()
    }

    fn patch_node_status<'a>(&'a self, _: &'a str, _: &'a Value) -> Answer<'a, ()> {
        nothing()
    }

    fn put_lease<'a>(&'a self, _: &'a Lease) -> Answer<'a, Lease> {
        nothing()
    }

    fn lease<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, Lease> {
        nothing()
    }

    fn tell_pod(&self, pod: &Pod, happening: Happening) {
        tracing::info!(pod = %pod::id(pod), reason = happening.reason, "{}", happening.message);
    }

    fn tell_node(&self, name: &str, happening: Happening) {
        tracing::info!(node = name, reason = happening.reason, "{}", happening.message);
    }
}
