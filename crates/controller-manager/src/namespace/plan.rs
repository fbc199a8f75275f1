//! What a namespace that is being deleted needs: its content deleted, pods
//! first; its conditions told; its finalizer taken off when it is empty.

use std::collections::BTreeMap;
use std::time::Duration;

use api::types::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use client::Target;
use jiff::Timestamp;
use reconcile::{Action, Guard, Moment, Plan};

use super::Observed;
use crate::status;

const FINALIZER: &str = "kubernetes";
/// Time until a namespace is looked at again although nothing went from it.
const AGAIN: Duration = Duration::from_secs(5);

pub(super) fn plan(observed: &Observed, moment: &Moment) -> Plan {
    let namespace = &*observed.namespace;
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
    if !finalizers.iter().any(|one| one == FINALIZER) {
        return Plan::default();
    }
    let mut plan = Plan::default();
    plan.wake(AGAIN);
    if observed.kinds.is_empty() {
        return plan;
    }
    let told = told(observed, moment.now);
    plan.actions.extend(status::write(namespace, namespace.status.as_ref(), &told));

    // Pods go first, so that they do not run without what they mount and need.
    let pods_remain = observed.content.iter().any(|entry| is_pod(&entry.kind.group, &entry.kind.resource));
    let mut places: Vec<Target> = Vec::new();
    for kind in observed.kinds.iter().filter(|kind| kind.namespaced && kind.can("delete") && kind.can("list"))
    {
        let place = kind.target(name, "");
        if kind.can("deletecollection") && (!pods_remain || is_pod(&kind.group, &kind.resource)) {
            plan.actions.push(Action::DeleteCollection { target: place.clone() });
        }
        places.push(place);
    }
    let singly = observed.content.iter().filter(|entry| !pods_remain && !entry.kind.can("deletecollection"));
    for entry in singly.filter(|entry| !entry.deleting) {
        let options = client::DeleteOptions::of_uid(entry.uid.clone());
        plan.actions.push(Action::Delete { target: entry.target(), options, announce: None });
    }
    if observed.content.is_empty() {
        plan.actions.push(Action::Require(Guard::Empty(places)));
        plan.actions.push(finalized(namespace));
        plan.wake_after = None;
    }
    plan
}

fn is_pod(group: &str, resource: &str) -> bool {
    group.is_empty() && resource == "pods"
}

fn finalized(namespace: &Namespace) -> Action {
    let mut namespace = namespace.clone();
    // The status that this plan writes first changes the version; the uid is precondition enough.
    namespace.metadata.resource_version = None;
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|one| one != FINALIZER);
    }
    Action::update_part("finalize", &namespace)
}

fn told(observed: &Observed, now: Timestamp) -> NamespaceStatus {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in &observed.content {
        *kinds.entry(api::status::qualified(&entry.kind.group, &entry.kind.resource)).or_default() += 1;
        for finalizer in &entry.finalizers {
            *finalizers.entry(finalizer).or_default() += 1;
        }
    }
    // The texts are upstream's: people and scripts look for them.
    let listed = |counts: Vec<String>| counts.join(", ");
    let kinds = kinds.iter().map(|(kind, count)| format!("{kind} has {count} resource instances")).collect();
    let finalizers = finalizers
        .iter()
        .map(|(one, count)| format!("{one} in {count} resource instances"))
        .collect::<Vec<_>>();
    let remaining = if observed.content.is_empty() {
        ("False", "ContentRemoved", "All content successfully removed".to_owned())
    } else {
        ("True", "SomeResourcesRemain", format!("Some resources are remaining: {}", listed(kinds)))
    };
    let finalizing = if finalizers.is_empty() {
        ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned())
    } else {
        let text = format!("Some content in the namespace has finalizers remaining: {}", listed(finalizers));
        ("True", "SomeFinalizersRemain", text)
    };
    let mut status = observed.namespace.status.clone().unwrap_or_default();
    status.phase = Some("Terminating".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    let fine = |reason, text: &str| ("False", reason, text.to_owned());
    let discovered = fine("ResourcesDiscovered", "All resources successfully discovered");
    let parsed = fine("ParsedGroupVersions", "All legacy kube types successfully parsed");
    let deleted = fine("ContentDeleted", "All content successfully deleted, may be waiting on finalization");
    for (kind, (value, reason, message)) in [
        ("NamespaceDeletionDiscoveryFailure", discovered),
        ("NamespaceDeletionGroupVersionParsingFailure", parsed),
        ("NamespaceDeletionContentFailure", deleted),
        ("NamespaceContentRemaining", remaining),
        ("NamespaceFinalizersRemaining", finalizing),
    ] {
        say(conditions, now, kind, value, reason, message);
    }
    status
}

fn say(
    conditions: &mut Vec<NamespaceCondition>,
    now: Timestamp,
    kind: &str,
    value: &str,
    reason: &str,
    message: String,
) {
    let before = conditions.iter().position(|condition| condition.type_ == kind);
    let same = before.is_some_and(|index| conditions[index].status == value);
    let since = before.filter(|_| same).and_then(|index| conditions[index].last_transition_time.clone());
    let said = NamespaceCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(since.unwrap_or_else(|| status::time(now))),
    };
    match before {
        Some(index) => conditions[index] = said,
        None => conditions.push(said),
    }
}
