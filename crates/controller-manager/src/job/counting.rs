//! Exact counting: which pods have ended, which of these stand in the status,
//! which finalizers may go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::types::batch::v1::{Job, JobStatus, UncountedTerminatedPods};
use api::types::core::v1::Pod;

use super::failure_policy::judge;
use super::{TRACKING, indexes, per_index};
use crate::{owners, pods};

/// Pods that are booked in one plan.
const WAITING: usize = 500;

/// How a job's pods have fared.
pub(super) struct Count {
    /// Succeeded pods; of an indexed job, succeeded indexes.
    pub(super) succeeded: usize,
    /// Failed pods, as far as they count.
    pub(super) failed: usize,
    /// Completion indexes that succeeded.
    pub(super) indexes: BTreeSet<i32>,
    /// Completion indexes that failed for good; `None` where they have no limit of their own.
    pub(super) failed_indexes: Option<BTreeSet<i32>>,
    /// Failed pods that are kept until their replacements are there, by index.
    pub(super) awaiting: BTreeMap<i32, Arc<Pod>>,
}

/// Whether the pod waits to be counted.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|one| one == TRACKING)
}

/// Whether each completion has an index.
pub(super) fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
}

/// Whether a pod that was deleted is replaced only when it has ended.
pub(super) fn replaces_only_ended(job: &Job) -> bool {
    job.spec.as_ref().is_some_and(|spec| {
        spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
    })
}

/// Whether a pod counts as failed: those that are deleted do, as they may never
/// reach that phase.
pub(super) fn has_failed(job: &Job, pod: &Pod) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => pods::is_being_deleted(pod) && !replaces_only_ended(job),
    }
}

fn completions(job: &Job) -> i32 {
    job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or_default()
}

/// Whether a pod can count at all: in an indexed job it needs an index.
fn is_valid(job: &Job, pod: &Pod) -> bool {
    !is_indexed(job) || indexes::within(pod, completions(job)).is_some()
}

fn number(count: Option<i32>) -> usize {
    usize::try_from(count.unwrap_or_default()).unwrap_or_default()
}

impl Count {
    pub(super) fn of(job: &Job, pods: &[Arc<Pod>]) -> Self {
        let none = JobStatus::default();
        let status = job.status.as_ref().unwrap_or(&none);
        let waiting = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let waiting = (waiting.succeeded.unwrap_or_default(), waiting.failed.unwrap_or_default());
        let is_new = |pod: &&Arc<Pod>, known: &[String]| {
            is_tracked(pod) && is_valid(job, pod) && !known.iter().any(|uid| *uid == owners::uid(&***pod))
        };
        let ended_well = |pod: &&Arc<Pod>| pods::phase(pod) == "Succeeded";
        let new_succeeded = pods.iter().filter(|pod| ended_well(pod) && is_new(pod, &waiting.0)).count();
        let new_failed = pods
            .iter()
            .filter(|pod| has_failed(job, pod) && is_new(pod, &waiting.1) && judge(job, pod).counts())
            .count();
        let mut done = BTreeSet::new();
        if is_indexed(job) {
            done = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions(job));
            let fresh = pods.iter().filter(|pod| ended_well(pod) && is_tracked(pod));
            done.extend(fresh.filter_map(|pod| indexes::within(pod, completions(job))));
        }
        let failed_indexes = per_index::limit(job).map(|limit| per_index::failed(job, pods, limit));
        let awaiting = failed_indexes.as_ref().map(|failed| {
            let over = done.union(failed).copied().collect();
            per_index::awaiting(job, pods, &over)
        });
        let succeeded = number(status.succeeded) + waiting.0.len() + new_succeeded;
        Self {
            succeeded: if is_indexed(job) { done.len() } else { succeeded },
            failed: number(status.failed) + waiting.1.len() + new_failed,
            indexes: done,
            failed_indexes,
            awaiting: awaiting.unwrap_or_default(),
        }
    }
}

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Enough has succeeded.
    Success,
    /// Too much has failed.
    Failure,
}

/// What is written into the status before finalizers go.
pub(super) struct Books {
    /// Pods whose finalizers may go once the status is written.
    pub(super) counted: Vec<Arc<Pod>>,
    /// Whether nothing waits to be counted.
    pub(super) is_settled: bool,
    waiting: UncountedTerminatedPods,
    booked: (usize, usize),
}

impl Books {
    pub(super) fn of(job: &Job, all: &[Arc<Pod>], count: &Count, end: Option<End>) -> Self {
        let mut books = Self::carried_over(job, all);
        let mut succeeded = books.waiting.succeeded.take().unwrap_or_default();
        let mut failed = books.waiting.failed.take().unwrap_or_default();
        let tracked = || all.iter().filter(|pod| is_tracked(pod));
        let lets_all_go = end.is_some() || job.metadata.deletion_timestamp.is_some();
        for pod in tracked().filter(|pod| lets_all_go || has_ended(job, pod, count)).take(WAITING) {
            let uid = owners::uid(&**pod).to_owned();
            let was_failure = failed.contains(&uid);
            if pods::phase(pod) == "Succeeded" && !was_failure {
                // An index says it all; it counts once, however many pods succeed for it.
                if !is_indexed(job) && !succeeded.contains(&uid) {
                    succeeded.push(uid);
                }
            } else if (has_failed(job, pod) || end == Some(End::Failure))
                && !was_failure
                && is_valid(job, pod)
                && judge(job, pod).counts()
            {
                // What still runs when a job fails counts as failed.
                failed.push(uid);
            }
            books.counted.push(Arc::clone(pod));
        }
        books.is_settled = succeeded.is_empty() && failed.is_empty() && books.counted.is_empty();
        let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
        books.waiting = UncountedTerminatedPods { succeeded: list(succeeded), failed: list(failed) };
        books
    }

    /// The status' own books; a uid whose finalizer is gone is booked.
    fn carried_over(job: &Job, all: &[Arc<Pod>]) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let mut booked = (number(status.succeeded), number(status.failed));
        let mut waiting = status.uncounted_terminated_pods.unwrap_or_default();
        let is_waiting = |uid: &str| all.iter().any(|pod| is_tracked(pod) && owners::uid(&**pod) == uid);
        let book = |list: &mut Option<Vec<String>>, total: &mut usize| {
            let list = list.get_or_insert_default();
            let before = list.len();
            list.retain(|uid| is_waiting(uid));
            *total += before - list.len();
        };
        book(&mut waiting.succeeded, &mut booked.0);
        book(&mut waiting.failed, &mut booked.1);
        Self { counted: Vec::new(), is_settled: false, waiting, booked }
    }

    /// Writes the books into a status.
    pub(super) fn write(&self, job: &Job, count: &Count, status: &mut JobStatus) {
        let succeeded = if is_indexed(job) { count.indexes.len() } else { self.booked.0 };
        status.succeeded = crate::status::count(succeeded);
        status.failed = crate::status::count(self.booked.1);
        status.uncounted_terminated_pods = Some(self.waiting.clone());
        if is_indexed(job) {
            status.completed_indexes = Some(indexes::format(&count.indexes)).filter(|text| !text.is_empty());
            status.failed_indexes = count.failed_indexes.as_ref().map(indexes::format);
        }
    }
}

/// Whether a pod has come to its end as far as the count goes.
fn has_ended(job: &Job, pod: &Pod, count: &Count) -> bool {
    let is_kept = || count.awaiting.values().any(|kept| owners::uid(&**kept) == owners::uid(pod));
    pods::phase(pod) == "Succeeded" || (has_failed(job, pod) && !is_kept())
}
