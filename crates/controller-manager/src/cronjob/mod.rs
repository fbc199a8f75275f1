//! Starts jobs at times of the clock (upstream: `pkg/controller/cronjob`).
//!
//! A job's name holds the minute that it was started for, so that no time is
//! served twice; the status learns of a job when the cache shows it.

mod due;
mod plan;
mod schedule;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::ObjectKey;
use api::types::batch::v1::{CronJob, Job};
use client::Cache;
use jiff::tz::TimeZone;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::CONTROLLER;
use crate::controllers::Context;
use crate::owners;

/// The loop's caches.
pub struct CronJobs {
    cron_jobs: Arc<Cache<CronJob>>,
    jobs: Arc<Cache<Job>>,
    zone: TimeZone,
}

/// What a plan is made of.
pub struct Observed {
    cron_job: Arc<CronJob>,
    /// The jobs that it controls, and those that its status names.
    jobs: Vec<Arc<Job>>,
    /// Where the clock of schedules hangs that name no place.
    zone: TimeZone,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (cron_jobs, jobs) = (context.caches.cron_jobs(), context.caches.jobs());
    let reconciler =
        CronJobs { cron_jobs: Arc::clone(&cron_jobs), jobs: Arc::clone(&jobs), zone: TimeZone::system() };
    Loop::new(reconciler, context.flags.concurrent_cron_job_syncs).own(&cron_jobs).owned(&jobs, "CronJob")
}

impl Reconciler for CronJobs {
    const NAME: &'static str = "cronjob";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let cron_job = self.cron_jobs.get_key(key)?;
        let mut jobs = self.jobs.indexed(CONTROLLER, owners::uid(&*cron_job));
        for active in cron_job.status.iter().flat_map(|status| status.active.iter().flatten()) {
            let known = jobs.iter().any(|job| job.metadata.uid == active.uid);
            let named = self.jobs.get(&key.namespace, active.name.as_deref().unwrap_or_default());
            jobs.extend(named.filter(|job| !known && job.metadata.uid == active.uid));
        }
        Some(Observed { cron_job, jobs, zone: self.zone.clone() })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment.now)
    }
}
