//! Tables of plans.

use std::sync::Arc;

use api::types::core::v1::Pod;
use api::types::resource::v1::ResourceClaim;
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::{ObservedClaim, ObservedPod, of_claims, of_pods};
use crate::testing::{object, pod, told_status};

fn asking(changes: Value) -> Pod {
    let mut all = json!({"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]}});
    api::patch::merge_patch(&mut all, changes);
    pod("p", all)
}

fn claim(name: &str, owner: &str, changes: Value) -> ResourceClaim {
    let mut claim = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"),
            "annotations": {"resource.kubernetes.io/pod-claim-name": "gpu"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true}]},
        "spec": {},
    });
    api::patch::merge_patch(&mut claim, changes);
    object(claim)
}

fn plan_of(pod: Pod, claims: Vec<ResourceClaim>, has_template: bool) -> Plan {
    let template =
        object(json!({"metadata": {"name": "t"}, "spec": {"metadata": {"labels": {"a": "b"}}, "spec": {}}}));
    of_pods::plan(&ObservedPod {
        pod: Arc::new(pod),
        claims: claims.into_iter().map(Arc::new).collect(),
        templates: has_template.then(|| Arc::new(template)).into_iter().collect(),
    })
}

fn verbs(plan: &Plan) -> Vec<&'static str> {
    plan.actions.iter().map(Action::verb).collect()
}

#[test]
fn a_template_becomes_a_claim_that_the_pod_names() {
    let made = plan_of(asking(json!({})), vec![], true);
    let [Action::Create { object: created, .. }] = &made.actions[..] else { panic!("{made:?}") };
    assert_eq!(created["metadata"]["generateName"], "p-gpu-");
    assert_eq!(created["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(created["metadata"]["annotations"]["resource.kubernetes.io/pod-claim-name"], "gpu");
    let named = plan_of(asking(json!({})), vec![claim("c1", "uid-p", json!({}))], true);
    assert_eq!(
        told_status(&named)["resourceClaimStatuses"],
        json!([{"name": "gpu", "resourceClaimName": "c1"}])
    );
    let knows = json!({"status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "c1"}]}});
    assert_eq!(plan_of(asking(knows.clone()), vec![claim("c1", "uid-p", json!({}))], true), Plan::default());
    assert_eq!(verbs(&plan_of(asking(knows.clone()), vec![], true)), ["create"], "it was deleted");
    assert_eq!(verbs(&plan_of(asking(knows), vec![claim("c1", "other", json!({}))], true)), ["create"]);
    let none = json!({"status": {"resourceClaimStatuses": [{"name": "gpu"}]}});
    assert_eq!(plan_of(asking(none), vec![], true), Plan::default(), "it needs none");
    assert!(
        format!("{:?}", plan_of(asking(json!({})), vec![], false)).contains("FailedResourceClaimCreation")
    );
    let long = "x".repeat(60);
    let mut pod = asking(json!({}));
    pod.metadata.name = Some(long);
    let made = plan_of(pod, vec![], true);
    assert!(format!("{made:?}").contains(&format!("{}-gp", "x".repeat(52))), "{made:?}");
}

#[test]
fn a_pod_on_a_node_has_its_claims_reserved() {
    let placed = || {
        asking(json!({"spec": {"nodeName": "n"},
            "status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "c1"}]}}))
    };
    let allocated = json!({"status": {"allocation": {}}});
    let reserved = plan_of(placed(), vec![claim("c1", "uid-p", allocated.clone())], true);
    assert_eq!(
        told_status(&reserved)["reservedFor"],
        json!([{"name": "p", "resource": "pods", "uid": "uid-p"}])
    );
    assert_eq!(plan_of(placed(), vec![claim("c1", "uid-p", json!({}))], true), Plan::default());
    let mut done = allocated;
    done["status"]["reservedFor"] = json!([{"name": "p", "resource": "pods", "uid": "uid-p"}]);
    assert_eq!(plan_of(placed(), vec![claim("c1", "uid-p", done)], true), Plan::default());
}

#[test]
fn what_nobody_uses_is_freed_and_what_nobody_needs_deleted() {
    let held = json!({
        "metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]},
        "status": {"allocation": {}, "reservedFor": [{"name": "p", "resource": "pods", "uid": "uid-p"}]},
    });
    let plan_of = |changes: Value, pods: Vec<Pod>| {
        let claim = Arc::new(claim("c1", "uid-p", changes));
        of_claims::plan(&ObservedClaim { claim, pods: pods.into_iter().map(Arc::new).collect() })
    };
    let running = || asking(json!({"spec": {"nodeName": "n"}, "status": {"phase": "Running"}}));
    let ended = || asking(json!({"status": {"phase": "Succeeded"}}));
    assert_eq!(plan_of(held.clone(), vec![running()]), Plan::default());
    let over = plan_of(held.clone(), vec![ended()]);
    assert_eq!(verbs(&over), ["patch", "patch", "delete"]);
    assert_eq!(told_status(&over), json!({"reservedFor": [], "allocation": null}));
    assert_eq!(
        verbs(&plan_of(held.clone(), vec![])),
        ["require", "patch", "patch"],
        "the server must say so"
    );
    let mut shared = held.clone();
    shared["status"]["reservedFor"]
        .as_array_mut()
        .expect("a list")
        .push(json!({"apiGroup": "x", "name": "y", "resource": "zs", "uid": "u"}));
    assert_eq!(verbs(&plan_of(shared, vec![ended()])), ["patch"]);
    let going = json!({
        "metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"], "deletionTimestamp": "2026-11-23T11:00:00Z"},
        "status": {"allocation": {}},
    });
    assert_eq!(verbs(&plan_of(going, vec![running()])), ["patch", "patch"]);
    assert_eq!(verbs(&plan_of(json!({}), vec![ended()])), ["delete"]);
    assert_eq!(plan_of(json!({}), vec![running()]), Plan::default());
}
