//! Signs the public description of the cluster with each bootstrap token, so
//! that whoever knows a token can trust it (upstream: `pkg/controller/bootstrap`).

mod plan;
mod signature;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{ConfigMap, Secret};
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// Where the description is.
pub const NAMESPACE: &str = "kube-public";
/// Its name.
pub const CLUSTER_INFO: &str = "cluster-info";

/// The loop's caches.
pub struct BootstrapSigner {
    descriptions: Arc<Cache<ConfigMap>>,
    tokens: Arc<Cache<Secret>>,
}

/// What a plan is made of.
pub struct Observed {
    description: Arc<ConfigMap>,
    tokens: Vec<Arc<Secret>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let descriptions = context.caches.cluster_info();
    let tokens = context.caches.bootstrap_tokens();
    let reconciler = BootstrapSigner { descriptions: Arc::clone(&descriptions), tokens: Arc::clone(&tokens) };
    Loop::new(reconciler, 1)
        .own(&descriptions)
        .mapped(&tokens, |_| vec![ObjectKey::new(NAMESPACE, CLUSTER_INFO)])
}

impl Reconciler for BootstrapSigner {
    const NAME: &'static str = "bootstrap-signer";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        Some(Observed { description: self.descriptions.get_key(key)?, tokens: self.tokens.list() })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment.now)
    }
}
