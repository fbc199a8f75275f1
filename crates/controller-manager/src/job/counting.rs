//! Exact counting: which pods have ended, which of these stand in the status,
//! which finalizers may go.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::types::batch::v1::{Job, JobStatus, UncountedTerminatedPods};
use api::types::core::v1::Pod;

use super::{TRACKING, indexes};
use crate::{owners, pods};

/// Uids waiting in the status at most.
const WAITING: usize = 500;

/// The state of the count after this plan's status write.
pub(super) struct Count {
    /// Succeeded pods, the waiting ones included.
    pub(super) succeeded: usize,
    /// Failed pods, the waiting ones included.
    pub(super) failed: usize,
    /// Completion indexes that succeeded.
    pub(super) indexes: BTreeSet<i32>,
    /// Pods whose finalizers may go once the status is written.
    pub(super) counted: Vec<Arc<Pod>>,
    /// Whether nothing waits to be counted.
    pub(super) is_settled: bool,
    waiting: UncountedTerminatedPods,
    booked: (usize, usize),
}

/// Whether the pod waits to be counted.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|one| one == TRACKING)
}

/// Whether a pod that was deleted is replaced only when it has ended.
pub(super) fn replaces_only_ended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.pod_replacement_policy.as_deref()) == Some("Failed")
}

/// Whether a pod counts as failed: those that are deleted do, as they may never
/// reach that phase.
pub(super) fn has_failed(job: &Job, pod: &Pod) -> bool {
    let deleted = pods::is_being_deleted(pod);
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        "Pending" => deleted,
        _ => deleted && !replaces_only_ended(job),
    }
}

pub(super) fn count(job: &Job, pods: &[Arc<Pod>], completions: i32) -> Count {
    let none = JobStatus::default();
    let status = job.status.as_ref().unwrap_or(&none);
    let number = |count: Option<i32>| usize::try_from(count.unwrap_or_default()).unwrap_or_default();
    let mut booked = (number(status.succeeded), number(status.failed));
    let mut waiting = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let mut done = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions);
    let tracked = |uid: &str| pods.iter().any(|pod| is_tracked(pod) && owners::uid(&**pod) == uid);

    // A uid whose finalizer is gone is booked.
    let book = |list: &mut Option<Vec<String>>, total: &mut usize| {
        let list = list.get_or_insert_default();
        let before = list.len();
        list.retain(|uid| tracked(uid));
        *total += before - list.len();
    };
    book(&mut waiting.succeeded, &mut booked.0);
    book(&mut waiting.failed, &mut booked.1);

    let mut succeeded = waiting.succeeded.unwrap_or_default();
    let mut failed = waiting.failed.unwrap_or_default();
    let mut counted = Vec::new();
    let mut left_out = false;
    let indexed = is_indexed(job);
    for pod in pods.iter().filter(|pod| is_tracked(pod)) {
        let uid = owners::uid(&**pod).to_owned();
        let is_success = pods::phase(pod) == "Succeeded";
        let list = if is_success { &mut succeeded } else { &mut failed };
        if !list.contains(&uid) {
            if !is_success && !has_failed(job, pod) {
                continue;
            }
            if counted.len() >= WAITING {
                left_out = true;
                continue;
            }
            // An index counts once, however many pods succeed for it.
            let index = indexes::of(pod);
            let counts = !is_success
                || !indexed
                || index.is_some_and(|index| index < completions && !done.contains(&index));
            if counts {
                list.push(uid);
            }
            done.extend(index.filter(|index| is_success && indexed && *index < completions));
        }
        counted.push(Arc::clone(pod));
    }
    let total = (booked.0 + succeeded.len(), booked.1 + failed.len());
    let is_settled = succeeded.is_empty() && failed.is_empty() && counted.is_empty() && !left_out;
    let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
    Count {
        succeeded: if indexed { done.len() } else { total.0 },
        failed: total.1,
        indexes: done,
        counted,
        is_settled,
        waiting: UncountedTerminatedPods { succeeded: list(succeeded), failed: list(failed) },
        booked,
    }
}

/// Whether each completion has an index.
pub(super) fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
}

impl Count {
    /// Writes the count into a status.
    pub(super) fn write(&self, status: &mut JobStatus) {
        status.succeeded = crate::status::count(self.booked.0);
        status.failed = crate::status::count(self.booked.1);
        status.uncounted_terminated_pods = Some(self.waiting.clone());
        if !self.indexes.is_empty() {
            status.completed_indexes = Some(indexes::format(&self.indexes));
        }
    }
}
