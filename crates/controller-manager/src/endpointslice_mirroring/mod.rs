//! Shows endpoints that people write by hand as endpoint slices (upstream:
//! `pkg/controller/endpointslicemirroring`).

mod plan;
mod repack;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Endpoints, Service};
use api::types::discovery::v1::EndpointSlice;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::TIED_TO;
use crate::controllers::Context;
use crate::endpointslice::SERVICE_NAME;
use crate::owners;

/// The loop's caches.
pub struct Mirroring {
    endpoints: Arc<Cache<Endpoints>>,
    services: Arc<Cache<Service>>,
    slices: Arc<Cache<EndpointSlice>>,
    limit: usize,
}

/// What a plan is made of.
pub struct Observed {
    endpoints: Option<Arc<Endpoints>>,
    service: Option<Arc<Service>>,
    /// The slices of the service that we made, by name.
    slices: Vec<Arc<EndpointSlice>>,
    /// Addresses of one subset that are shown at most.
    limit: usize,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let endpoints = context.caches.endpoints();
    let (services, slices) = (context.caches.services(), context.caches.slices());
    let reconciler = Mirroring {
        endpoints: Arc::clone(&endpoints),
        services: Arc::clone(&services),
        slices: Arc::clone(&slices),
        limit: context.flags.mirroring_max_endpoints_per_subset,
    };
    Loop::new(reconciler, context.flags.mirroring_concurrent_service_endpoint_syncs)
        .own(&endpoints)
        .own(&services)
        .mapped(&slices, |change| {
            let both = [change.old, change.new].into_iter().flatten();
            let ours = both.filter(|slice| plan::is_ours(slice));
            let service =
                |slice: &Arc<EndpointSlice>| slice.metadata.labels.as_ref()?.get(SERVICE_NAME).cloned();
            ours.filter_map(service).map(|name| ObjectKey::new(change.key.namespace.clone(), name)).collect()
        })
}

impl Reconciler for Mirroring {
    const NAME: &'static str = "endpointslice-mirroring";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let mut slices = self.slices.indexed(TIED_TO, &key.to_string());
        slices.retain(|slice| plan::is_ours(slice));
        slices.sort_by(|one, two| owners::name(&**one).cmp(owners::name(&**two)));
        let (endpoints, service) = (self.endpoints.get_key(key), self.services.get_key(key));
        Some(Observed { endpoints, service, slices, limit: self.limit })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan::plan(observed)
    }
}
