//! What a disruption budget's status says: who is healthy, how many must be, how
//! many may go.

use std::collections::BTreeMap;
use std::time::Duration;

use api::IntOrString;
use api::metav1::{Condition, Time};
use api::types::core::v1::Pod;
use api::types::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use client::events::reference;
use jiff::Timestamp;
use reconcile::wiring::controller_of;
use reconcile::{Action, Plan};

use super::Observed;
use super::size::Size;
use crate::deployment::resolve;
use crate::{owners, pods, status};

/// How long an evicted pod may take until its deletion is seen.
const DELETION: Duration = Duration::from_secs(120);

/// When to look again for what is yet to be known.
const SOON: Duration = Duration::from_secs(5);

const ALLOWED: &str = "DisruptionAllowed";

/// Whether the sizes of the pods' controllers decide.
pub(super) fn needs_sizes(budget: &PodDisruptionBudget) -> bool {
    let Some(spec) = &budget.spec else { return false };
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let budget = &*observed.budget;
    let mut plan = Plan::default();
    if observed.sizes.values().any(|size| *size == Size::Unknown) {
        // An answer wakes; what kinds there are is learnt in silence.
        plan.wake(SOON);
        return plan;
    }
    if observed.pods.is_empty() {
        plan.actions.push(Action::normal(reference(budget), "NoPods", "No matching pods found"));
    }
    let told = match expectation(observed) {
        Ok(expectation) => {
            if expectation.unmanaged {
                let text = "Some selected pods have no controller, so the status cannot be exact; with an integer .spec.minAvailable they count";
                plan.actions.push(Action::warning(reference(budget), "UnmanagedPods", text));
            }
            let disrupted = disrupted(observed, now, &mut plan);
            counted(observed, &expectation, disrupted, now)
        }
        Err(why) => {
            let text = format!("Failed to calculate the number of expected pods: {why}");
            let reason = "CalculateExpectedPodCountFailed";
            plan.actions.push(Action::warning(reference(budget), reason, text));
            at_a_loss(budget, why, now)
        }
    };
    plan.actions.extend(status::write_unchanged(budget, budget.status.as_ref(), &told));
    plan
}

/// How many pods there should be, and how many of them healthy.
#[derive(Debug, PartialEq)]
struct Expectation {
    pods: i32,
    healthy: i32,
    /// Whether there are pods that count for no controller.
    unmanaged: bool,
}

fn expectation(observed: &Observed) -> Result<Expectation, String> {
    let spec = observed.budget.spec.clone().unwrap_or_default();
    let present = status::whole(observed.pods.len());
    if !needs_sizes(&observed.budget) {
        return Ok(match spec.min_available {
            Some(least) => {
                Expectation { pods: present, healthy: resolve(Some(&least), present, true), unmanaged: false }
            }
            None => Expectation { pods: 0, healthy: 0, unmanaged: false },
        });
    }
    let mut sizes: BTreeMap<&str, i32> = BTreeMap::new();
    let mut unmanaged = false;
    for pod in &observed.pods {
        let Some(owner) = controller_of(&pod.metadata) else {
            unmanaged = true;
            continue;
        };
        match observed.sizes.get(&owner.uid) {
            Some(Size::Wants { uid, replicas }) => drop(sizes.insert(uid, *replicas)),
            Some(Size::Unavailable(why)) => return Err(why.clone()),
            _ => return Err(format!("found no controllers for pod {:?}", pods::name(pod))),
        }
    }
    let pods = sizes.values().sum();
    let healthy = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (pods - resolve(Some(most), pods, true)).max(0),
        (None, least) => resolve(least.as_ref(), pods, true),
    };
    Ok(Expectation { pods, healthy, unmanaged })
}

/// The evicted pods whose deletion is still to be seen. One that stays too long counts again.
fn disrupted(observed: &Observed, now: Timestamp, plan: &mut Plan) -> BTreeMap<String, Time> {
    let noted = observed.budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    let mut kept = BTreeMap::new();
    let Some(noted) = noted else { return kept };
    for pod in observed.pods.iter().filter(|pod| !pods::is_being_deleted(pod)) {
        let Some(at) = noted.get(pods::name(pod)) else { continue };
        let left = DELETION.as_secs_f64() - now.duration_since(at.0).as_secs_f64();
        if left > 0.0 {
            plan.wake(Duration::from_secs_f64(left));
            kept.insert(pods::name(pod).to_owned(), at.clone());
        } else {
            let budget = &*observed.budget;
            let text = format!(
                "Pod was expected by PDB {}/{} to be deleted but it wasn't",
                owners::namespace(budget),
                owners::name(budget)
            );
            plan.actions.push(Action::warning(reference(&**pod), "NotDeleted", text));
        }
    }
    kept
}

fn counted(
    observed: &Observed,
    expectation: &Expectation,
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let is_healthy = |pod: &Pod| {
        !pods::is_being_deleted(pod) && !disrupted.contains_key(pods::name(pod)) && pods::is_ready(pod)
    };
    let healthy = status::whole(observed.pods.iter().filter(|pod| is_healthy(pod)).count());
    // A budget without pods allows nothing: its first pods may not be counted yet.
    let allowed = if expectation.pods > 0 { (healthy - expectation.healthy).max(0) } else { 0 };
    let budget = &*observed.budget;
    let (value, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        current_healthy: Some(healthy),
        desired_healthy: Some(expectation.healthy),
        expected_pods: Some(expectation.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        conditions: conditions(budget, (value, reason, String::new()), budget.metadata.generation, now),
    }
}

/// The status where nothing can be computed: no pod may go.
fn at_a_loss(budget: &PodDisruptionBudget, why: String, now: Timestamp) -> PodDisruptionBudgetStatus {
    let before = budget.status.clone().unwrap_or_default();
    let seen = before.observed_generation;
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        conditions: conditions(budget, ("False", "SyncFailed", why), seen, now),
        ..before
    }
}

fn conditions(
    budget: &PodDisruptionBudget,
    (value, reason, message): (&str, &str, String),
    seen: Option<i64>,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    let mut all = budget.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let place = all.iter().position(|one| one.type_ == ALLOWED);
    let before = place.map(|place| all.remove(place)).filter(|before| before.status == value);
    let since = before.map_or_else(|| status::time(now), |before| before.last_transition_time);
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: seen,
        last_transition_time: since,
    };
    all.insert(place.unwrap_or(all.len()), condition);
    Some(all)
}
