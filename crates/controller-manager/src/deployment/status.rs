//! A deployment's counts and conditions.

use std::time::Duration;

use api::types::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use jiff::Timestamp;

use super::scale::Limits;
use crate::owners;
use crate::status::{count, time};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const FINISHED: &str = "NewReplicaSetAvailable";

/// The conditions in the making.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    list: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    pub(super) fn of(deployment: &Deployment, now: Timestamp) -> Self {
        let list =
            deployment.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        Self { list, now }
    }

    fn get(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.list.iter().find(|condition| condition.type_ == kind)
    }

    fn remove(&mut self, kind: &str) {
        self.list.retain(|condition| condition.type_ != kind);
    }

    /// Says it, unless status and reason are said already.
    fn say(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let now = time(self.now);
        let mut since = now.clone();
        if let Some(before) = self.get(kind) {
            if before.status == status && before.reason.as_deref() == Some(reason) {
                return;
            }
            if before.status == status {
                since = before.last_transition_time.clone().unwrap_or(since);
            }
        }
        self.remove(kind);
        self.list.push(DeploymentCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since),
            last_update_time: Some(now),
        });
    }

    pub(super) fn progressing(&mut self, status: &str, reason: &str, message: String) {
        self.say(PROGRESSING, status, reason, message);
    }

    pub(super) fn speaks_of_progress(&self) -> bool {
        self.get(PROGRESSING).is_some()
    }

    fn progress_reason(&self) -> &str {
        self.get(PROGRESSING).and_then(|condition| condition.reason.as_deref()).unwrap_or_default()
    }

    /// Says that the deployment was paused or resumed, where that is news.
    pub(super) fn note_pause(&mut self, paused: bool) {
        let known = self.progress_reason() == "DeploymentPaused";
        if self.progress_reason() == TIMED_OUT {
            return;
        }
        if paused && !known {
            self.progressing("Unknown", "DeploymentPaused", "Deployment is paused".to_owned());
        } else if !paused && known {
            self.progressing("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned());
        }
    }
}

/// The progress deadline; `None` where there is none.
pub(super) fn deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    (seconds != i32::MAX).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

/// What a status is computed from.
pub(super) struct Sets<'a> {
    pub(super) new: Option<&'a ReplicaSet>,
    pub(super) all: Vec<&'a ReplicaSet>,
}

/// The counts, and `Available`.
pub(super) fn counted(
    deployment: &Deployment,
    sets: &Sets<'_>,
    conditions: &mut Conditions,
    collisions: Option<i32>,
) -> DeploymentStatus {
    let limits = Limits::of(deployment);
    let sum = |field: fn(&api::types::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
        sets.all.iter().filter_map(|set| set.status.as_ref()).map(field).sum()
    };
    let some = |number: i32| count(usize::try_from(number).unwrap_or_default());
    let available = sum(|status| status.available_replicas.unwrap_or_default());
    let total = sum(|status| status.replicas);
    if available >= limits.fewest() {
        let text = "Deployment has minimum availability.".to_owned();
        conditions.say(AVAILABLE, "True", "MinimumReplicasAvailable", text);
    } else {
        let text = "Deployment does not have minimum availability.".to_owned();
        conditions.say(AVAILABLE, "False", "MinimumReplicasUnavailable", text);
    }
    let terminating: Option<Vec<i32>> = sets
        .all
        .iter()
        .map(|set| set.status.as_ref().and_then(|status| status.terminating_replicas))
        .collect();
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(total),
        updated_replicas: sets
            .new
            .and_then(|set| set.status.as_ref())
            .and_then(|status| some(status.replicas)),
        ready_replicas: some(sum(|status| status.ready_replicas.unwrap_or_default())),
        available_replicas: some(available),
        unavailable_replicas: some((total - available).max(0)),
        terminating_replicas: terminating.map(|all| all.iter().sum()),
        collision_count: collisions,
        conditions: None,
    }
}

/// Whether the rollout is done.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = Limits::of(deployment).replicas;
    let is = |number: Option<i32>| number.unwrap_or_default() == wanted;
    is(status.updated_replicas)
        && is(status.replicas)
        && is(status.available_replicas)
        && status.observed_generation >= deployment.metadata.generation
}

fn advances(old: Option<&DeploymentStatus>, new: &DeploymentStatus) -> bool {
    let none = DeploymentStatus::default();
    let old = old.unwrap_or(&none);
    let number = |one: Option<i32>| one.unwrap_or_default();
    let outdated = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || outdated(new) < outdated(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

/// Says how the rollout goes; how long until its deadline is to be looked at.
pub(super) fn judge_progress(
    deployment: &Deployment,
    sets: &Sets<'_>,
    status: &DeploymentStatus,
    conditions: &mut Conditions,
) -> Option<Duration> {
    let Some(deadline) = deadline(deployment) else {
        conditions.remove(PROGRESSING);
        say_failures(sets, conditions);
        return None;
    };
    let was_complete = status.replicas == status.updated_replicas && conditions.progress_reason() == FINISHED;
    let subject = sets.new.map_or_else(
        || format!("Deployment {:?}", owners::name(deployment)),
        |set| format!("ReplicaSet {:?}", owners::name(set)),
    );
    if !was_complete {
        if is_complete(deployment, status) {
            conditions.progressing("True", FINISHED, format!("{subject} has successfully progressed."));
        } else if advances(deployment.status.as_ref(), status) {
            // The deadline counts from the latest progress.
            let since = conditions.get(PROGRESSING).filter(|before| before.status == "True");
            let since = since.and_then(|before| before.last_transition_time.clone());
            conditions.remove(PROGRESSING);
            conditions.progressing("True", "ReplicaSetUpdated", format!("{subject} is progressing."));
            if let (Some(since), Some(last)) = (since, conditions.list.last_mut()) {
                last.last_transition_time = Some(since);
            }
        } else if is_late(conditions, deadline) {
            conditions.progressing("False", TIMED_OUT, format!("{subject} has timed out progressing."));
        }
    }
    say_failures(sets, conditions);
    if is_complete(deployment, status) || matches!(conditions.progress_reason(), "" | TIMED_OUT) {
        return None;
    }
    let last = conditions.get(PROGRESSING)?.last_update_time.as_ref()?.0;
    let passed = conditions.now.duration_since(last).as_secs_f64().max(0.0);
    Some(Duration::from_secs_f64((deadline.as_secs_f64() - passed).max(0.0)) + Duration::from_secs(1))
}

fn is_late(conditions: &Conditions, deadline: Duration) -> bool {
    let Some(progress) = conditions.get(PROGRESSING) else { return false };
    match progress.reason.as_deref().unwrap_or_default() {
        FINISHED => false,
        TIMED_OUT => true,
        _ => progress
            .last_update_time
            .as_ref()
            .is_some_and(|last| conditions.now.duration_since(last.0).as_secs_f64() > deadline.as_secs_f64()),
    }
}

/// Repeats what a replica set says of its failures; the new one is heard first.
fn say_failures(sets: &Sets<'_>, conditions: &mut Conditions) {
    let failure = |set: &&ReplicaSet| {
        let all = set.status.as_ref()?.conditions.as_ref()?;
        all.iter().find(|condition| condition.type_ == FAILURE).cloned()
    };
    let heard = sets.new.iter().find_map(failure).or_else(|| sets.all.iter().find_map(failure));
    match heard {
        Some(failure) => {
            let (reason, message) = (failure.reason.unwrap_or_default(), failure.message.unwrap_or_default());
            conditions.say(FAILURE, &failure.status, &reason, message);
        }
        None => conditions.remove(FAILURE),
    }
}

impl From<Conditions> for Option<Vec<DeploymentCondition>> {
    fn from(conditions: Conditions) -> Self {
        (!conditions.list.is_empty()).then_some(conditions.list)
    }
}
