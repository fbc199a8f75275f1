//! How many pods of a job are to run, which go, and when the next may start.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::types::batch::v1::Job;
use api::types::core::v1::Pod;
use jiff::Timestamp;

use super::counting::{Count, is_indexed, replaces_only_ended};
use super::{backoff, indexes, per_index};
use crate::pods;

/// Pods created or deleted in one plan.
const BATCH: usize = 500;

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

/// Whether the job is to have no pods for now.
pub(super) fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
}

pub(super) fn changes(job: &Job, all: &[Arc<Pod>], count: &Count, now: Timestamp) -> Changes {
    let active: Vec<&Arc<Pod>> = all.iter().filter(|pod| pods::is_active(pod)).collect();
    let wanted = wanted(job, active.len(), count);
    let mut delete = surplus(job, &active, wanted);
    if !delete.is_empty() {
        if !is_suspended(job) {
            delete.truncate(BATCH);
        }
        return Changes { delete, ..Changes::default() };
    }
    let terminating = all.iter().filter(|pod| pods::is_terminating(pod)).count();
    let leaving = if replaces_only_ended(job) { terminating } else { 0 };
    let missing = wanted.saturating_sub(active.len() + leaving).min(BATCH);
    if missing == 0 {
        return Changes::default();
    }
    let waits_as_one = per_index::limit(job).is_none();
    if let Some(wait) = backoff::of_job(job, all, now).filter(|_| waits_as_one) {
        return Changes { wait: Some(wait), ..Changes::default() };
    }
    if !is_indexed(job) {
        return Changes { create: vec![None; missing], ..Changes::default() };
    }
    let pending = pending(job, all, count, missing);
    if waits_as_one {
        return Changes { create: pending.into_iter().map(Some).collect(), ..Changes::default() };
    }
    start_or_wait(pending, &count.awaiting, now)
}

fn wanted(job: &Job, active: usize, count: &Count) -> usize {
    let spec = job.spec.clone().unwrap_or_default();
    let number = |count: i32| usize::try_from(count).unwrap_or_default();
    let parallelism = number(spec.parallelism.unwrap_or(1));
    if is_suspended(job) {
        return 0;
    }
    match spec.completions {
        // With no number of completions, the first success is the signal to end.
        None if count.succeeded > 0 => active,
        None => parallelism,
        Some(completions) => number(completions).saturating_sub(count.succeeded).min(parallelism),
    }
}

/// The pods that must go so that no more than `wanted` are left, and no index has two.
fn surplus(job: &Job, active: &[&Arc<Pod>], wanted: usize) -> Vec<Arc<Pod>> {
    let mut left = active.to_vec();
    // What has come least far goes first.
    left.sort_by_key(|pod| progress(pod));
    let mut delete = Vec::new();
    if is_indexed(job) {
        let completions = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or_default();
        let mut taken = BTreeSet::new();
        // From the one that has come farthest, so that this is the one that stays.
        let kept =
            |pod: &&&Arc<Pod>| indexes::within(pod, completions).is_some_and(|index| taken.insert(index));
        let (mut stay, go): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = left.iter().rev().partition(kept);
        stay.reverse();
        delete.extend(go.into_iter().cloned());
        left = stay;
    }
    let more = active.len().saturating_sub(wanted).saturating_sub(delete.len());
    delete.extend(left.into_iter().take(more).cloned());
    delete
}

/// How far a pod has come, as upstream's `ActivePods` orders them.
fn progress(pod: &Pod) -> impl Ord + use<> {
    let phase = match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let restarts = statuses.map(|container| container.restart_count).max().unwrap_or_default();
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (
        !pods::node_name(pod).is_empty(),
        phase,
        pods::is_ready(pod),
        Reverse(pods::ready_since(pod)),
        Reverse(restarts),
        Reverse(created),
    )
}

/// The first indexes that nobody works on and that are not over.
fn pending(job: &Job, all: &[Arc<Pod>], count: &Count, limit: usize) -> Vec<i32> {
    let mut taken = count.indexes.clone();
    taken.extend(count.failed_indexes.iter().flatten());
    let works =
        |pod: &&Arc<Pod>| pods::is_active(pod) || (replaces_only_ended(job) && pods::is_terminating(pod));
    taken.extend(all.iter().filter(works).filter_map(|pod| indexes::of(pod)));
    let completions = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or_default();
    (0..completions).filter(|index| !taken.contains(index)).take(limit).collect()
}

/// Starts the indexes whose delay is over; where there are none, waits for the first.
fn start_or_wait(pending: Vec<i32>, awaiting: &BTreeMap<i32, Arc<Pod>>, now: Timestamp) -> Changes {
    let mut changes = Changes::default();
    for index in pending {
        let left = awaiting
            .get(&index)
            .and_then(|pod| backoff::left(per_index::failures(pod), backoff::ended(pod), now));
        match left {
            None => changes.create.push(Some(index)),
            Some(left) => changes.wait = Some(changes.wait.map_or(left, |before| before.min(left))),
        }
    }
    changes
}
