//! How many pods of a job are to run, which go, and when the next may start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::types::batch::v1::Job;
use api::types::core::v1::Pod;
use jiff::Timestamp;

use super::counting::{Count, has_failed, is_indexed, replaces_only_ended};
use super::indexes;
use crate::pods;

/// Pods created or deleted in one plan.
const BATCH: usize = 500;
/// The delay after the first failure, doubled by each further one.
const FIRST_DELAY: f64 = 10.0;
const LONGEST_DELAY: f64 = 600.0;

/// The changes to a job's pods.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Pods too many.
    pub(super) delete: Vec<Arc<Pod>>,
    /// Pods to start, each with its index if it has one.
    pub(super) create: Vec<Option<i32>>,
    /// Time until the next pod may start.
    pub(super) wait: Option<Duration>,
}

pub(super) fn changes(job: &Job, all: &[Arc<Pod>], count: &Count, now: Timestamp) -> Changes {
    let spec = job.spec.clone().unwrap_or_default();
    let number = |count: i32| usize::try_from(count).unwrap_or_default();
    let parallelism = if spec.suspend == Some(true) { 0 } else { number(spec.parallelism.unwrap_or(1)) };
    let mut active: Vec<&Arc<Pod>> = all.iter().filter(|pod| pods::is_active(pod)).collect();
    let wanted = match spec.completions {
        None if spec.suspend == Some(true) => 0,
        // With no number of completions, the first success is the signal to end.
        None if count.succeeded > 0 => active.len(),
        None => parallelism,
        Some(completions) => number(completions).saturating_sub(count.succeeded).min(parallelism),
    };
    let mut changes = Changes::default();
    let mut taken: BTreeSet<i32> = count.indexes.clone();
    if is_indexed(job) {
        let completions = spec.completions.unwrap_or_default();
        active.sort_by_key(|pod| indexes::of(pod));
        active.retain(|pod| {
            let keep = indexes::of(pod).is_some_and(|index| index < completions && taken.insert(index));
            if !keep {
                changes.delete.push(Arc::clone(pod));
            }
            keep
        });
    }
    if active.len() > wanted {
        // What has come least far goes first.
        active.sort_by_key(|pod| {
            (!pods::node_name(pod).is_empty(), pods::is_ready(pod), std::cmp::Reverse(created(pod)))
        });
        let surplus = active.len() - wanted;
        changes.delete.extend(active.iter().take(surplus).map(|pod| Arc::clone(pod)));
    }
    changes.delete.truncate(BATCH);
    let terminating = all.iter().filter(|pod| pods::is_terminating(pod));
    let leaving = if replaces_only_ended(job) { terminating.clone().count() } else { 0 };
    let missing = wanted.saturating_sub(active.len() + leaving).min(BATCH);
    if missing == 0 || !changes.delete.is_empty() {
        return changes;
    }
    if let Some(wait) = backoff(job, all, now) {
        changes.wait = Some(wait);
        return changes;
    }
    if !is_indexed(job) {
        changes.create = vec![None; missing];
        return changes;
    }
    if replaces_only_ended(job) {
        taken.extend(terminating.filter_map(|pod| indexes::of(pod)));
    }
    let free = (0..spec.completions.unwrap_or_default()).filter(|index| !taken.contains(index));
    changes.create = free.take(missing).map(Some).collect();
    changes
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// When a pod ended.
fn ended(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let finished = statuses.filter_map(|one| one.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    let deleted = pod.metadata.deletion_timestamp.as_ref();
    finished.map(|time| time.0).max().or_else(|| deleted.map(|time| time.0)).or_else(|| created(pod))
}

/// How long to wait after the failures since the last success.
pub(super) fn backoff(job: &Job, all: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let success = all.iter().filter(|pod| pods::phase(pod) == "Succeeded").filter_map(|pod| ended(pod)).max();
    let failed = all.iter().filter(|pod| has_failed(job, pod)).filter_map(|pod| ended(pod));
    let failures: Vec<Timestamp> = failed.filter(|at| success.is_none_or(|success| *at > success)).collect();
    let last = failures.iter().max()?;
    let exponent = i32::try_from(failures.len()).unwrap_or(i32::MAX).saturating_sub(1).min(16);
    let delay = (FIRST_DELAY * 2_f64.powi(exponent)).min(LONGEST_DELAY);
    let left = delay - now.duration_since(*last).as_secs_f64();
    (left > 0.0).then(|| Duration::from_secs_f64(left))
}
