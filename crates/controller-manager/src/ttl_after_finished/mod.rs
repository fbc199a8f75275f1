//! Deletes jobs whose time to live after their end is over (upstream:
//! `pkg/controller/ttlafterfinished`).

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::batch::v1::Job;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// The loop's cache.
pub struct TtlAfterFinished {
    jobs: Arc<Cache<Job>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let jobs = context.caches.jobs();
    Loop::new(TtlAfterFinished { jobs: Arc::clone(&jobs) }, context.flags.concurrent_ttl_after_finished_syncs)
        .own(&jobs)
}

impl Reconciler for TtlAfterFinished {
    const NAME: &'static str = "ttl-after-finished";
    type Observed = Arc<Job>;

    fn observe(&self, key: &ObjectKey) -> Option<Arc<Job>> {
        self.jobs.get_key(key)
    }

    fn plan(&self, job: &Arc<Job>, moment: &Moment) -> Plan {
        plan::plan(job, moment.now)
    }
}
