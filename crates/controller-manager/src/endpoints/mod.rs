//! Writes a service's pods into the legacy Endpoints object (upstream:
//! `pkg/controller/endpoint`).

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Endpoints as Object, Pod, Service};
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;
use crate::service_pods;

/// The loop's caches.
pub struct Endpoints {
    services: Arc<Cache<Service>>,
    pods: Arc<Cache<Pod>>,
    endpoints: Arc<Cache<Object>>,
}

/// What a plan is made of.
pub struct Observed {
    service: Option<Arc<Service>>,
    pods: Vec<Arc<Pod>>,
    endpoints: Option<Arc<Object>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (services, pods, endpoints) =
        (context.caches.services(), context.caches.pods(), context.caches.endpoints());
    let by_pod = Arc::clone(&services);
    let reconciler = Endpoints {
        services: Arc::clone(&services),
        pods: Arc::clone(&pods),
        endpoints: Arc::clone(&endpoints),
    };
    Loop::new(reconciler, context.flags.concurrent_endpoint_syncs)
        .own(&services)
        .own(&endpoints)
        .mapped(&pods, move |change| service_pods::selecting(&by_pod, change))
}

impl Reconciler for Endpoints {
    const NAME: &'static str = "endpoints";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let service = self.services.get_key(key);
        let pods =
            service.as_ref().map(|service| service_pods::selected(service, &self.pods)).unwrap_or_default();
        Some(Observed { service, pods, endpoints: self.endpoints.get_key(key) })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan::plan(observed)
    }
}
