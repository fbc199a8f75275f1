//! The stages of a pod's life on the node, and the pure step between them.
//!
//! ```text
//!             deletion, end of all containers, deadline, eviction, gone from the API
//!   Syncing ────────────────────────────────────────────────────────────► Terminating
//!      │  ▲                                                                    │
//!      └──┘ containers are started, restarted and probed                       │ nothing runs
//!                                                                              ▼
//!                                                                         Terminated
//!                                network, volumes and cgroups go; a deleted pod's
//!                                containers and logs go too, and then its API object
//! ```
//!
//! No stage is ever left backwards, and none is remembered across a restart of
//! the kubelet: the first step from `Syncing` leads where the facts lead.

use std::time::Duration;

use api::types::core::v1::Pod;
use jiff::Timestamp;

use super::plan::{self, Plan, ProbeResults};
use crate::pod::{self, Role};
use crate::runtime::record::{Observed, Record};
use crate::time::elapsed;

/// Where a pod is in its life on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its containers are kept as the specification says.
    Syncing,
    /// Its containers are being stopped.
    Terminating(Ending),
    /// Nothing runs any more, and nothing will.
    Terminated(Ending),
}

/// Why a pod ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The phase that it gets whatever its containers say, with reason and
    /// message (evicted, deadline exceeded).
    pub verdict: Option<Verdict>,
}

/// A failure decided by the kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// Everything that a step depends on, but the time.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The pod as last seen.
    pub pod: &'a Pod,
    /// It is gone from its source.
    pub is_gone: bool,
    /// The kubelet itself wants it down.
    pub eviction: Option<&'a Verdict>,
    /// What the runtime says.
    pub observed: &'a Observed,
    /// What the probes say.
    pub probes: &'a ProbeResults,
    /// Volumes, cgroup and directories are ready.
    pub is_prepared: bool,
    /// Network, volumes and cgroup are gone.
    pub is_torn_down: bool,
    /// The final status has reached the API server.
    pub is_status_final: bool,
}

/// Something to be done about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make directories, cgroup and volumes.
    Prepare,
    /// Carry out a plan for the containers.
    Run(Plan),
    /// Stop the containers, main ones first, within the grace period.
    Stop {
        /// Seconds that they get.
        grace_seconds: i64,
    },
    /// Take down network, volumes and cgroup.
    TearDown,
    /// Remove containers, logs and directories.
    Remove,
    /// Remove the object from the API server.
    FinishDeletion,
    /// The worker's task ends.
    Retire,
    /// Look again after this time.
    Wake(Duration),
}

/// One step: from a stage and the facts to a stage and what is to be done.
#[must_use]
pub fn advance(stage: Stage, inputs: &Inputs<'_>, now: Timestamp) -> (Stage, Vec<Action>) {
    let stage = match stage {
        Stage::Syncing => match ending(inputs, now) {
            Some(ending) => Stage::Terminating(ending),
            None => return (Stage::Syncing, sync(inputs, now)),
        },
        stage => stage,
    };
    match stage {
        Stage::Terminating(ending) if inputs.observed.running().next().is_none() => {
            let actions = terminated(inputs);
            (Stage::Terminated(ending), actions)
        }
        Stage::Terminating(ending) => {
            // A pod that vanished from the API was deleted by force; a manifest
            // that vanished is the usual end of a static pod.
            let by_force = inputs.is_gone
                && inputs.pod.metadata.deletion_timestamp.is_none()
                && !pod::is_static(inputs.pod);
            let grace_seconds = if by_force { 1 } else { pod::grace_seconds(inputs.pod) };
            (Stage::Terminating(ending), vec![Action::Stop { grace_seconds }])
        }
        stage => {
            let actions = terminated(inputs);
            (stage, actions)
        }
    }
}

fn sync(inputs: &Inputs<'_>, now: Timestamp) -> Vec<Action> {
    if !inputs.is_prepared {
        return vec![Action::Prepare];
    }
    let plan = plan::plan(inputs.pod, inputs.observed, inputs.probes, now);
    let wake = [plan.wake_after(), deadline_left(inputs.pod, now)].into_iter().flatten().min();
    let mut actions = vec![Action::Run(plan)];
    actions.extend(wake.map(Action::Wake));
    actions
}

fn terminated(inputs: &Inputs<'_>) -> Vec<Action> {
    let is_deleted = inputs.is_gone || inputs.pod.metadata.deletion_timestamp.is_some();
    if !inputs.is_torn_down {
        vec![Action::TearDown]
    } else if !is_deleted || !(inputs.is_status_final || inputs.is_gone) {
        Vec::new()
    } else if inputs.is_gone {
        vec![Action::Remove, Action::Retire]
    } else {
        vec![Action::Remove, Action::FinishDeletion]
    }
}

/// Why the pod must end now, if it must.
fn ending(inputs: &Inputs<'_>, now: Timestamp) -> Option<Ending> {
    if let Some(verdict) = inputs.eviction {
        return Some(Ending { verdict: Some(verdict.clone()) });
    }
    if inputs.is_gone || inputs.pod.metadata.deletion_timestamp.is_some() {
        return Some(Ending { verdict: None });
    }
    if deadline_left(inputs.pod, now).is_some_and(|left| left.is_zero()) {
        return Some(Ending {
            verdict: Some(Verdict {
                reason: "DeadlineExceeded".to_owned(),
                message: "Pod was active on the node longer than the specified deadline".to_owned(),
            }),
        });
    }
    let phase = inputs.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_over = matches!(phase, Some("Succeeded" | "Failed")) || has_finished(inputs.pod, inputs.observed);
    is_over.then_some(Ending { verdict: None })
}

/// Whether every container ended and none is to be started again.
#[must_use]
pub fn has_finished(pod: &Pod, observed: &Observed) -> bool {
    let is_over = |role: Role, container: &api::types::core::v1::Container| {
        observed
            .latest(&container.name)
            .and_then(Record::exit)
            .is_some_and(|exit| !pod::should_restart(pod, role, container, exit.code))
    };
    let init_failed = pod::init_containers(pod).iter().any(|container| {
        pod::init_role(container) == Role::Init
            && is_over(Role::Init, container)
            && observed.latest(&container.name).and_then(Record::exit).is_some_and(|exit| exit.code != 0)
    });
    let main = &pod::spec(pod).containers;
    init_failed || (!main.is_empty() && main.iter().all(|container| is_over(Role::Main, container)))
}

/// Time left until the pod's active deadline.
fn deadline_left(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let seconds = u64::try_from(pod::spec(pod).active_deadline_seconds?).ok()?;
    let since = pod.status.as_ref()?.start_time.as_ref()?.0;
    Some(Duration::from_secs(seconds).saturating_sub(elapsed(since, now)))
}
