//! Runs pods until enough of them have succeeded (upstream:
//! `pkg/controller/job`).
//!
//! Each pod is counted exactly once although it may be deleted at any time: a
//! finalizer keeps it until its uid stands in the job's status, and the uid
//! stays there until the finalizer is seen to be gone.

mod counting;
mod indexes;
mod manage;
mod plan;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::ObjectKey;
use api::types::batch::v1::Job;
use api::types::core::v1::Pod;
use client::{Cache, Change};
use reconcile::wiring::controller_of;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::{CONTROLLER, NAMESPACE, TRACKED, orphans_in};
use crate::controllers::Context;
use crate::owners;

/// The finalizer that keeps a pod until it is counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// The loop's caches.
pub struct Jobs {
    jobs: Arc<Cache<Job>>,
    pods: Arc<Cache<Pod>>,
}

/// What a plan is made of.
pub struct Observed {
    job: Option<Arc<Job>>,
    /// Its pods, and those of the namespace that nobody controls.
    pods: Vec<Arc<Pod>>,
    /// Pods that wait to be counted by a job of this name that is no more.
    abandoned: Vec<Arc<Pod>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (jobs, pods) = (context.caches.jobs(), context.caches.pods());
    let known = Arc::clone(&jobs);
    let control = Loop::new(
        Jobs { jobs: Arc::clone(&jobs), pods: Arc::clone(&pods) },
        context.flags.concurrent_job_syncs,
    );
    control.own(&jobs).owned(&pods, "Job").mapped(&pods, move |change| adopters(&known, change))
}

/// The jobs that may want a pod without controller.
fn adopters(jobs: &Cache<Job>, change: &Change<'_, Pod>) -> Vec<ObjectKey> {
    let Some(pod) = change.new.filter(|pod| controller_of(&pod.metadata).is_none()) else {
        return Vec::new();
    };
    let candidates = jobs.indexed(NAMESPACE, &change.key.namespace);
    let selecting = candidates.iter().filter(|job| plan::selector(job).matches(&pod.metadata.labels));
    selecting.map(|job| ObjectKey::of(&**job)).collect()
}

impl Reconciler for Jobs {
    const NAME: &'static str = "job";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let job = self.jobs.get_key(key);
        let mut abandoned = self.pods.indexed(TRACKED, &key.to_string());
        let mut pods = Vec::new();
        if let Some(job) = &job {
            abandoned.retain(|pod| !owners::is_controlled_by(&**pod, &**job));
            pods = self.pods.indexed(CONTROLLER, owners::uid(&**job));
            pods.extend(self.pods.indexed(CONTROLLER, &orphans_in(&key.namespace)));
        }
        Some(Observed { job, pods, abandoned })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment)
    }
}
