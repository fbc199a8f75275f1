//! Deletes certificate signing requests that nobody needs any more (upstream:
//! `pkg/controller/certificates/cleaner`).

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::certificates::v1::CertificateSigningRequest;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// The loop's cache.
pub struct Cleaner {
    requests: Arc<Cache<CertificateSigningRequest>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let requests = context.caches.signing_requests();
    Loop::new(Cleaner { requests: Arc::clone(&requests) }, 1).own(&requests)
}

impl Reconciler for Cleaner {
    const NAME: &'static str = "certificatesigningrequest-cleaner";
    type Observed = Arc<CertificateSigningRequest>;

    fn observe(&self, key: &ObjectKey) -> Option<Self::Observed> {
        self.requests.get_key(key)
    }

    fn plan(&self, request: &Self::Observed, moment: &Moment) -> Plan {
        plan::plan(request, moment.now)
    }
}
