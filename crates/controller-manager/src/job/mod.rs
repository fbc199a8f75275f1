//! Runs pods until enough of them have succeeded (upstream:
//! `pkg/controller/job`).
//!
//! Each pod is counted exactly once although it may be deleted at any time: a
//! finalizer keeps it until its uid stands in the job's status, and the uid
//! stays there until the finalizer is seen to be gone.

mod backoff;
mod counting;
mod failure_policy;
mod indexes;
mod manage;
mod per_index;
mod plan;
mod success_policy;
mod template;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::Arc;

use api::ObjectKey;
use api::types::batch::v1::Job;
use api::types::core::v1::Pod;
use client::Cache;
use reconcile::wiring::controller_of;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::{NAMESPACE, TRACKED, adopters, claimable};
use crate::controllers::Context;
use crate::owners;

/// The finalizer that keeps a pod until it is counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// How a job has ended: `Complete` or `Failed`.
#[must_use]
pub fn finished(job: &Job) -> Option<&'static str> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ends = conditions.filter(|one| one.status == "True");
    ends.find_map(|one| ["Complete", "Failed"].into_iter().find(|end| one.type_ == *end))
}

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
    /// Pods that wait to be counted by a job that is no more.
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
    control
        .own(&jobs)
        .mapped(&jobs, |change| {
            // Pods that it left may name no job.
            let is_gone = change.new.is_none();
            is_gone.then(|| ObjectKey::new(change.key.namespace.clone(), "")).into_iter().collect()
        })
        .owned(&pods, "Job")
        .mapped(&pods, move |change| adopters(&known, change, plan::selector))
        .mapped(&pods, |change| change.new.and_then(|pod| tracking_job(pod)).into_iter().collect())
}

/// The job that is to let a pod go: the one that controls it, or, where nobody does, the one that
/// its label names. The name is empty where there is no such label.
pub(crate) fn tracking_job(pod: &Pod) -> Option<ObjectKey> {
    const NAME: &str = "batch.kubernetes.io/job-name";
    let namespace = owners::namespace(pod).to_owned();
    if !counting::is_tracked(pod) {
        return None;
    }
    let Some(owner) = controller_of(&pod.metadata) else {
        let name = pod.metadata.labels.as_ref().and_then(|labels| labels.get(NAME)).cloned();
        return Some(ObjectKey::new(namespace, name.unwrap_or_default()));
    };
    let is_job = owner.kind == "Job" && owner.api_version == "batch/v1";
    is_job.then(|| ObjectKey::new(namespace, owner.name.clone()))
}

impl Reconciler for Jobs {
    const NAME: &'static str = "job";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let job = self.jobs.get_key(key);
        let mut abandoned = self.pods.indexed(TRACKED, &key.to_string());
        let mut pods = Vec::new();
        let adopting = self.jobs.indexed(NAMESPACE, &key.namespace);
        abandoned.retain(|pod| match controller_of(&pod.metadata) {
            Some(owner) => job.as_ref().is_none_or(|job| owners::uid(&**job) != owner.uid),
            None => !adopting.iter().any(|job| plan::selector(job).matches(&pod.metadata.labels)),
        });
        if let Some(job) = &job {
            pods = claimable(&self.pods, &**job, &key.namespace);
        }
        Some(Observed { job, pods, abandoned })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment)
    }
}
