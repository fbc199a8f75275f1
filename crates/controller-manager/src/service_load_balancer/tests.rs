//! Tables of plans.

use std::sync::Arc;

use api::types::core::v1::{Node, Service};
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::{Observed, plan};
use crate::testing::{node, object};

fn service(name: &str, changes: Value) -> Service {
    let mut service = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": "2026-11-23T11:00:00Z"},
        "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ports": [{"port": 80}]},
    });
    api::patch::merge_patch(&mut service, changes);
    object(service)
}

fn at(name: &str, address: &str, changes: Value) -> Node {
    let mut all = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    api::patch::merge_patch(&mut all, changes);
    node(name, all)
}

fn plan_of(service: Service, others: Vec<Service>, nodes: Vec<Node>) -> Plan {
    plan::plan(&Observed {
        service: Arc::new(service),
        others: others.into_iter().map(Arc::new).collect(),
        nodes: nodes.into_iter().map(Arc::new).collect(),
        serving: ["b".to_owned()].into(),
    })
}

/// The addresses that a plan tells; `None`: it tells nothing.
fn told(plan: &Plan) -> Option<Vec<String>> {
    plan.actions.iter().find_map(|action| match action {
        Action::Patch { patch: client::Patch::Merge(patch), .. } => {
            let ingress = patch["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
            Some(ingress.iter().filter_map(|one| one["ip"].as_str().map(str::to_owned)).collect())
        }
        _ => None,
    })
}

#[test]
fn a_service_has_the_addresses_of_the_nodes_that_forward_for_it() {
    let two = || vec![at("a", "10.0.0.1", json!({})), at("b", "10.0.0.2", json!({}))];
    let addresses = |changes: Value, nodes: Vec<Node>| {
        told(&plan_of(service("s", changes), vec![], nodes)).unwrap_or_default()
    };
    assert_eq!(addresses(json!({}), two()), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(addresses(json!({"spec": {"externalTrafficPolicy": "Local"}}), two()), ["10.0.0.2"]);
    let mut three = two();
    three.push(at(
        "c",
        "10.0.0.3",
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
    ));
    three.push(at(
        "d",
        "10.0.0.4",
        json!({"metadata": {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}}),
    ));
    assert_eq!(addresses(json!({}), three), ["10.0.0.1", "10.0.0.2"]);
    let outside = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.5"}, {"type": "ExternalIP", "address": "192.0.2.5"}]}});
    assert_eq!(addresses(json!({}), vec![at("e", "", outside)]), ["192.0.2.5"]);
    assert_eq!(addresses(json!({"spec": {"ipFamilies": ["IPv6"]}}), two()), [""; 0]);
    let told_before =
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}}});
    assert_eq!(plan_of(service("s", told_before), vec![], two()), Plan::default());
}

#[test]
fn a_port_is_had_by_the_service_that_came_first() {
    let nodes = || vec![at("a", "10.0.0.1", json!({}))];
    let older = json!({"metadata": {"creationTimestamp": "2026-11-23T10:00:00Z"}});
    let first = || service("first", older.clone());
    let loses = plan_of(service("s", json!({})), vec![first()], nodes());
    assert!(format!("{loses:?}").contains("PortConflict") && told(&loses).is_none());
    let beside = service("s", json!({"spec": {"ports": [{"port": 81}]}}));
    assert_eq!(told(&plan_of(beside, vec![first()], nodes())), Some(vec!["10.0.0.1".to_owned()]));
    let mut of_others = first();
    of_others.spec.get_or_insert_default().load_balancer_class = Some("example.com/lb".to_owned());
    assert!(told(&plan_of(service("s", json!({})), vec![of_others.clone()], nodes())).is_some());
    assert_eq!(plan_of(of_others, vec![], nodes()), Plan::default());
    let was =
        json!({"spec": {"type": "ClusterIP"}, "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}});
    assert_eq!(told(&plan_of(service("s", was), vec![], nodes())), Some(vec![]), "it gives them back");
}
