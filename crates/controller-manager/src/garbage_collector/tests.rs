//! Tables of plans.

use std::sync::Arc;

use api::metav1::OwnerReference;
use reconcile::{Action, Plan};

use super::{Observed, Owner, plan};
use crate::inventory::{Entry, Kind};

fn kind(resource: &str, kind: &str, namespaced: bool) -> Arc<Kind> {
    Arc::new(Kind {
        group: String::new(),
        version: "v1".into(),
        resource: resource.into(),
        kind: kind.into(),
        namespaced,
        verbs: vec![],
    })
}

fn entry(uid: &str, owners: &[&str], finalizers: &[&str], deleting: bool) -> Arc<Entry> {
    let owner = |uid: &&str| OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: format!("name-{uid}"),
        uid: (*uid).into(),
        controller: None,
        block_owner_deletion: Some(true),
    };
    Arc::new(Entry {
        kind: kind("configmaps", "ConfigMap", true),
        namespace: "ns".into(),
        name: format!("name-{uid}"),
        uid: uid.into(),
        resource_version: "7".into(),
        owners: owners.iter().map(owner).collect(),
        finalizers: finalizers.iter().map(|one| (*one).to_owned()).collect(),
        deleting,
    })
}

fn plan_of(item: &Arc<Entry>, known: &[Arc<Entry>], dependents: Vec<Arc<Entry>>) -> Plan {
    let owner = |reference: &OwnerReference| Owner {
        reference: reference.clone(),
        kind: Some(kind("configmaps", "ConfigMap", true)),
        entry: known.iter().find(|entry| entry.uid == reference.uid).cloned(),
    };
    let owners = item.owners.iter().map(owner).collect();
    plan::plan(&Observed { item: Arc::clone(item), owners, dependents, complete: true })
}

fn shape(plan: &Plan) -> Vec<String> {
    let one = |action: &Action| match action {
        Action::Delete { options, .. } => options.propagation_policy.clone().unwrap_or_default(),
        other => other.verb().to_owned(),
    };
    plan.actions.iter().map(one).collect()
}

#[test]
fn owners_decide_over_their_dependents() {
    let there = entry("o", &[], &[], false);
    let waits = entry("o", &[], &["foregroundDeletion"], true);
    let child = entry("c", &["o"], &[], false);
    let grandchild = entry("g", &["c"], &[], false);
    let table: Vec<(&str, Plan, Vec<&str>)> = vec![
        ("an owner that is there", plan_of(&child, std::slice::from_ref(&there), vec![]), vec![]),
        ("an owner that is gone", plan_of(&child, &[], vec![]), vec!["require", "Background"]),
        ("an owner that waits", plan_of(&child, std::slice::from_ref(&waits), vec![]), vec!["Background"]),
        (
            "and it has dependents itself",
            plan_of(&child, &[waits], vec![grandchild.clone()]),
            vec!["Foreground"],
        ),
        (
            "one of two is gone",
            plan_of(&entry("c", &["o", "p"], &[], false), &[there], vec![]),
            vec!["require", "patch"],
        ),
        (
            "foreground, with a dependent",
            plan_of(&entry("c", &[], &["foregroundDeletion"], true), &[], vec![grandchild.clone()]),
            vec![],
        ),
        (
            "foreground, alone",
            plan_of(&entry("c", &[], &["foregroundDeletion"], true), &[], vec![]),
            vec!["patch"],
        ),
        (
            "orphaning",
            plan_of(&entry("c", &[], &["orphan"], true), &[], vec![grandchild]),
            vec!["patch", "patch"],
        ),
        ("another finalizer", plan_of(&entry("c", &["o"], &["x"], true), &[], vec![]), vec![]),
    ];
    for (name, plan, expected) in table {
        assert_eq!(shape(&plan), expected, "{name}");
    }
}

#[test]
fn an_owner_in_another_namespace_is_no_owner_and_one_of_unknown_kind_is_believed() {
    let mut stranger = (*entry("o", &[], &[], false)).clone();
    stranger.namespace = "other".into();
    let child = entry("c", &["o"], &[], false);
    assert_eq!(shape(&plan_of(&child, &[Arc::new(stranger)], vec![])), ["require", "Background"]);
    let reference = child.owners[0].clone();
    let owners = vec![Owner { reference, kind: None, entry: None }];
    let plan = plan::plan(&Observed { item: child, owners, dependents: vec![], complete: true });
    assert!(plan.actions.is_empty() && plan.wake_after.is_some());
}

#[test]
fn nothing_is_judged_before_all_is_known() {
    let child = entry("c", &["o"], &[], false);
    let plan = plan::plan(&Observed { item: child, owners: vec![], dependents: vec![], complete: false });
    assert!(plan.actions.is_empty() && plan.wake_after.is_some());
}
