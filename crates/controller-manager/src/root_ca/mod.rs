//! Publishes the cluster's root certificate in each namespace (upstream:
//! `pkg/controller/certificates/rootcacertpublisher`).

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{ConfigMap, Namespace};
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// The config map's name.
pub const CONFIG_MAP: &str = "kube-root-ca.crt";

/// The loop's caches; its keys are namespaces.
pub struct RootCa {
    namespaces: Arc<Cache<Namespace>>,
    config_maps: Arc<Cache<ConfigMap>>,
    certificate: Arc<str>,
}

/// What a plan is made of.
pub struct Observed {
    namespace: Arc<Namespace>,
    published: Option<Arc<ConfigMap>>,
}

/// The loop, wired; without a root certificate it has nothing to publish and sleeps.
pub fn start(context: &Context) -> Loop {
    let (namespaces, config_maps) = (context.caches.namespaces(), context.caches.root_ca_config_maps());
    let reconciler = RootCa {
        namespaces: Arc::clone(&namespaces),
        config_maps: Arc::clone(&config_maps),
        certificate: Arc::clone(&context.root_ca),
    };
    Loop::new(reconciler, 5)
        .own(&namespaces)
        .mapped(&config_maps, |change| vec![ObjectKey::new("", change.key.namespace.clone())])
}

impl Reconciler for RootCa {
    const NAME: &'static str = "root-ca-certificate-publisher";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let namespace = self.namespaces.get_key(key).filter(|_| !self.certificate.is_empty())?;
        Some(Observed { namespace, published: self.config_maps.get(&key.name, CONFIG_MAP) })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan::plan(&observed.namespace, observed.published.as_deref(), &self.certificate)
    }
}
