//! What a deployment needs: its replica sets created, scaled, cleaned up, its
//! status told. The steps are upstream's `syncDeployment`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use api::LabelSelector;
use api::types::apps::v1::{Deployment, ReplicaSet};
use client::events::reference;
use reconcile::{Action, Moment, Plan};
use serde_json::json;

use super::Observed;
use super::revisions::{self, REVISION};
use super::scale::{Limits, Part, is_rolling, split};
use super::status::{self, Conditions, Sets};
use crate::owners;

/// The selector; one that cannot be read selects nothing.
pub(super) fn selector(deployment: &Deployment) -> LabelSelector {
    let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
    LabelSelector::from_api(selector).unwrap_or_else(|_| LabelSelector::nothing())
}

/// A replica set and what the plan makes of it.
struct Draft {
    set: Arc<ReplicaSet>,
    replicas: i32,
    annotations: BTreeMap<String, String>,
}

impl Draft {
    fn of(set: &Arc<ReplicaSet>) -> Self {
        Self { set: Arc::clone(set), replicas: replicas(set), annotations: BTreeMap::new() }
    }

    fn available(&self) -> i32 {
        self.set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
    }

    fn scale(&mut self, replicas: i32, limits: Limits) {
        self.replicas = replicas;
        let has = self.set.metadata.annotations.as_ref();
        for (key, value) in revisions::size_annotations(limits) {
            if has.and_then(|all| all.get(&key)) != Some(&value) {
                self.annotations.insert(key, value);
            }
        }
    }

    fn is_scaled(&self) -> bool {
        self.replicas != replicas(&self.set)
    }
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn age_order(set: &ReplicaSet) -> (Option<jiff::Timestamp>, String) {
    (set.metadata.creation_timestamp.as_ref().map(|time| time.0), owners::name(set).to_owned())
}

struct Rollout<'a> {
    deployment: &'a Deployment,
    limits: Limits,
    new: Option<Draft>,
    old: Vec<Draft>,
    conditions: Conditions,
    collisions: Option<i32>,
    actions: Vec<Action>,
}

pub(super) fn plan(observed: &Observed, moment: &Moment) -> Plan {
    let deployment = &*observed.deployment;
    let selector = selector(deployment);
    if selector.is_everything() {
        let text = "This deployment is selecting all pods. A non-empty selector is required.";
        return Plan::of(vec![Action::warning(reference(deployment), "SelectingAll", text)]);
    }
    let claimed = owners::claim(deployment, &selector, &observed.replica_sets);
    let mut rollout = Rollout::new(deployment, &claimed.objects, moment);
    rollout.actions = claimed.actions;
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or_default();
    if deployment.metadata.deletion_timestamp.is_none() {
        if status::deadline(deployment).is_some() {
            rollout.conditions.note_pause(paused);
        }
        if paused || rollout.was_scaled() {
            rollout.number_new(false);
            rollout.scale_all();
            if paused {
                rollout.clean_up();
            }
        } else if is_rolling(deployment) {
            rollout.roll(observed);
        } else {
            rollout.recreate(observed);
        }
    }
    rollout.finish(moment)
}

impl<'a> Rollout<'a> {
    fn new(deployment: &'a Deployment, sets: &[Arc<ReplicaSet>], moment: &Moment) -> Self {
        let mut sets: Vec<&Arc<ReplicaSet>> = sets.iter().collect();
        sets.sort_by_key(|set| age_order(set));
        // Should several carry the template, the oldest is the one.
        let new =
            sets.iter().position(|set| revisions::carries(set, deployment)).map(|index| sets.remove(index));
        Self {
            deployment,
            limits: Limits::of(deployment),
            new: new.map(Draft::of),
            old: sets.into_iter().map(Draft::of).collect(),
            conditions: Conditions::of(deployment, moment.now),
            collisions: deployment.status.as_ref().and_then(|status| status.collision_count),
            actions: Vec::new(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Draft> {
        self.new.iter().chain(&self.old)
    }

    fn total(&self) -> i32 {
        self.all().map(|draft| draft.replicas).sum()
    }

    fn was_scaled(&self) -> bool {
        let active = self.all().filter(|draft| draft.replicas > 0);
        let mut sizes = active.filter_map(|draft| revisions::number(&draft.set.metadata, revisions::DESIRED));
        sizes.any(|size| size != i64::from(self.limits.replicas))
    }

    fn revision(&self) -> i64 {
        revisions::newest(self.old.iter().map(|draft| &draft.set)) + 1
    }

    /// Gives the new replica set its revision and the deployment's annotations.
    fn number_new(&mut self, found: bool) {
        let revision = self.revision();
        let Some(new) = &mut self.new else { return };
        let missing = revisions::missing_annotations(self.deployment, &new.set.metadata, revision);
        let carried = missing.get(REVISION).cloned();
        let carried = carried
            .or_else(|| new.set.metadata.annotations.as_ref().and_then(|all| all.get(REVISION)).cloned());
        new.annotations.extend(missing);
        let name = owners::name(&*new.set).to_owned();
        if let Some(revision) = carried {
            self.number_deployment(&revision);
        }
        if found && status::deadline(self.deployment).is_some() && !self.conditions.speaks_of_progress() {
            self.conditions.progressing(
                "True",
                "FoundNewReplicaSet",
                format!("Found new replica set {name:?}"),
            );
        }
    }

    fn number_deployment(&mut self, revision: &str) {
        let annotations = self.deployment.metadata.annotations.as_ref();
        if annotations.and_then(|all| all.get(REVISION)).is_none_or(|now| now != revision) {
            let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
            self.actions.push(Action::patch(self.deployment, patch));
        }
    }

    /// Creates the new replica set if it is not there; whether it was not.
    fn create_new(&mut self, observed: &Observed) -> bool {
        if self.new.is_some() {
            self.number_new(true);
            return false;
        }
        let progresses = status::deadline(self.deployment).is_some();
        if observed.namesake.is_some() {
            // Another template, or another owner, has the name: a new hash gives another.
            self.collisions = Some(self.collisions.unwrap_or_default() + 1);
            return true;
        }
        let replicas = self.size_of_new(0);
        let revision = self.revision();
        let set = revisions::new_set(self.deployment, revision, replicas);
        let name = owners::name(&set).to_owned();
        self.actions.push(Action::create(&set));
        if replicas > 0 {
            self.announce_scaling(&name, 0, replicas);
        }
        self.number_deployment(&revision.to_string());
        if progresses {
            let text = format!("Created new replica set {name:?}");
            self.conditions.progressing("True", "NewReplicaSetCreated", text);
        }
        true
    }

    fn size_of_new(&self, now: i32) -> i32 {
        if !is_rolling(self.deployment) {
            return self.limits.replicas;
        }
        let room = self.limits.most() - self.total();
        if room <= 0 { now } else { now + room.min(self.limits.replicas - now) }
    }

    fn announce_scaling(&mut self, name: &str, from: i32, to: i32) {
        let direction = if to > from { "up" } else { "down" };
        let text = format!("Scaled {direction} replica set {name} from {from} to {to}");
        self.actions.push(Action::normal(reference(self.deployment), "ScalingReplicaSet", text));
    }

    /// A step of a rolling update.
    fn roll(&mut self, observed: &Observed) {
        if !self.create_new(observed) && !self.scale_new() && !self.scale_down_old() {
            self.clean_up_if_complete();
        }
    }

    /// Scales the new replica set; whether it had another size.
    fn scale_new(&mut self) -> bool {
        let limits = self.limits;
        let Some(now) = self.new.as_ref().map(|new| new.replicas) else { return false };
        let size = if now > limits.replicas { limits.replicas } else { self.size_of_new(now) };
        if let Some(new) = &mut self.new {
            new.scale(size, limits);
        }
        size != now
    }

    /// Scales old replica sets down as far as availability allows: first pods
    /// that serve nobody, then the oldest replica sets.
    fn scale_down_old(&mut self) -> bool {
        let limits = self.limits;
        if self.old.iter().all(|old| old.replicas == 0) {
            return false;
        }
        let new_unavailable = self.new.as_ref().map_or(0, |new| new.replicas - new.available());
        let most = self.total() - limits.fewest() - new_unavailable;
        if most <= 0 {
            return false;
        }
        let mut cleaned = 0;
        for old in &mut self.old {
            let idle = (old.replicas - old.available()).min(most - cleaned);
            if old.replicas > 0 && idle > 0 {
                old.scale(old.replicas - idle, limits);
                cleaned += idle;
            }
        }
        let available: i32 = self.all().map(Draft::available).sum();
        let mut left = available - limits.fewest();
        for old in &mut self.old {
            let fewer = old.replicas.min(left);
            if fewer > 0 {
                old.scale(old.replicas - fewer, limits);
                left -= fewer;
            }
        }
        self.old.iter().any(Draft::is_scaled)
    }

    /// A step of a recreation: all old pods end before the first new one starts.
    fn recreate(&mut self, observed: &Observed) {
        let limits = self.limits;
        self.number_new(true);
        for old in self.old.iter_mut().filter(|old| old.replicas > 0) {
            old.scale(0, limits);
        }
        let is_busy = |old: &Draft| observed.busy.iter().any(|uid| uid == owners::uid(&*old.set));
        if self.old.iter().any(|old| old.is_scaled() || is_busy(old)) {
            return;
        }
        if !self.create_new(observed) && !self.scale_new() {
            self.clean_up_if_complete();
        }
    }

    /// Follows a change of the deployment's size outside of a rollout's steps.
    fn scale_all(&mut self) {
        let limits = self.limits;
        let active = self.all().filter(|draft| draft.replicas > 0).count();
        if active <= 1 {
            let old = self.old.iter_mut();
            let one = match active {
                1 => old.chain(&mut self.new).find(|draft| draft.replicas > 0),
                _ => match &mut self.new {
                    Some(new) => Some(new),
                    None => old.max_by_key(|draft| age_order(&draft.set)),
                },
            };
            if let Some(one) = one {
                one.scale(limits.replicas, limits);
            }
            return;
        }
        if self.new.as_ref().is_some_and(|new| is_saturated(new, limits)) {
            for old in self.old.iter_mut().filter(|old| old.replicas > 0) {
                old.scale(0, limits);
            }
        } else if is_rolling(self.deployment) {
            self.scale_in_proportion();
        }
    }

    fn scale_in_proportion(&mut self) {
        let limits = self.limits;
        let grows = limits.most() > self.total() && limits.replicas > 0;
        let before = self.deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or_default();
        let mut active: Vec<&mut Draft> =
            self.old.iter_mut().chain(&mut self.new).filter(|draft| draft.replicas > 0).collect();
        active.sort_by_key(|draft| age_order(&draft.set));
        if grows {
            active.reverse();
        }
        active.sort_by_key(|draft| Reverse(draft.replicas));
        let part = |draft: &&mut Draft| {
            let remembered = revisions::number(&draft.set.metadata, revisions::MOST);
            let most_before = remembered.and_then(|most| i32::try_from(most).ok()).unwrap_or(before);
            Part { replicas: draft.replicas, most_before }
        };
        let parts: Vec<Part> = active.iter().map(part).collect();
        for (draft, size) in active.into_iter().zip(split(&parts, limits)) {
            draft.scale(size, limits);
        }
    }

    fn clean_up_if_complete(&mut self) {
        let mut ignored = self.conditions.clone();
        let counted = status::counted(self.deployment, &self.sets(), &mut ignored, self.collisions);
        if status::is_complete(self.deployment, &counted) {
            self.clean_up();
        }
    }

    /// Deletes the oldest revisions beyond the history's limit.
    fn clean_up(&mut self) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let Ok(limit) = usize::try_from(limit) else { return };
        if limit >= i32::MAX as usize {
            return;
        }
        let mut alive: Vec<&Draft> =
            self.old.iter().filter(|old| old.set.metadata.deletion_timestamp.is_none()).collect();
        let surplus = alive.len().saturating_sub(limit);
        alive.sort_by_key(|old| (revisions::number(&old.set.metadata, REVISION), age_order(&old.set)));
        let idle = |old: &&&Draft| {
            let status = old.set.status.clone().unwrap_or_default();
            let seen = status.observed_generation.unwrap_or_default();
            status.replicas == 0
                && replicas(&old.set) == 0
                && old.set.metadata.generation.unwrap_or_default() <= seen
        };
        let doomed: Vec<Action> =
            alive.iter().take(surplus).filter(idle).map(|old| Action::delete(&*old.set)).collect();
        self.actions.extend(doomed);
    }

    fn sets(&self) -> Sets<'_> {
        Sets {
            new: self.new.as_ref().map(|new| &*new.set),
            all: self.all().map(|draft| &*draft.set).collect(),
        }
    }

    fn finish(mut self, moment: &Moment) -> Plan {
        let mut writes = Vec::new();
        let min_ready = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let mut scaled = Vec::new();
        for draft in self.all() {
            let is_new = self.new.as_ref().is_some_and(|new| Arc::ptr_eq(&new.set, &draft.set));
            let mut patch = json!({});
            if !draft.annotations.is_empty() {
                patch["metadata"] = json!({"annotations": draft.annotations});
            }
            if draft.is_scaled() {
                patch["spec"]["replicas"] = draft.replicas.into();
                scaled.push((owners::name(&*draft.set).to_owned(), replicas(&draft.set), draft.replicas));
            }
            let their_min_ready = draft.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
            if is_new && their_min_ready.unwrap_or_default() != min_ready.unwrap_or_default() {
                patch["spec"]["minReadySeconds"] = min_ready.unwrap_or_default().into();
            }
            if patch != json!({}) {
                writes.push(Action::patch_unchanged(&*draft.set, patch));
            }
        }
        self.actions.splice(0..0, writes);
        for (name, from, to) in scaled {
            self.announce_scaling(&name, from, to);
        }
        if let Some(failure) = moment.failure.as_ref().filter(|failure| failure.verb == "create") {
            let name = revisions::new_name(self.deployment);
            let text = format!("Failed to create new replica set {name:?}: {}", failure.message);
            let about = reference(self.deployment);
            self.actions.push(Action::warning(about, "ReplicaSetCreateError", text.clone()));
            self.conditions.progressing("False", "ReplicaSetCreateError", text);
        }
        let mut conditions = self.conditions.clone();
        let sets = self.sets();
        let mut told = status::counted(self.deployment, &sets, &mut conditions, self.collisions);
        let failed = moment.failure.is_some();
        let mut wake = None;
        if self.deployment.metadata.deletion_timestamp.is_none() && !failed {
            wake = status::judge_progress(self.deployment, &sets, &told, &mut conditions);
        }
        told.conditions = conditions.into();
        let telling = crate::status::write(self.deployment, self.deployment.status.as_ref(), &told);
        if failed {
            self.actions.splice(0..0, telling);
        } else {
            self.actions.extend(telling);
        }
        let mut plan = Plan::of(self.actions);
        if let Some(after) = wake {
            plan.wake(after);
        }
        plan
    }
}

/// Whether the new replica set alone has the deployment's size, and serves.
fn is_saturated(new: &Draft, limits: Limits) -> bool {
    let desired = revisions::number(&new.set.metadata, revisions::DESIRED);
    replicas(&new.set) == limits.replicas
        && desired == Some(i64::from(limits.replicas))
        && new.available() == limits.replicas
}
