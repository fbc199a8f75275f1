//! What a stateful set needs: the pods of its row created, repaired, replaced or
//! removed in order, their claims, its history, its status told. The steps are
//! upstream's `updateStatefulSet`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::LabelSelector;
use api::types::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use api::types::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use client::events::reference;
use reconcile::{Action, Announcement, Moment, Plan};
use serde_json::json;

use super::claims::{self, Parties};
use super::{Observed, identity, rollout};
use crate::{owners, pods, revisions, status};

/// Pods created in one plan.
const BATCH: usize = 500;

/// The selector; one that cannot be read selects nothing.
pub(super) fn selector(set: &StatefulSet) -> LabelSelector {
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    LabelSelector::from_api(selector).unwrap_or_else(|_| LabelSelector::nothing())
}

pub(super) fn plan(observed: &Observed, moment: &Moment) -> Plan {
    let set = &*observed.set;
    let selector = selector(set);
    let history = owners::claim(set, &selector, &observed.revisions);
    let is_member = |pod: &Pod| {
        selector.matches(&pod.metadata.labels)
            && identity::split(pods::name(pod)).is_some_and(|(parent, _)| parent == owners::name(set))
    };
    let claimed = owners::claim_where(set, is_member, &observed.pods);
    let mut plan = Plan::of(claimed.actions);
    plan.actions.extend(history.actions);
    let update = revisions::current(set, &history.objects, observed.namesake.as_deref());
    let Some(update_revision) = update.revision.filter(|_| update.actions.is_empty()) else {
        // Pods carry the revision's name: it must be there before them.
        plan.actions.extend(update.actions);
        let collision = update.collision.map(|count| json!({"status": {"collisionCount": count}}));
        plan.actions.extend(collision.map(|patch| Action::patch_status(set, patch)));
        return plan;
    };
    let named = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let current = history.objects.iter().find(|one| Some(owners::name(&***one)) == named);
    let mut sync = Sync {
        set,
        current: current.unwrap_or(&update_revision),
        update: &update_revision,
        claims: &observed.claims,
        pods: members(set, &claimed.objects),
        moment,
        replaced: 0,
        plan,
    };
    let before = sync.plan.actions.len();
    if set.metadata.deletion_timestamp.is_none() {
        sync.work();
        let forgotten = sync.forget(&history.objects);
        sync.plan.actions.extend(forgotten);
    }
    sync.tell(before);
    sync.plan
}

fn members(set: &StatefulSet, pods: &[Arc<Pod>]) -> BTreeMap<i32, Arc<Pod>> {
    pods.iter().filter_map(|pod| Some((identity::ordinal(set, pod)?, Arc::clone(pod)))).collect()
}

/// Whether the steps after one may be taken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// They may.
    Done,
    /// Only where pods need not be in order.
    Waits,
    /// Nothing that depends on the whole row may.
    Fails,
}

struct Sync<'a> {
    set: &'a StatefulSet,
    current: &'a Arc<ControllerRevision>,
    update: &'a Arc<ControllerRevision>,
    claims: &'a BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// By ordinal.
    pods: BTreeMap<i32, Arc<Pod>>,
    moment: &'a Moment,
    /// Pods that this plan deletes so that new ones take their places.
    replaced: i32,
    plan: Plan,
}

impl Sync<'_> {
    fn min_ready_seconds(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready_seconds(), self.moment.now)
    }

    /// Whether each pod waits for the one before it.
    fn is_ordered(&self) -> bool {
        let policy = self.set.spec.as_ref().and_then(|spec| spec.pod_management_policy.as_deref());
        policy != Some("Parallel")
    }

    fn work(&mut self) {
        let ordered = self.is_ordered();
        let wanted = identity::ordinals(self.set);
        let (mut created, mut failed) = (0, false);
        for ordinal in wanted.clone() {
            let step = match self.pods.get(&ordinal).cloned() {
                Some(pod) => self.tend(ordinal, &pod, ordered),
                None => {
                    created += 1;
                    self.create(ordinal)
                }
            };
            if created > BATCH || (ordered && step != Step::Done) {
                return;
            }
            failed |= step == Step::Fails;
        }
        let condemned: Vec<(i32, Arc<Pod>)> = self
            .pods
            .iter()
            .filter(|(ordinal, _)| !wanted.contains(ordinal))
            .map(|(ordinal, pod)| (*ordinal, Arc::clone(pod)))
            .collect();
        if failed {
            return;
        }
        for (ordinal, pod) in &condemned {
            self.retain(*ordinal, pod);
        }
        if self.remove(&condemned, ordered) && rollout::is_rolling(self.set) {
            self.roll();
        }
    }

    /// Looks after a pod that is to stay.
    fn tend(&mut self, ordinal: i32, pod: &Arc<Pod>, ordered: bool) -> Step {
        if pods::has_ended(pod) {
            // Whatever its exit code: the pod may have been evicted.
            if !pods::is_being_deleted(pod) {
                self.delete(pod);
            }
            return Step::Waits;
        }
        if pods::phase(pod) == "Pending" {
            let step = self.claim(ordinal, pods::name(pod));
            if step == Step::Fails {
                return step;
            }
            self.retain(ordinal, pod);
        }
        let serves = pods::phase(pod) == "Running" && self.is_available(pod);
        if ordered && (pods::is_being_deleted(pod) || !serves) {
            return Step::Waits;
        }
        self.repair(ordinal, pod);
        Step::Done
    }

    /// Creates a pod, after its claims.
    fn create(&mut self, ordinal: i32) -> Step {
        let name = identity::name(self.set, ordinal);
        let own = claims::templates(self.set).iter();
        let mut own = own.filter_map(|one| self.claims.get(&claims::name(self.set, one, ordinal)));
        if own.any(|claim| claims::is_stale(self.set, claim, &name)) {
            return Step::Waits;
        }
        if self.claim(ordinal, &name) == Step::Fails {
            return Step::Fails;
        }
        let revision = match rollout::starts_at_current(self.set, ordinal) {
            true => self.current,
            false => self.update,
        };
        let template: PodTemplateSpec = revisions::template_in(revision).unwrap_or_default();
        let pod = identity::pod(self.set, &template, owners::name(&**revision), ordinal);
        let text = format!("Pod {name} in StatefulSet {}", owners::name(self.set));
        self.plan.actions.push(Action::create(&pod).announced(Announcement {
            about: reference(self.set),
            success: Some(("SuccessfulCreate", format!("Create {text} successful"))),
            failure: Some(("FailedCreate", format!("Create {text} failed error: {{error}}"))),
        }));
        if self.is_ordered() { Step::Waits } else { Step::Done }
    }

    /// Creates the claims that a pod lacks.
    fn claim(&mut self, ordinal: i32, pod: &str) -> Step {
        let mut step = Step::Done;
        let (set, about) = (self.set, reference(self.set));
        for template in claims::templates(set) {
            let name = claims::name(set, template, ordinal);
            match self.claims.get(&name) {
                Some(claim) if claim.metadata.deletion_timestamp.is_some() => {
                    let text = format!(
                        "Create Pod {pod} in StatefulSet {} failed error: pvc {name} is being deleted",
                        owners::name(set)
                    );
                    self.plan.actions.push(Action::warning(about.clone(), "FailedCreate", text));
                    step = Step::Fails;
                }
                Some(_) => {}
                None => {
                    let set_name = owners::name(set);
                    let done = format!("Create Claim {name} Pod {pod} in StatefulSet {set_name} success");
                    let failed = format!(
                        "Create Claim {name} for Pod {pod} in StatefulSet {set_name} failed error: {{error}}"
                    );
                    let claim = claims::claim(set, template, ordinal);
                    self.plan.actions.push(Action::create(&claim).announced(Announcement {
                        about: about.clone(),
                        success: Some(("SuccessfulCreate", done)),
                        failure: Some(("FailedCreate", failed)),
                    }));
                }
            }
        }
        step
    }

    /// Gives a pod's claims the owners that the retention policy asks for.
    fn retain(&mut self, ordinal: i32, pod: &Pod) -> bool {
        let parties = Parties { set: self.set, pod, ordinal };
        let mut changes = false;
        for template in claims::templates(self.set) {
            let name = claims::name(self.set, template, ordinal);
            let Some(claim) = self.claims.get(&name) else { continue };
            let Some(wanted) = parties.owners_for(claim) else { continue };
            if parties.are_disputed(claim) {
                let text = format!(
                    "PersistentVolumeClaim {name} has another controller among its owners; the retention policy is ignored for it"
                );
                self.plan.actions.push(Action::warning(reference(self.set), "ConflictingController", text));
            }
            let patch = json!({"metadata": {"ownerReferences": wanted}});
            self.plan.actions.push(Action::patch_unchanged(&**claim, patch));
            changes = true;
        }
        changes
    }

    /// Gives a pod back what makes it a member of the set.
    fn repair(&mut self, ordinal: i32, pod: &Pod) {
        let patch = identity::repair(self.set, pod, ordinal);
        let mut changes = patch.is_some();
        let text = format!("Update Pod {} in StatefulSet {}", pods::name(pod), owners::name(self.set));
        let failure = self.moment.failure.as_ref().filter(|failure| failure.verb == "patch");
        if let (Some(failure), true) = (failure, changes) {
            let text = format!("{text} failed error: {}", failure.message);
            self.plan.actions.push(Action::warning(reference(self.set), "FailedUpdate", text));
        }
        changes |= self.retain(ordinal, pod);
        self.plan.actions.extend(patch.map(|patch| Action::patch_unchanged(pod, patch)));
        if changes {
            let text = format!("{text} successful");
            self.plan.actions.push(Action::normal(reference(self.set), "SuccessfulUpdate", text));
        }
    }

    /// Removes pods beyond the row, the last first; whether all are on their way.
    fn remove(&mut self, condemned: &[(i32, Arc<Pod>)], ordered: bool) -> bool {
        // Only what is broken may go before those behind it are healthy.
        let healthy = |pod: &Pod| self.is_available(pod) && !pods::is_being_deleted(pod);
        let broken = condemned.iter().map(|(_, pod)| pod).find(|pod| !healthy(pod));
        let broken = broken.map(|pod| owners::uid(&**pod).to_owned());
        for (_, pod) in condemned.iter().rev() {
            let waits = pods::is_being_deleted(pod)
                || ((pods::phase(pod) != "Running" || !self.is_available(pod))
                    && broken.as_deref() != Some(owners::uid(&**pod)));
            if ordered && waits {
                return false;
            }
            if !pods::is_being_deleted(pod) {
                self.delete(pod);
                if ordered {
                    return false;
                }
            }
        }
        true
    }

    fn roll(&mut self) {
        let pod_at = |ordinal: i32| self.pods.get(&ordinal).map(|pod| &**pod);
        let row: Vec<Option<&Pod>> = identity::ordinals(self.set).map(pod_at).collect();
        let revision = owners::name(&**self.update);
        let next: Vec<Pod> =
            rollout::next(self.set, &row, revision, self.moment.now).into_iter().cloned().collect();
        for pod in next {
            self.delete(&pod);
            self.replaced += 1;
        }
    }

    fn delete(&mut self, pod: &Pod) {
        let text = format!("Pod {} in StatefulSet {}", pods::name(pod), owners::name(self.set));
        self.plan.actions.push(Action::delete(pod).announced(Announcement {
            about: reference(self.set),
            success: Some(("SuccessfulDelete", format!("Delete {text} successful"))),
            failure: Some(("FailedDelete", format!("Delete {text} failed error: {{error}}"))),
        }));
    }

    /// Deletes the oldest revisions beyond the limit that are nobody's.
    fn forget(&self, history: &[Arc<ControllerRevision>]) -> Vec<Action> {
        revisions::clean_up(self.set, history, |one| {
            let name = owners::name(one);
            name == owners::name(&**self.current)
                || name == owners::name(&**self.update)
                || self.pods.values().any(|pod| identity::revision(pod) == name)
        })
    }

    /// Tells the status: after the work, or before it if the last work failed.
    fn tell(&mut self, before: usize) {
        let told = self.counted();
        let telling = status::write(self.set, self.set.status.as_ref(), &told);
        match self.moment.failure {
            Some(_) => drop(self.plan.actions.splice(before..before, telling)),
            None => self.plan.actions.extend(telling),
        }
        let min_ready = self.min_ready_seconds();
        for pod in self.pods.values() {
            let left = pods::until_available(pod, min_ready, self.moment.now);
            if let Some(left) = left.filter(|left| *left > Duration::ZERO) {
                self.plan.wake(left);
            }
        }
    }

    fn counted(&self) -> StatefulSetStatus {
        let number =
            |test: &dyn Fn(&Pod) -> bool| status::whole(self.pods.values().filter(|pod| test(pod)).count());
        let is_ready = |pod: &Pod| pods::phase(pod) == "Running" && pods::is_ready(pod);
        let (current, update) = (owners::name(&**self.current), owners::name(&**self.update));
        let at = |name: &str| number(&|pod| !pods::is_being_deleted(pod) && identity::revision(pod) == name);
        let before = self.set.status.as_ref();
        let mut told = StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            replicas: number(&|_| true),
            ready_replicas: Some(number(&is_ready)),
            available_replicas: Some(number(&|pod| is_ready(pod) && self.is_available(pod))),
            current_replicas: Some(at(current) - self.replaced),
            updated_replicas: Some(at(update)),
            current_revision: Some(current.to_owned()),
            update_revision: Some(update.to_owned()),
            collision_count: Some(before.and_then(|status| status.collision_count).unwrap_or_default()),
            conditions: before.and_then(|status| status.conditions.clone()),
        };
        let wanted = self.set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let all = [told.replicas, told.ready_replicas.unwrap_or_default(), at(update)];
        if rollout::is_rolling(self.set) && all.iter().all(|count| *count == wanted) {
            told.current_replicas = told.updated_replicas;
            told.current_revision.clone_from(&told.update_revision);
        }
        // Upstream leaves counts of nothing out, but for these two.
        for count in [&mut told.ready_replicas, &mut told.current_replicas, &mut told.updated_replicas] {
            *count = count.filter(|count| *count != 0);
        }
        told
    }
}
