//! How long a job waits after failures before it starts a pod again.

use std::sync::Arc;
use std::time::Duration;

use api::types::batch::v1::Job;
use api::types::core::v1::{ContainerStatus, Pod};
use jiff::{SignedDuration, Timestamp};

use super::counting::has_failed;
use crate::pods;

/// The delay after the first failure, doubled by each further one.
const FIRST: f64 = 10.0;
const LONGEST: f64 = 600.0;

/// When a pod ended: when its last container did, else when it was no longer
/// ready, else when its deletion was asked for.
pub(super) fn ended(pod: &Pod) -> Timestamp {
    let unready = || {
        let ready = pods::condition(pod, "Ready").filter(|ready| ready.status == "False")?;
        ready.last_transition_time.as_ref().map(|time| time.0)
    };
    let deleted = || {
        let due = pod.metadata.deletion_timestamp.as_ref()?.0;
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
        due.checked_sub(SignedDuration::from_secs(grace)).ok()
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let known = last_container_end(pod).or_else(unready).or_else(deleted).or_else(created);
    known.unwrap_or(Timestamp::UNIX_EPOCH)
}

/// When the last container ended, sidecars included; `None` while one has not.
fn last_container_end(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: Vec<&str> = init
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect();
    let others = status.init_container_statuses.iter().flatten();
    let sidecars = others.filter(|container| sidecars.contains(&container.name.as_str()));
    let end = |one: &ContainerStatus| {
        one.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0)
    };
    let ends: Option<Vec<Timestamp>> =
        status.container_statuses.iter().flatten().chain(sidecars).map(end).collect();
    ends?.into_iter().max()
}

/// What is left of the delay after a number of failures; `None`: nothing.
pub(super) fn left(failures: usize, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let doublings = i32::try_from(failures.checked_sub(1)?).unwrap_or(i32::MAX).min(16);
    let delay = (FIRST * 2_f64.powi(doublings)).min(LONGEST);
    let left = delay - now.duration_since(last).as_secs_f64();
    (left > 0.0).then(|| Duration::from_secs_f64(left))
}

/// How long to wait after the failures since the last success.
pub(super) fn of_job(job: &Job, all: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let success = all.iter().filter(|pod| pods::phase(pod) == "Succeeded").map(|pod| ended(pod)).max();
    let failed = all.iter().filter(|pod| has_failed(job, pod)).map(|pod| ended(pod));
    let failures: Vec<Timestamp> = failed.filter(|at| success.is_none_or(|success| *at > success)).collect();
    left(failures.len(), *failures.iter().max()?, now)
}
