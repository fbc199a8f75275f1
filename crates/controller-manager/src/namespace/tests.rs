//! Tables of plans.

use std::sync::Arc;

use reconcile::{Action, Moment, Plan};
use serde_json::json;

use super::{Observed, plan};
use crate::inventory::{Entry, Kind};
use crate::testing::{now, object};

fn kind(resource: &str) -> Arc<Kind> {
    let verbs = ["delete", "deletecollection", "list"].map(str::to_owned).to_vec();
    Arc::new(Kind {
        group: String::new(),
        version: "v1".into(),
        resource: resource.into(),
        kind: resource.into(),
        namespaced: true,
        verbs,
    })
}

fn plan_of(content: &[(&str, &[&str])]) -> Plan {
    let entry = |(resource, finalizers): &(&str, &[&str])| {
        Arc::new(Entry {
            kind: kind(resource),
            namespace: "web".into(),
            name: "a".into(),
            uid: "u".into(),
            resource_version: "1".into(),
            owners: vec![],
            finalizers: finalizers.iter().map(|one| (*one).to_owned()).collect(),
            deleting: false,
        })
    };
    let namespace = object(json!({
        "metadata": {"name": "web", "uid": "u", "deletionTimestamp": "2026-11-23T11:59:00Z"},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Terminating"},
    }));
    let content = content.iter().map(entry).collect();
    let kinds = vec![kind("pods"), kind("configmaps")];
    plan::plan(&Observed { namespace: Arc::new(namespace), content, kinds }, &Moment::at(now()))
}

fn emptied(plan: &Plan) -> Vec<&str> {
    let place = |action: &'_ Action| matches!(action, Action::DeleteCollection { .. });
    plan.actions
        .iter()
        .filter(|one| place(one))
        .filter_map(Action::target)
        .map(|one| one.resource.as_str())
        .collect()
}

#[test]
fn pods_go_first_then_all_else_then_the_namespace() {
    let first = plan_of(&[("pods", &[]), ("configmaps", &["x/y"])]);
    assert_eq!(emptied(&first), ["pods"]);
    let text = format!("{first:?}");
    assert!(
        text.contains("Some resources are remaining: configmaps has 1 resource instances, pods has 1"),
        "{text}"
    );
    assert!(text.contains("finalizers remaining: x/y in 1 resource instances"), "{text}");
    let second = plan_of(&[("configmaps", &[])]);
    assert_eq!(emptied(&second), ["pods", "configmaps"]);
    assert!(second.wake_after.is_some());
    let last = plan_of(&[]);
    let verbs: Vec<&str> = last.actions.iter().map(Action::verb).collect();
    assert_eq!(verbs, ["patch", "deletecollection", "deletecollection", "require", "update"]);
    let target = last.actions.last().and_then(Action::target).expect("a write");
    assert_eq!(target.subresource, "finalize");
}
