//! What becomes of an object whose owners, or who itself, are going.

use std::time::Duration;

use api::metav1::Preconditions;
use client::{DeleteOptions, Patch};
use reconcile::{Action, Guard, Plan};
use serde_json::{Value, json};

use super::{Observed, Owner};
use crate::inventory::Entry;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Time until an owner whose kind is unknown is looked for again.
const UNKNOWN_KIND: Duration = Duration::from_secs(30);

/// What an owner means for its dependent.
enum Bond {
    /// It is there, or nobody can tell.
    Solid,
    /// It seems to be gone; ask before believing it.
    Dangling(Guard),
    /// It waits for its dependents to go.
    Waiting,
}

pub(super) fn plan(observed: &Observed) -> Plan {
    if !observed.complete {
        let mut plan = Plan::default();
        plan.wake(Duration::from_secs(1));
        return plan;
    }
    let item = &*observed.item;
    if item.deleting && item.has_finalizer(ORPHAN) {
        return orphan_dependents(observed);
    }
    if item.awaits_dependents() {
        return release_when_alone(observed);
    }
    if item.deleting || item.owners.is_empty() {
        return Plan::default();
    }
    judge_owners(observed)
}

fn patch(entry: &Entry, mut change: Value) -> Action {
    let conditions = json!({"metadata": {"uid": entry.uid, "resourceVersion": entry.resource_version}});
    api::patch::merge_patch(&mut change, conditions);
    Action::Patch { target: entry.target(), patch: Patch::Merge(change) }
}

fn without_finalizer(entry: &Entry, finalizer: &str) -> Action {
    let rest: Vec<&String> = entry.finalizers.iter().filter(|one| *one != finalizer).collect();
    patch(entry, json!({"metadata": {"finalizers": rest}}))
}

fn without_owners(entry: &Entry, uids: &[&str]) -> Action {
    let rest: Vec<_> = entry.owners.iter().filter(|owner| !uids.contains(&owner.uid.as_str())).collect();
    patch(entry, json!({"metadata": {"ownerReferences": rest}}))
}

fn orphan_dependents(observed: &Observed) -> Plan {
    let item = &*observed.item;
    let mut actions: Vec<Action> =
        observed.dependents.iter().map(|dependent| without_owners(dependent, &[&item.uid])).collect();
    actions.push(without_finalizer(item, ORPHAN));
    Plan::of(actions)
}

fn release_when_alone(observed: &Observed) -> Plan {
    let item = &*observed.item;
    let blocks = |dependent: &Entry| {
        let owner = dependent.owners.iter().find(|owner| owner.uid == item.uid);
        owner.is_some_and(|owner| owner.block_owner_deletion == Some(true))
    };
    // Those that block are woken by this object's own change and delete themselves.
    if observed.dependents.iter().any(|dependent| blocks(dependent)) {
        return Plan::default();
    }
    Plan::of(vec![without_finalizer(item, FOREGROUND)])
}

fn bond(item: &Entry, owner: &Owner) -> Bond {
    let Some(kind) = &owner.kind else { return Bond::Solid };
    if kind.namespaced && item.namespace.is_empty() {
        // A cluster-scoped object cannot name a namespaced owner: nobody can tell.
        return Bond::Solid;
    }
    let known = owner.entry.as_ref().filter(|entry| !kind.namespaced || entry.namespace == item.namespace);
    match known {
        Some(entry) if entry.awaits_dependents() => Bond::Waiting,
        Some(_) => Bond::Solid,
        None => Bond::Dangling(Guard::Absent {
            target: kind.target(&item.namespace, &owner.reference.name),
            uid: owner.reference.uid.clone(),
        }),
    }
}

fn judge_owners(observed: &Observed) -> Plan {
    let item = &*observed.item;
    let mut guards = Vec::new();
    let (mut solid, mut waiting, mut going) = (0, 0, Vec::new());
    let mut plan = Plan::default();
    for owner in &observed.owners {
        match bond(item, owner) {
            Bond::Solid => solid += 1,
            Bond::Waiting => {
                waiting += 1;
                going.push(owner.reference.uid.as_str());
            }
            Bond::Dangling(guard) => {
                guards.push(Action::Require(guard));
                going.push(owner.reference.uid.as_str());
            }
        }
        if owner.kind.is_none() {
            plan.wake(UNKNOWN_KIND);
        }
    }
    if going.is_empty() {
        return plan;
    }
    plan.actions = guards;
    if solid > 0 {
        plan.actions.push(without_owners(item, &going));
        return plan;
    }
    let policy = if waiting > 0 && !observed.dependents.is_empty() {
        if observed.dependents.iter().any(|dependent| dependent.awaits_dependents()) {
            // A circle: one must stop blocking the others.
            let mut owners = item.owners.clone();
            owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
            plan.actions.push(patch(item, json!({"metadata": {"ownerReferences": owners}})));
            plan.wake(Duration::from_secs(1));
            let blocking = item.owners.iter().any(|owner| owner.block_owner_deletion == Some(true));
            if blocking {
                return plan;
            }
            plan.actions.pop();
        }
        "Foreground"
    } else if item.has_finalizer(ORPHAN) {
        "Orphan"
    } else if item.has_finalizer(FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    };
    let preconditions =
        Preconditions { uid: Some(item.uid.clone()), resource_version: Some(item.resource_version.clone()) };
    let options = DeleteOptions {
        preconditions: Some(preconditions),
        propagation_policy: Some(policy.to_owned()),
        ..DeleteOptions::default()
    };
    plan.actions.push(Action::Delete { target: item.target(), options, announce: None });
    plan
}
