//! Makes volumes of directories on nodes, for clusters without a storage system:
//! a claim of a class whose provisioner is [`PROVISIONER`] gets a directory on
//! the node that the scheduler chose for its first pod. A pod on that node takes
//! the directory away again.

mod cleanup;
mod provision;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::types::storage::v1::StorageClass;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// The provisioner's name in storage classes.
pub const PROVISIONER: &str = "corten.dev/local-path";
/// Says of a volume who made it, and is to delete it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// The namespace of the pods that take directories away.
const NAMESPACE: &str = "kube-system";

/// The caches of the loop that makes volumes.
pub struct Provisioner {
    claims: Arc<Cache<PersistentVolumeClaim>>,
    classes: Arc<Cache<StorageClass>>,
    nodes: Arc<Cache<Node>>,
    volumes: Arc<Cache<PersistentVolume>>,
    root: String,
}

/// What a claim's plan is made of.
pub struct Wanted {
    claim: Arc<PersistentVolumeClaim>,
    class: Arc<StorageClass>,
    /// The node that the scheduler chose; `None`: it has not, or the node is gone.
    node: Option<Arc<Node>>,
    /// The directory under which volumes are.
    root: String,
}

/// The loop that makes volumes, wired.
pub fn start(context: &Context) -> Loop {
    let (claims, nodes) = (context.caches.claims(), context.caches.nodes());
    let (classes, volumes) = (context.caches.storage_classes(), context.caches.volumes());
    let reconciler = Provisioner {
        claims: Arc::clone(&claims),
        classes: Arc::clone(&classes),
        nodes: Arc::clone(&nodes),
        volumes: Arc::clone(&volumes),
        root: context.flags.local_path_root.clone(),
    };
    Loop::new(reconciler, 1).own(&claims).reads(&classes).reads(&nodes).reads(&volumes)
}

impl Reconciler for Provisioner {
    const NAME: &'static str = "local-path-provisioner";
    type Observed = Wanted;

    fn observe(&self, key: &ObjectKey) -> Option<Wanted> {
        let claim = self.claims.get_key(key).filter(|claim| provision::is_ours(claim))?;
        if self.volumes.get("", &provision::volume_name(&claim)).is_some() {
            // It is made, and about to be bound.
            return None;
        }
        let class = self.classes.get("", claim.spec.as_ref()?.storage_class_name.as_deref()?)?;
        let node = provision::selected_node(&claim).and_then(|name| self.nodes.get("", name));
        Some(Wanted { claim, class, node, root: self.root.clone() })
    }

    fn plan(&self, wanted: &Wanted, _: &Moment) -> Plan {
        provision::plan(wanted)
    }
}

/// The caches of the loop that takes volumes away.
pub struct Cleaner {
    volumes: Arc<Cache<PersistentVolume>>,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    image: String,
}

/// What a volume's plan is made of.
pub struct Released {
    volume: Arc<PersistentVolume>,
    /// The pod that takes its directory away.
    pod: Option<Arc<Pod>>,
    /// Whether the node that has the directory is still there.
    has_node: bool,
    /// The image of such pods.
    image: String,
}

/// The loop that takes volumes away, wired.
pub fn start_cleaning(context: &Context) -> Loop {
    let (volumes, pods, nodes) = (context.caches.volumes(), context.caches.pods(), context.caches.nodes());
    let reconciler = Cleaner {
        volumes: Arc::clone(&volumes),
        pods: Arc::clone(&pods),
        nodes: Arc::clone(&nodes),
        image: context.flags.local_path_helper_image.clone(),
    };
    Loop::new(reconciler, 1).own(&volumes).reads(&nodes).mapped(&pods, |change| {
        let pod = change.new.or(change.old).filter(|_| change.key.namespace == NAMESPACE);
        pod.and_then(|pod| cleanup::volume_of(pod)).map(|name| ObjectKey::new("", name)).into_iter().collect()
    })
}

impl Reconciler for Cleaner {
    const NAME: &'static str = "local-path-cleaner";
    type Observed = Released;

    fn observe(&self, key: &ObjectKey) -> Option<Released> {
        let volume = self.volumes.get_key(key).filter(|volume| cleanup::is_due(volume))?;
        let pod = self.pods.get(NAMESPACE, &cleanup::pod_name(&volume));
        let host = cleanup::host(&volume);
        let has_node =
            host.is_some_and(|host| self.nodes.list().iter().any(|node| provision::host_name(node) == host));
        Some(Released { volume, pod, has_node, image: self.image.clone() })
    }

    fn plan(&self, released: &Released, _: &Moment) -> Plan {
        cleanup::plan(released)
    }
}
