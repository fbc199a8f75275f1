//! Says how many pods may be evicted at the moment (upstream:
//! `pkg/controller/disruption`).
//!
//! Two loops: one tells the status of disruption budgets, which the eviction
//! subresource charges; one takes back the announcement of a disruption that
//! never came.

mod plan;
mod size;
mod stale;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::types::core::v1::Pod;
use api::types::policy::v1::PodDisruptionBudget;
use api::{LabelSelector, ObjectKey};
use client::{Cache, Change};
use reconcile::wiring::controller_of;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::NAMESPACE;
use crate::controllers::Context;

use size::{Size, Sizes};

/// The budgets' loop's caches.
pub struct Budgets {
    budgets: Arc<Cache<PodDisruptionBudget>>,
    pods: Arc<Cache<Pod>>,
    sizes: Sizes,
}

/// What a budget's plan is made of.
pub struct Observed {
    budget: Arc<PodDisruptionBudget>,
    /// The pods that it selects.
    pods: Vec<Arc<Pod>>,
    /// The sizes of their controllers, by uid; empty where they do not matter.
    sizes: BTreeMap<String, Size>,
}

/// The loop of budgets, wired.
pub fn start(context: &Context) -> Loop {
    let (budgets, pods) = (context.caches.disruption_budgets(), context.caches.pods());
    let sizes = Sizes::of(context);
    let by_pod = Arc::clone(&budgets);
    let answers = sizes.answers();
    let reconciler = Budgets { budgets: Arc::clone(&budgets), pods: Arc::clone(&pods), sizes };
    let control = Loop::new(reconciler, 1);
    answers.wake_with(control.waker());
    control
        .own(&budgets)
        .mapped(&pods, move |change| covering(&by_pod, change))
        .reads(&context.caches.replica_sets())
        .reads(&context.caches.deployments())
        .reads(&context.caches.replication_controllers())
        .reads(&context.caches.stateful_sets())
}

/// The budgets that a pod counts for, or did.
fn covering(budgets: &Cache<PodDisruptionBudget>, change: &Change<'_, Pod>) -> Vec<ObjectKey> {
    let candidates = budgets.indexed(NAMESPACE, &change.key.namespace);
    let covers = |budget: &PodDisruptionBudget| {
        let selector = selector(budget);
        [change.old, change.new].into_iter().flatten().any(|pod| selector.matches(&pod.metadata.labels))
    };
    candidates.iter().filter(|one| covers(one)).map(|one| ObjectKey::of(&**one)).collect()
}

/// The selector; one that cannot be read selects nothing.
fn selector(budget: &PodDisruptionBudget) -> LabelSelector {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    LabelSelector::from_api(selector).unwrap_or_else(|_| LabelSelector::nothing())
}

impl Reconciler for Budgets {
    const NAME: &'static str = "disruption";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let budget = self.budgets.get_key(key)?;
        let selector = selector(&budget);
        let mut pods = self.pods.indexed(NAMESPACE, &key.namespace);
        pods.retain(|pod| selector.matches(&pod.metadata.labels));
        let mut sizes = BTreeMap::new();
        if plan::needs_sizes(&budget) {
            for owner in pods.iter().filter_map(|pod| controller_of(&pod.metadata)) {
                if !sizes.contains_key(&owner.uid) {
                    sizes.insert(owner.uid.clone(), self.sizes.look_up(owner, key));
                }
            }
        }
        Some(Observed { budget, pods, sizes })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment.now)
    }
}

/// The cache of the loop that takes announcements back.
pub struct Announcements {
    pods: Arc<Cache<Pod>>,
}

/// The loop of announced disruptions, wired.
pub fn start_taking_back(context: &Context) -> Loop {
    let pods = context.caches.pods();
    Loop::new(Announcements { pods: Arc::clone(&pods) }, 1).mapped(&pods, |change| {
        let is_announced = change.new.is_some_and(|pod| stale::announced(pod).is_some());
        is_announced.then(|| change.key.clone()).into_iter().collect()
    })
}

impl Reconciler for Announcements {
    const NAME: &'static str = "stale-pod-disruption";
    type Observed = Arc<Pod>;

    fn observe(&self, key: &ObjectKey) -> Option<Arc<Pod>> {
        self.pods.get_key(key)
    }

    fn plan(&self, pod: &Arc<Pod>, moment: &Moment) -> Plan {
        stale::plan(pod, moment.now)
    }
}
