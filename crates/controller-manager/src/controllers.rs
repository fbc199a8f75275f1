//! The table of controllers. A new one is a folder and a line here.

use std::sync::{Arc, OnceLock};

use client::Client;
use daemon::Clock;
use reconcile::Loop;

use crate::caches::Caches;
use crate::flags::Flags;
use crate::inventory::Inventory;

/// What a controller is wired from.
pub struct Context {
    /// The flags.
    pub flags: Flags,
    /// The shared caches.
    pub caches: Caches,
    /// The certificate to publish; empty: none.
    pub root_ca: Arc<str>,
    /// The server, for what no shared cache holds; `None` in simulations.
    pub client: Option<Client>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    inventory: OnceLock<Arc<Inventory>>,
}

impl Context {
    /// A context.
    #[must_use]
    pub fn new(
        flags: Flags,
        caches: Caches,
        root_ca: Arc<str>,
        client: Option<Client>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { flags, caches, root_ca, client, clock, inventory: OnceLock::new() }
    }

    /// The metadata of all objects, followed from the first call on.
    #[must_use]
    pub fn inventory(&self) -> Arc<Inventory> {
        let follow = || self.client.as_ref().map_or_else(Arc::default, Inventory::following);
        Arc::clone(self.inventory.get_or_init(follow))
    }
}

/// Wires one controller.
pub type Start = fn(&Context) -> Loop;

/// The controllers, under upstream's names; one that is several loops has several lines.
pub const ALL: &[(&str, Start)] = &[
    ("replicaset-controller", crate::replicaset::start),
    ("replicationcontroller-controller", crate::replicaset::start_replication_controllers),
    ("deployment-controller", crate::deployment::start),
    ("daemonset-controller", crate::daemonset::start),
    ("statefulset-controller", crate::statefulset::start),
    ("job-controller", crate::job::start),
    ("cronjob-controller", crate::cronjob::start),
    ("horizontal-pod-autoscaler-controller", crate::horizontal_autoscaler::start),
    ("disruption-controller", crate::disruption::start),
    ("disruption-controller", crate::disruption::start_taking_back),
    ("endpointslice-controller", crate::endpointslice::start),
    ("endpointslice-mirroring-controller", crate::endpointslice_mirroring::start),
    ("endpoints-controller", crate::endpoints::start),
    ("ephemeral-volume-controller", crate::ephemeral_volume::start),
    ("persistentvolume-binder-controller", crate::volume_binder::start),
    ("persistentvolume-binder-controller", crate::volume_binder::start_volumes),
    ("local-path-provisioner", crate::local_path::start),
    ("local-path-provisioner", crate::local_path::start_cleaning),
    ("persistentvolume-attach-detach-controller", crate::attach_detach::start),
    ("persistentvolume-expander-controller", crate::volume_expander::start),
    ("persistentvolumeclaim-protection-controller", crate::claim_protection::start),
    ("persistentvolume-protection-controller", crate::volume_protection::start),
    ("volumeattributesclass-protection-controller", crate::attributes_class_protection::start),
    ("resourceclaim-controller", crate::resource_claim::start),
    ("resourceclaim-controller", crate::resource_claim::start_claims),
    ("resourcequota-controller", crate::resource_quota::start),
    ("namespace-controller", crate::namespace::start),
    ("garbage-collector-controller", crate::garbage_collector::start),
    ("serviceaccount-controller", crate::service_account::start),
    ("legacy-serviceaccount-token-cleaner-controller", crate::legacy_token_cleaner::start),
    ("service-lb-controller", crate::service_load_balancer::start),
    ("service-cidr-controller", crate::service_cidr::start),
    ("root-ca-certificate-publisher-controller", crate::root_ca::start),
    ("clusterrole-aggregation-controller", crate::clusterrole_aggregation::start),
    ("node-lifecycle-controller", crate::node_lifecycle::start),
    ("taint-eviction-controller", crate::taint_eviction::start),
    ("device-taint-eviction-controller", crate::device_taint_eviction::start),
    ("node-ipam-controller", crate::node_ipam::start),
    ("ttl-controller", crate::node_ttl::start),
    ("pod-garbage-collector-controller", crate::pod_gc::start),
    ("ttl-after-finished-controller", crate::ttl_after_finished::start),
    ("certificatesigningrequest-approving-controller", crate::certificate_approval::start),
    ("certificatesigningrequest-signing-controller", crate::certificate_signing::start),
    ("certificatesigningrequest-cleaner-controller", crate::certificate_cleaner::start),
    ("bootstrap-signer-controller", crate::bootstrap_signer::start),
    ("token-cleaner-controller", crate::token_cleaner::start),
];
