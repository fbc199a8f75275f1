//! A limit of failures for each index of its own. How often an index has failed
//! stands on its pods: each says how many failed before it, so the last failed
//! one is kept, by its finalizer, until its replacement is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::types::batch::v1::Job;
use api::types::core::v1::Pod;

use super::backoff;
use super::counting::{self, has_failed};
use super::failure_policy::{Verdict, judge};
use super::indexes;
use crate::pods;

/// The annotation that says how many pods of the index failed before.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The annotation that says how many failed without counting.
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// How often each index may fail; `None` where only the job as a whole has a limit.
pub(super) fn limit(job: &Job) -> Option<i32> {
    job.spec.as_ref()?.backoff_limit_per_index.filter(|_| counting::is_indexed(job))
}

fn number(pod: &Pod, annotation: &str) -> i32 {
    let text = pod.metadata.annotations.as_ref().and_then(|all| all.get(annotation));
    text.and_then(|text| text.parse().ok()).filter(|number| *number >= 0).unwrap_or_default()
}

/// How often the index failed before this pod, whether it counted or not.
fn failures_before(pod: &Pod) -> i32 {
    number(pod, FAILURES).saturating_add(number(pod, IGNORED))
}

/// The annotations of the pod that follows on a failed one.
pub(super) fn annotations(job: &Job, replaced: Option<&Pod>) -> Vec<(String, String)> {
    let (mut failures, mut ignored) =
        replaced.map_or((0, 0), |pod| (number(pod, FAILURES), number(pod, IGNORED)));
    if let Some(pod) = replaced {
        let count = if judge(job, pod).counts() { &mut failures } else { &mut ignored };
        *count = count.saturating_add(1);
    }
    let mut annotations = vec![(FAILURES.to_owned(), failures.to_string())];
    if ignored > 0 {
        annotations.push((IGNORED.to_owned(), ignored.to_string()));
    }
    annotations
}

/// The indexes that have failed for good.
pub(super) fn failed(job: &Job, pods: &[Arc<Pod>], limit: i32) -> BTreeSet<i32> {
    let completions = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or_default();
    let known = job.status.as_ref().and_then(|status| status.failed_indexes.as_deref());
    let mut failed = indexes::parse(known.unwrap_or_default(), completions);
    let fails = |pod: &Pod| match judge(job, pod) {
        Verdict::FailsIndex => true,
        verdict => verdict.counts() && number(pod, FAILURES) >= limit,
    };
    let pods = pods.iter().filter(|pod| counting::is_tracked(pod) && has_failed(job, pod) && fails(pod));
    failed.extend(pods.filter_map(|pod| indexes::within(pod, completions)));
    failed
}

/// The last failed pod of each index that waits for its replacement.
pub(super) fn awaiting(job: &Job, all: &[Arc<Pod>], done: &BTreeSet<i32>) -> BTreeMap<i32, Arc<Pod>> {
    let completions = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or_default();
    let active: BTreeSet<i32> =
        all.iter().filter(|pod| pods::is_active(pod)).filter_map(|pod| indexes::of(pod)).collect();
    let mut awaiting: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
    for pod in all.iter().filter(|pod| counting::is_tracked(pod) && has_failed(job, pod)) {
        let index = indexes::within(pod, completions);
        let Some(index) = index.filter(|index| !done.contains(index) && !active.contains(index)) else {
            continue;
        };
        let is_later = awaiting.get(&index).is_none_or(|known| {
            failures_before(known) <= failures_before(pod) && backoff::ended(pod) >= backoff::ended(known)
        });
        if is_later {
            awaiting.insert(index, Arc::clone(pod));
        }
    }
    awaiting
}

/// How often an index has failed in a row, its last failed pod included.
pub(super) fn failures(pod: &Pod) -> usize {
    usize::try_from(failures_before(pod)).unwrap_or_default() + 1
}
