//! The cached lists that controllers share: one watch per kind, started when
//! the first controller asks for it.

use std::sync::{Arc, OnceLock};

use api::metav1::ObjectMeta;
use api::types::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use api::types::autoscaling::v2::HorizontalPodAutoscaler;
use api::types::batch::v1::{CronJob, Job};
use api::types::certificates::v1::CertificateSigningRequest;
use api::types::coordination::v1::Lease;
use api::types::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
};
use api::types::discovery::v1::EndpointSlice;
use api::types::networking::v1::{IPAddress, ServiceCIDR};
use api::types::policy::v1::PodDisruptionBudget;
use api::types::rbac::v1::ClusterRole;
use api::types::resource::v1::{ResourceClaim, ResourceClaimTemplate, ResourceSlice};
use api::types::storage::v1::{CSIDriver, StorageClass, VolumeAttachment, VolumeAttributesClass};
use api::{LabelSelector, Metadata, ObjectKey, metav1};
use client::cached::{Cached, IndexTerms};
use client::{Cache, Change, Client, Scope};
use reconcile::wiring::controller_of;

use crate::owners;

/// Index of objects by the uid of their controller; those without one are found
/// with the owner's own by [`claimable`].
pub const CONTROLLER: &str = "controller";
/// Index of objects by namespace.
pub const NAMESPACE: &str = "namespace";
/// Index of pods by node, of endpoint slices by service, of claims by the volume that they name,
/// and of volumes by the claim that they refer to.
pub const TIED_TO: &str = "tied to";
/// Index of pods that wait to be counted, by the job that is to let them go.
pub const TRACKED: &str = "tracked";

/// Index of claims that name no volume; the term is empty.
pub const UNBOUND: &str = "unbound";

/// The namespace of the leases by which nodes say that they live.
const NODE_LEASES: &str = "kube-node-lease";

type Shared<K> = OnceLock<Arc<Cache<K>>>;

/// The caches.
#[derive(Default)]
pub struct Caches {
    client: Option<Client>,
    attributes_classes: Shared<VolumeAttributesClass>,
    autoscalers: Shared<HorizontalPodAutoscaler>,
    bootstrap_tokens: Shared<Secret>,
    claims: Shared<PersistentVolumeClaim>,
    cluster_info: Shared<ConfigMap>,
    cluster_roles: Shared<ClusterRole>,
    config_maps: Shared<ConfigMap>,
    controller_revisions: Shared<ControllerRevision>,
    cron_jobs: Shared<CronJob>,
    csi_drivers: Shared<CSIDriver>,
    daemon_sets: Shared<DaemonSet>,
    deployments: Shared<Deployment>,
    disruption_budgets: Shared<PodDisruptionBudget>,
    endpoints: Shared<Endpoints>,
    ip_addresses: Shared<IPAddress>,
    jobs: Shared<Job>,
    leases: Shared<Lease>,
    namespaces: Shared<Namespace>,
    nodes: Shared<Node>,
    pods: Shared<Pod>,
    replica_sets: Shared<ReplicaSet>,
    replication_controllers: Shared<ReplicationController>,
    resource_claim_templates: Shared<ResourceClaimTemplate>,
    resource_claims: Shared<ResourceClaim>,
    resource_quotas: Shared<ResourceQuota>,
    resource_slices: Shared<ResourceSlice>,
    service_account_tokens: Shared<Secret>,
    service_accounts: Shared<ServiceAccount>,
    service_cidrs: Shared<ServiceCIDR>,
    services: Shared<Service>,
    signing_requests: Shared<CertificateSigningRequest>,
    slices: Shared<EndpointSlice>,
    stateful_sets: Shared<StatefulSet>,
    storage_classes: Shared<StorageClass>,
    token_tracking: Shared<ConfigMap>,
    volume_attachments: Shared<VolumeAttachment>,
    volumes: Shared<PersistentVolume>,
}

/// The term of an index by controller under which the objects of a namespace
/// are that have none.
fn orphans_in(namespace: &str) -> String {
    format!("none/{namespace}")
}

/// The objects that an owner controls, and those of its namespace that nobody controls.
pub fn claimable<O: Cached>(
    cache: &Cache<O>,
    owner: &impl Metadata<Ty = ObjectMeta>,
    namespace: &str,
) -> Vec<Arc<O>> {
    let mut all = cache.indexed(CONTROLLER, owners::uid(owner));
    all.extend(cache.indexed(CONTROLLER, &orphans_in(namespace)));
    all
}

/// The keys of those in a namespace that may want an object without controller.
pub fn adopters<O: Cached, K: Cached>(
    adopting: &Cache<O>,
    change: &Change<'_, K>,
    selector: impl Fn(&O) -> LabelSelector,
) -> Vec<ObjectKey> {
    let Some(orphan) = change.new.map(|object| object.metadata()).filter(|one| controller_of(one).is_none())
    else {
        return Vec::new();
    };
    let candidates = adopting.indexed(NAMESPACE, &change.key.namespace);
    let selecting = candidates.iter().filter(|one| selector(one).matches(&orphan.labels));
    selecting.map(|one| ObjectKey::of(&**one)).collect()
}

fn controller<K: Metadata<Ty = ObjectMeta>>(object: &K) -> Vec<String> {
    let metadata: &metav1::ObjectMeta = object.metadata();
    let orphan = || orphans_in(metadata.namespace.as_deref().unwrap_or_default());
    vec![controller_of(metadata).map_or_else(orphan, |owner| owner.uid.clone())]
}

fn namespace<K: Metadata<Ty = ObjectMeta>>(object: &K) -> Vec<String> {
    object.metadata().namespace.iter().cloned().collect()
}

fn node(pod: &Pod) -> Vec<String> {
    pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect()
}

fn named_volume(claim: &PersistentVolumeClaim) -> Option<&String> {
    claim.spec.as_ref()?.volume_name.as_ref().filter(|name| !name.is_empty())
}

fn volume(claim: &PersistentVolumeClaim) -> Vec<String> {
    named_volume(claim).into_iter().cloned().collect()
}

fn unbound(claim: &PersistentVolumeClaim) -> Vec<String> {
    named_volume(claim).is_none().then(String::new).into_iter().collect()
}

fn claim(volume: &PersistentVolume) -> Vec<String> {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let key = reference.map(|one| {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        ObjectKey::new(text(&one.namespace), text(&one.name))
    });
    key.map(|key| key.to_string()).into_iter().collect()
}

fn tracking_job(pod: &Pod) -> Vec<String> {
    crate::job::tracking_job(pod).map(|key| key.to_string()).into_iter().collect()
}

fn service(slice: &EndpointSlice) -> Vec<String> {
    let name =
        slice.metadata.labels.as_ref().and_then(|labels| labels.get(crate::endpointslice::SERVICE_NAME));
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    name.map(|name| format!("{namespace}/{name}")).into_iter().collect()
}

impl Caches {
    /// Caches that follow a server.
    #[must_use]
    pub fn following(client: Client) -> Self {
        Self { client: Some(client), ..Self::default() }
    }

    fn of<K: Cached>(
        &self,
        shared: &Shared<K>,
        scope: Scope,
        indexes: Vec<(&'static str, IndexTerms<K>)>,
    ) -> Arc<Cache<K>> {
        let cache = shared.get_or_init(|| match &self.client {
            Some(client) => Cache::start_indexed(client, scope, indexes),
            None => Arc::new(Cache::empty(indexes)),
        });
        Arc::clone(cache)
    }

    /// The config maps that hold the root CA, one in each namespace.
    #[must_use]
    pub fn root_ca_config_maps(&self) -> Arc<Cache<ConfigMap>> {
        let scope =
            Scope { fields: format!("metadata.name={}", crate::root_ca::CONFIG_MAP), ..Scope::default() };
        self.of(&self.config_maps, scope, vec![])
    }

    /// Tokens of service accounts that are kept as secrets.
    #[must_use]
    pub fn service_account_tokens(&self) -> Arc<Cache<Secret>> {
        let fields = "type=kubernetes.io/service-account-token".to_owned();
        self.of(&self.service_account_tokens, Scope { fields, ..Scope::default() }, vec![])
    }

    /// The config map that says since when the use of such tokens is noted.
    #[must_use]
    pub fn token_tracking(&self) -> Arc<Cache<ConfigMap>> {
        let scope = Scope {
            namespace: "kube-system".to_owned(),
            fields: "metadata.name=kube-apiserver-legacy-service-account-token-tracking".to_owned(),
            ..Scope::default()
        };
        self.of(&self.token_tracking, scope, vec![])
    }

    /// Bootstrap tokens.
    #[must_use]
    pub fn bootstrap_tokens(&self) -> Arc<Cache<Secret>> {
        let scope = Scope {
            namespace: "kube-system".to_owned(),
            fields: "type=bootstrap.kubernetes.io/token".to_owned(),
            ..Scope::default()
        };
        self.of(&self.bootstrap_tokens, scope, vec![])
    }

    /// The public description of the cluster.
    #[must_use]
    pub fn cluster_info(&self) -> Arc<Cache<ConfigMap>> {
        let scope = Scope {
            namespace: crate::bootstrap_signer::NAMESPACE.to_owned(),
            fields: format!("metadata.name={}", crate::bootstrap_signer::CLUSTER_INFO),
            ..Scope::default()
        };
        self.of(&self.cluster_info, scope, vec![])
    }

    /// Cluster roles.
    #[must_use]
    pub fn cluster_roles(&self) -> Arc<Cache<ClusterRole>> {
        self.of(&self.cluster_roles, Scope::default(), vec![])
    }

    /// Certificate signing requests.
    #[must_use]
    pub fn signing_requests(&self) -> Arc<Cache<CertificateSigningRequest>> {
        self.of(&self.signing_requests, Scope::default(), vec![])
    }

    /// Controller revisions.
    #[must_use]
    pub fn controller_revisions(&self) -> Arc<Cache<ControllerRevision>> {
        self.of(&self.controller_revisions, Scope::default(), vec![(CONTROLLER, controller)])
    }

    /// Horizontal pod autoscalers.
    #[must_use]
    pub fn autoscalers(&self) -> Arc<Cache<HorizontalPodAutoscaler>> {
        self.of(&self.autoscalers, Scope::default(), vec![])
    }

    /// Cron jobs.
    #[must_use]
    pub fn cron_jobs(&self) -> Arc<Cache<CronJob>> {
        self.of(&self.cron_jobs, Scope::default(), vec![])
    }

    /// What drivers of volumes say of themselves.
    #[must_use]
    pub fn csi_drivers(&self) -> Arc<Cache<CSIDriver>> {
        self.of(&self.csi_drivers, Scope::default(), vec![])
    }

    /// Attachments of volumes to nodes.
    #[must_use]
    pub fn volume_attachments(&self) -> Arc<Cache<VolumeAttachment>> {
        self.of(&self.volume_attachments, Scope::default(), vec![])
    }

    /// Daemon sets.
    #[must_use]
    pub fn daemon_sets(&self) -> Arc<Cache<DaemonSet>> {
        self.of(&self.daemon_sets, Scope::default(), vec![(NAMESPACE, namespace)])
    }

    /// Deployments.
    #[must_use]
    pub fn deployments(&self) -> Arc<Cache<Deployment>> {
        self.of(&self.deployments, Scope::default(), vec![(NAMESPACE, namespace)])
    }

    /// Disruption budgets.
    #[must_use]
    pub fn disruption_budgets(&self) -> Arc<Cache<PodDisruptionBudget>> {
        self.of(&self.disruption_budgets, Scope::default(), vec![(NAMESPACE, namespace)])
    }

    /// Endpoints.
    #[must_use]
    pub fn endpoints(&self) -> Arc<Cache<Endpoints>> {
        self.of(&self.endpoints, Scope::default(), vec![])
    }

    /// Addresses of services.
    #[must_use]
    pub fn ip_addresses(&self) -> Arc<Cache<IPAddress>> {
        self.of(&self.ip_addresses, Scope::default(), vec![])
    }

    /// Ranges of addresses of services.
    #[must_use]
    pub fn service_cidrs(&self) -> Arc<Cache<ServiceCIDR>> {
        self.of(&self.service_cidrs, Scope::default(), vec![])
    }

    /// Jobs.
    #[must_use]
    pub fn jobs(&self) -> Arc<Cache<Job>> {
        self.of(&self.jobs, Scope::default(), vec![(CONTROLLER, controller), (NAMESPACE, namespace)])
    }

    /// The leases by which nodes say that they live.
    #[must_use]
    pub fn node_leases(&self) -> Arc<Cache<Lease>> {
        let scope = Scope { namespace: NODE_LEASES.to_owned(), ..Scope::default() };
        self.of(&self.leases, scope, vec![])
    }

    /// Namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Arc<Cache<Namespace>> {
        self.of(&self.namespaces, Scope::default(), vec![])
    }

    /// Nodes.
    #[must_use]
    pub fn nodes(&self) -> Arc<Cache<Node>> {
        self.of(&self.nodes, Scope::default(), vec![])
    }

    /// Pods.
    #[must_use]
    pub fn pods(&self) -> Arc<Cache<Pod>> {
        let indexes: Vec<(&'static str, IndexTerms<Pod>)> =
            vec![(CONTROLLER, controller), (NAMESPACE, namespace), (TIED_TO, node), (TRACKED, tracking_job)];
        self.of(&self.pods, Scope::default(), indexes)
    }

    /// Classes of volume attributes.
    #[must_use]
    pub fn attributes_classes(&self) -> Arc<Cache<VolumeAttributesClass>> {
        self.of(&self.attributes_classes, Scope::default(), vec![])
    }

    /// Persistent volumes.
    #[must_use]
    pub fn volumes(&self) -> Arc<Cache<PersistentVolume>> {
        self.of(&self.volumes, Scope::default(), vec![(TIED_TO, claim)])
    }

    /// Claims of persistent volumes.
    #[must_use]
    pub fn claims(&self) -> Arc<Cache<PersistentVolumeClaim>> {
        let indexes: Vec<(&'static str, IndexTerms<PersistentVolumeClaim>)> =
            vec![(NAMESPACE, namespace), (TIED_TO, volume), (UNBOUND, unbound)];
        self.of(&self.claims, Scope::default(), indexes)
    }

    /// Resource claims.
    #[must_use]
    pub fn resource_claims(&self) -> Arc<Cache<ResourceClaim>> {
        self.of(&self.resource_claims, Scope::default(), vec![(CONTROLLER, controller)])
    }

    /// Templates of resource claims.
    #[must_use]
    pub fn resource_claim_templates(&self) -> Arc<Cache<ResourceClaimTemplate>> {
        self.of(&self.resource_claim_templates, Scope::default(), vec![])
    }

    /// The devices that drivers offer.
    #[must_use]
    pub fn resource_slices(&self) -> Arc<Cache<ResourceSlice>> {
        self.of(&self.resource_slices, Scope::default(), vec![])
    }

    /// Resource quotas.
    #[must_use]
    pub fn resource_quotas(&self) -> Arc<Cache<ResourceQuota>> {
        self.of(&self.resource_quotas, Scope::default(), vec![(NAMESPACE, namespace)])
    }

    /// Replica sets.
    #[must_use]
    pub fn replica_sets(&self) -> Arc<Cache<ReplicaSet>> {
        self.of(&self.replica_sets, Scope::default(), vec![(CONTROLLER, controller), (NAMESPACE, namespace)])
    }

    /// Replication controllers.
    #[must_use]
    pub fn replication_controllers(&self) -> Arc<Cache<ReplicationController>> {
        self.of(
            &self.replication_controllers,
            Scope::default(),
            vec![(CONTROLLER, controller), (NAMESPACE, namespace)],
        )
    }

    /// Service accounts.
    #[must_use]
    pub fn service_accounts(&self) -> Arc<Cache<ServiceAccount>> {
        self.of(&self.service_accounts, Scope::default(), vec![])
    }

    /// Services.
    #[must_use]
    pub fn services(&self) -> Arc<Cache<Service>> {
        self.of(&self.services, Scope::default(), vec![(NAMESPACE, namespace)])
    }

    /// Stateful sets.
    #[must_use]
    pub fn stateful_sets(&self) -> Arc<Cache<StatefulSet>> {
        self.of(&self.stateful_sets, Scope::default(), vec![(NAMESPACE, namespace)])
    }

    /// Storage classes.
    #[must_use]
    pub fn storage_classes(&self) -> Arc<Cache<StorageClass>> {
        self.of(&self.storage_classes, Scope::default(), vec![])
    }

    /// Endpoint slices.
    #[must_use]
    pub fn slices(&self) -> Arc<Cache<EndpointSlice>> {
        self.of(&self.slices, Scope::default(), vec![(TIED_TO, service)])
    }
}
