//! Says which ranges of service addresses are in use, and lets one go only when
//! no address needs it (upstream: `pkg/controller/servicecidrs`).

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::networking::v1::{IPAddress, ServiceCIDR};
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// The loop's caches.
pub struct ServiceCidrs {
    ranges: Arc<Cache<ServiceCIDR>>,
    addresses: Arc<Cache<IPAddress>>,
}

/// What a plan is made of.
pub struct Observed {
    range: Arc<ServiceCIDR>,
    all: Vec<Arc<ServiceCIDR>>,
    /// Empty unless the range is to go.
    addresses: Vec<Arc<IPAddress>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (ranges, addresses) = (context.caches.service_cidrs(), context.caches.ip_addresses());
    let (by_range, by_address) = (Arc::clone(&ranges), Arc::clone(&ranges));
    let keys = |ranges: &Cache<ServiceCIDR>| {
        ranges.list().iter().map(|range| ObjectKey::of(&**range)).collect::<Vec<_>>()
    };
    Loop::new(ServiceCidrs { ranges: Arc::clone(&ranges), addresses: Arc::clone(&addresses) }, 5)
        .mapped(&ranges, move |_| keys(&by_range))
        .mapped(&addresses, move |change| if change.new.is_none() { keys(&by_address) } else { Vec::new() })
}

impl Reconciler for ServiceCidrs {
    const NAME: &'static str = "service-cidr";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let range = self.ranges.get_key(key)?;
        let goes = range.metadata.deletion_timestamp.is_some();
        let addresses = if goes { self.addresses.list() } else { Vec::new() };
        Some(Observed { range, all: self.ranges.list(), addresses })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment.now)
    }
}
