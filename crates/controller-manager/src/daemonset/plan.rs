//! What a daemon set needs: a pod on each node that fits, none elsewhere, its
//! revisions kept, its status told.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::LabelSelector;
use api::types::apps::v1::{DaemonSet, DaemonSetStatus};
use api::types::core::v1::{Node, Pod, Taint};
use client::events::reference;
use jiff::Timestamp;
use reconcile::{Action, Announcement, Moment, Plan};

use super::update::{self, Limits, Step};
use super::{Observed, revisions, template};
use crate::deployment::resolve;
use crate::revisions::current;
use crate::{nodes, owners, pods, status};

/// Pods created or deleted in one plan.
const BATCH: usize = 250;

type ByNode = BTreeMap<String, Vec<Arc<Pod>>>;

/// The selector; one that cannot be read selects nothing.
pub(super) fn selector(set: &DaemonSet) -> LabelSelector {
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    LabelSelector::from_api(selector).unwrap_or_else(|_| LabelSelector::nothing())
}

/// What of a node decides whether daemons run on it.
pub(super) fn concern(node: &Node) -> (Option<BTreeMap<String, String>>, Vec<Taint>) {
    (node.metadata.labels.clone(), nodes::taints(node).cloned().collect())
}

/// Whether a pod of the set is to start on a node, and whether one may stay.
fn fits(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let Some(spec) = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else {
        return (false, false);
    };
    let named = spec.node_name.as_ref().filter(|name| !name.is_empty());
    if named.is_some_and(|name| Some(name) != node.metadata.name.as_ref()) || !nodes::satisfies(node, spec) {
        return (false, false);
    }
    let tolerations = template::tolerations(spec);
    let repelled = |effects: &[&str]| {
        let mut taints = nodes::taints(node).filter(|taint| effects.contains(&taint.effect.as_str()));
        taints.any(|taint| !tolerations.iter().any(|toleration| nodes::covers(toleration, taint)))
    };
    (!repelled(&["NoSchedule", "NoExecute"]), !repelled(&["NoExecute"]))
}

struct Sync<'a> {
    set: &'a DaemonSet,
    left: &'a HashMap<String, Duration>,
    hash: String,
    by_node: ByNode,
    moment: &'a Moment,
    plan: Plan,
}

pub(super) fn plan(observed: &Observed, moment: &Moment) -> Plan {
    let set = &*observed.set;
    let selector = selector(set);
    if selector.is_everything() {
        let text = "This daemon set is selecting all pods. A non-empty selector is required.";
        return Plan::of(vec![Action::warning(reference(set), "SelectingAll", text)]);
    }
    if set.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let claimed = owners::claim(set, &selector, &observed.pods);
    let history = owners::claim(set, &selector, &observed.revisions);
    let current = current(set, &history.objects, observed.namesake.as_deref());
    let mut by_node = ByNode::new();
    for pod in &claimed.objects {
        by_node.entry(template::node_of(pod).unwrap_or_default()).or_default().push(Arc::clone(pod));
    }
    by_node.values_mut().for_each(|pods| pods.sort_by_key(age_order));
    let mut plan = Plan::of(claimed.actions);
    plan.actions.extend(history.actions);
    let writes_revision = !current.actions.is_empty() || current.collision.is_some();
    plan.actions.extend(current.actions);
    let mut sync = Sync { set, left: &observed.left, hash: current.hash, by_node, moment, plan };
    if !writes_revision {
        // Pods carry the revision's hash: it must be there before them.
        sync.place(&observed.nodes);
        let cleaning = revisions::clean_up(set, &history.objects, &sync.hash, &claimed.objects);
        sync.plan.actions.extend(cleaning);
    }
    let told = sync.told(&observed.nodes, current.collision);
    sync.plan.actions.extend(status::write(set, set.status.as_ref(), &told));
    sync.plan
}

fn age_order(pod: &Arc<Pod>) -> (bool, Option<Timestamp>, String) {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (pods::node_name(pod).is_empty(), created, pods::name(pod).to_owned())
}

impl Sync<'_> {
    fn place(&mut self, all: &[Arc<Node>]) {
        let mut step = Step::default();
        for node in all {
            self.judge(node, &mut step);
        }
        // Pods meant for nodes that are gone will never be bound.
        let known = |name: &String| all.iter().any(|node| node.metadata.name.as_ref() == Some(name));
        let lost = self.by_node.iter().filter(|(node, _)| !known(node)).flat_map(|(_, pods)| pods);
        step.delete
            .extend(lost.filter(|pod| pods::node_name(pod).is_empty() && pods::is_active(pod)).cloned());
        if step == Step::default() {
            step = self.roll(all);
        }
        let (set, hash) = (self.set, &self.hash);
        let creates = step.create_on.iter().take(BATCH).map(|node| create_pod(set, hash, node));
        self.plan.actions.extend(creates);
        self.plan.actions.extend(step.delete.iter().take(BATCH).map(|pod| delete_pod(set, pod)));
    }

    /// Whether a node lacks a pod, or has some that must go.
    fn judge(&mut self, node: &Node, step: &mut Step) {
        let name = owners::name(node);
        let (start, stay) = fits(self.set, node);
        let pods = self.by_node.get(name).cloned().unwrap_or_default();
        if start && pods.is_empty() {
            step.create_on.push(name.to_owned());
            return;
        }
        if !stay {
            step.delete.extend(pods.into_iter().filter(|pod| !pods::is_being_deleted(pod)));
            return;
        }
        let mut running = Vec::new();
        for pod in pods.into_iter().filter(|pod| !pods::is_being_deleted(pod)) {
            match pods::phase(&pod) {
                "Failed" => self.replace_failed(&pod, name, step),
                "Succeeded" => {
                    let text = format!(
                        "Found succeeded daemon pod {}/{} on node {name}, will try to delete it",
                        owners::namespace(&*pod),
                        pods::name(&pod)
                    );
                    self.plan.actions.push(Action::normal(reference(self.set), "SucceededDaemonPod", text));
                    step.delete.push(pod);
                }
                _ => running.push(pod),
            }
        }
        if self.surge() == 0 {
            step.delete.extend(running.into_iter().skip(1));
        } else if running.is_empty() && start {
            step.create_on.push(name.to_owned());
        } else {
            step.delete.extend(self.surplus(&running));
        }
    }

    fn replace_failed(&mut self, pod: &Arc<Pod>, node: &str, step: &mut Step) {
        let left = self.left.get(owners::uid(&**pod)).copied().unwrap_or_default();
        if !left.is_zero() {
            self.plan.wake(left);
            return;
        }
        let text = format!(
            "Found failed daemon pod {}/{} on node {node}, will try to kill it",
            owners::namespace(&**pod),
            pods::name(pod)
        );
        self.plan.actions.push(Action::warning(reference(self.set), "FailedDaemonPod", text));
        step.delete.push(Arc::clone(pod));
    }

    /// With surge, an old pod may stay beside a new one that does not serve yet.
    fn surplus(&self, running: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let (new, old): (Vec<_>, Vec<_>) =
            running.iter().cloned().partition(|pod| update::is_new(pod, &self.hash));
        let mut surplus: Vec<Arc<Pod>> = new.iter().skip(1).chain(old.iter().skip(1)).cloned().collect();
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pods::is_ready(old) || pods::is_available(new, self.min_ready_seconds(), self.moment.now))
        {
            surplus.push(Arc::clone(old));
        }
        surplus
    }

    fn min_ready_seconds(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
    }

    fn limit(&self, desired: usize, surge: bool) -> usize {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let value =
            rolling.and_then(|one| if surge { one.max_surge.as_ref() } else { one.max_unavailable.as_ref() });
        let limit = resolve(value, i32::try_from(desired).unwrap_or(i32::MAX), true);
        usize::try_from(limit).unwrap_or_default()
    }

    fn surge(&self) -> usize {
        self.limit(1, true)
    }

    fn roll(&self, all: &[Arc<Node>]) -> Step {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate")
            != "RollingUpdate"
        {
            return Step::default();
        }
        let desired = all.iter().filter(|node| fits(self.set, node).0).count();
        let mut limits = Limits {
            surge: self.limit(desired, true),
            unavailable: self.limit(desired, false),
            min_ready_seconds: self.min_ready_seconds(),
            desired,
        };
        if limits.surge > 0 {
            let may_run =
                |name: &str| all.iter().any(|node| owners::name(&**node) == name && fits(self.set, node).0);
            return update::surge(&self.by_node, &self.hash, limits, self.moment.now, may_run);
        }
        // Otherwise nothing could ever move.
        limits.unavailable = limits.unavailable.max(1);
        update::replace(&self.by_node, &self.hash, limits, self.moment.now)
    }

    fn told(&mut self, all: &[Arc<Node>], collision: Option<i32>) -> DaemonSetStatus {
        let (mut desired, mut current, mut misplaced) = (0, 0, 0);
        let (mut ready, mut updated, mut available) = (0, 0, 0);
        let min_ready = self.min_ready_seconds();
        for node in all {
            let pods = self.by_node.get(owners::name(&**node)).map(Vec::as_slice).unwrap_or_default();
            let (start, _) = fits(self.set, node);
            desired += usize::from(start);
            let Some(first) = pods.first() else { continue };
            if !start {
                misplaced += 1;
                continue;
            }
            current += 1;
            ready += usize::from(pods::is_ready(first));
            updated += usize::from(update::is_new(first, &self.hash));
            match pods::until_available(first, min_ready, self.moment.now) {
                Some(Duration::ZERO) => available += 1,
                Some(left) => self.plan.wake(left),
                None => {}
            }
        }
        let before = self.set.status.clone().unwrap_or_default();
        DaemonSetStatus {
            current_number_scheduled: status::whole(current),
            desired_number_scheduled: status::whole(desired),
            number_misscheduled: status::whole(misplaced),
            number_ready: status::whole(ready),
            number_available: status::count(available),
            number_unavailable: status::count(desired - available.min(desired)),
            updated_number_scheduled: status::count(updated),
            observed_generation: self.set.metadata.generation,
            collision_count: collision.or(before.collision_count),
            conditions: before.conditions,
        }
    }
}

fn create_pod(set: &DaemonSet, hash: &str, node: &str) -> Action {
    Action::create(&template::pod(set, hash, node)).announced(Announcement {
        about: reference(set),
        success: Some(("SuccessfulCreate", "Created pod: {name}".to_owned())),
        failure: Some(("FailedCreate", "Error creating: {error}".to_owned())),
    })
}

fn delete_pod(set: &DaemonSet, pod: &Pod) -> Action {
    Action::delete(pod).announced(Announcement {
        about: reference(set),
        success: Some(("SuccessfulDelete", "Deleted pod: {name}".to_owned())),
        failure: Some(("FailedDelete", "Error deleting: {error}".to_owned())),
    })
}
