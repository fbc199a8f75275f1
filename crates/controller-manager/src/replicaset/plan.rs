//! What a replica set or a replication controller needs: pods created or deleted, its status told.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use api::LabelSelector;
use api::types::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use api::types::core::v1::Pod;
use client::events::reference;
use jiff::Timestamp;
use reconcile::{Action, Announcement, Failure, Moment, Plan};

use super::{Keeper, Observed};
use crate::{owners, pods, status};

/// Pods created or deleted in one plan.
const BATCH: usize = 500;

pub(super) fn plan<K: Keeper>(observed: &Observed<K>, moment: &Moment) -> Plan {
    let set = &*observed.keeper;
    let claimed = owners::claim(set, &set.selector(), &observed.pods);
    let active: Vec<&Arc<Pod>> = claimed.objects.iter().filter(|pod| pods::is_active(pod)).collect();
    let terminating = claimed.objects.iter().filter(|pod| pods::is_terminating(pod)).count();
    let wanted = set.wanted();

    let mut plan = Plan::of(claimed.actions);
    let told = status_of(set, &active, terminating, moment);
    let telling = status::write(set, set.status(), &told);
    if moment.failure.is_some() {
        // What failed may fail again; people must learn of it first.
        plan.actions.extend(telling.clone());
    }
    if set.metadata().deletion_timestamp.is_none() {
        if active.len() < wanted {
            let missing = (wanted - active.len()).min(BATCH);
            plan.actions.extend((0..missing).map(|_| create_pod(set)));
        } else if active.len() > wanted {
            let surplus = (active.len() - wanted).min(BATCH);
            let doomed = ranked(&active, &observed.neighbours, moment.now).into_iter().take(surplus);
            plan.actions.extend(doomed.map(|pod| delete_pod(set, pod)));
        }
    }
    if moment.failure.is_none() {
        plan.actions.extend(telling);
    }
    let min_ready = set.min_ready_seconds();
    for left in active.iter().filter_map(|pod| pods::until_available(pod, min_ready, moment.now)) {
        if !left.is_zero() {
            plan.wake(left);
        }
    }
    plan
}

fn create_pod<K: Keeper>(set: &K) -> Action {
    let template = set.template().cloned().unwrap_or_default();
    let owner = owners::controller_reference(set);
    let pod = pods::from_template(&template, owners::namespace(set), owners::name(set), owner);
    Action::create(&pod).announced(Announcement {
        about: reference(set),
        success: Some(("SuccessfulCreate", "Created pod: {name}".to_owned())),
        failure: Some(("FailedCreate", "Error creating: {error}".to_owned())),
    })
}

fn delete_pod<K: Keeper>(set: &K, pod: &Pod) -> Action {
    Action::delete(pod).announced(Announcement {
        about: reference(set),
        success: Some(("SuccessfulDelete", "Deleted pod: {name}".to_owned())),
        failure: Some(("FailedDelete", "Error deleting: {error}".to_owned())),
    })
}

/// The pods in the order in which they should go, by upstream's
/// `ActivePodsWithRanks`.
pub(super) fn ranked<'a>(
    active: &[&'a Arc<Pod>],
    neighbours: &HashMap<String, usize>,
    now: Timestamp,
) -> Vec<&'a Arc<Pod>> {
    let mut order = active.to_vec();
    order.sort_by(|one, two| goes_first(one, two, neighbours, now));
    order
}

fn goes_first(one: &Pod, two: &Pod, neighbours: &HashMap<String, usize>, now: Timestamp) -> Ordering {
    let phase = |pod: &Pod| match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let near = |pod: &Pod| neighbours.get(pods::node_name(pod)).copied().unwrap_or_default();
    // Times count by their order of magnitude, so that the choice is partly
    // random and failure domains even out.
    let magnitude = |time: Option<Timestamp>| {
        let age = time.map_or(f64::INFINITY, |time| now.duration_since(time).as_secs_f64().max(0.0));
        if age < 1.0 {
            -1
        } else if age.is_finite() {
            age.log2() as i64
        } else {
            i64::MAX
        }
    };
    let by_age = |one_time: Option<Timestamp>, two_time: Option<Timestamp>| {
        if one_time == two_time {
            return Ordering::Equal;
        }
        magnitude(one_time).cmp(&magnitude(two_time)).then_with(|| one.metadata.uid.cmp(&two.metadata.uid))
    };
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (!pods::node_name(one).is_empty())
        .cmp(&!pods::node_name(two).is_empty())
        .then_with(|| phase(one).cmp(&phase(two)))
        .then_with(|| pods::is_ready(one).cmp(&pods::is_ready(two)))
        .then_with(|| deletion_cost(one).cmp(&deletion_cost(two)))
        .then_with(|| Reverse(near(one)).cmp(&Reverse(near(two))))
        .then_with(|| match (pods::ready_since(one), pods::ready_since(two)) {
            (Some(one_ready), Some(two_ready)) => by_age(Some(one_ready), Some(two_ready)),
            _ => Ordering::Equal,
        })
        .then_with(|| restarts(two).cmp(&restarts(one)))
        .then_with(|| by_age(created(one), created(two)))
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let cost = annotations.and_then(|all| all.get("controller.kubernetes.io/pod-deletion-cost"));
    cost.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).max().unwrap_or_default()
}

fn status_of<K: Keeper>(set: &K, active: &[&Arc<Pod>], terminating: usize, moment: &Moment) -> K::Status {
    let labels = set
        .template()
        .and_then(|template| template.metadata.as_ref())
        .and_then(|metadata| metadata.labels.as_ref());
    let described = LabelSelector::from_map(labels.into_iter().flatten());
    let min_ready = set.min_ready_seconds();
    let number = |test: &dyn Fn(&Pod) -> bool| status::count(active.iter().filter(|pod| test(pod)).count());
    K::status_of(ReplicaSetStatus {
        replicas: status::whole(active.len()),
        fully_labeled_replicas: number(&|pod| described.matches(&pod.metadata.labels)),
        ready_replicas: number(&pods::is_ready),
        available_replicas: number(&|pod| pods::is_available(pod, min_ready, moment.now)),
        terminating_replicas: Some(status::whole(terminating)),
        observed_generation: set.metadata().generation,
        conditions: conditions(set, active.len(), moment),
    })
}

fn conditions<K: Keeper>(set: &K, active: usize, moment: &Moment) -> Option<Vec<ReplicaSetCondition>> {
    const FAILURE: &str = "ReplicaFailure";
    let mut conditions = set.conditions();
    match &moment.failure {
        Some(Failure { message, .. }) => {
            if !conditions.iter().any(|condition| condition.type_ == FAILURE) {
                let reason = match active.cmp(&set.wanted()) {
                    Ordering::Less => "FailedCreate",
                    Ordering::Greater => "FailedDelete",
                    Ordering::Equal => "",
                };
                conditions.push(ReplicaSetCondition {
                    type_: FAILURE.to_owned(),
                    status: "True".to_owned(),
                    last_transition_time: Some(status::time(moment.now)),
                    reason: Some(reason.to_owned()),
                    message: Some(message.clone()),
                });
            }
        }
        None => conditions.retain(|condition| condition.type_ != FAILURE),
    }
    (!conditions.is_empty()).then_some(conditions)
}
