//! Tables of plans.

use std::sync::Arc;

use api::types::core::v1::{Endpoints, Service};
use api::types::discovery::v1::EndpointSlice;
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::{Observed, plan};
use crate::testing::object;

fn endpoints(changes: Value) -> Endpoints {
    let mut endpoints = json!({
        "metadata": {"name": "svc", "namespace": "ns", "uid": "uid-e"},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}],
    });
    api::patch::merge_patch(&mut endpoints, changes);
    object(endpoints)
}

fn observed(endpoints: Option<Endpoints>, selector: Value, slices: Vec<EndpointSlice>) -> Observed {
    let service: Service = object(json!({
        "metadata": {"name": "svc", "namespace": "ns"}, "spec": {"selector": selector}}));
    Observed {
        endpoints: endpoints.map(Arc::new),
        service: Some(Arc::new(service)),
        slices: slices.into_iter().map(Arc::new).collect(),
        limit: 3,
    }
}

fn plan_of(changes: Value, slices: Vec<EndpointSlice>) -> Plan {
    plan::plan(&observed(Some(endpoints(changes)), Value::Null, slices))
}

fn verbs(plan: &Plan) -> Vec<&'static str> {
    plan.actions.iter().map(Action::verb).collect()
}

fn written(plan: &Plan) -> Vec<EndpointSlice> {
    let object_of = |action: &Action| match action {
        Action::Create { object, .. } | Action::Update { object, .. } => Some(object.clone()),
        _ => None,
    };
    plan.actions.iter().filter_map(object_of).map(object).collect()
}

/// What a plan wrote, as the server would have it.
fn stored(plan: &Plan, name: &str) -> EndpointSlice {
    let mut slice = written(plan).remove(0);
    slice.metadata.name = Some(name.to_owned());
    slice.metadata.uid = Some(format!("uid-{name}"));
    slice.metadata.generate_name = None;
    slice
}

fn addresses(slice: &EndpointSlice) -> Vec<&str> {
    slice.endpoints.iter().flatten().map(|one| one.addresses[0].as_str()).collect()
}

#[test]
fn endpoints_become_a_slice_that_follows_them() {
    let first = plan_of(
        json!({"metadata": {"labels": {"a": "b"}, "annotations": {
        "note": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"}}}),
        vec![],
    );
    assert_eq!(verbs(&first), ["create"]);
    let slice = &written(&first)[0];
    assert_eq!((addresses(slice), slice.address_type.as_str()), (vec!["10.1.2.3"], "IPv4"));
    let labels = slice.metadata.labels.clone().unwrap_or_default();
    assert_eq!(labels["kubernetes.io/service-name"], "svc");
    assert_eq!(labels["a"], "b");
    assert_eq!(slice.metadata.annotations.as_ref().map(|all| all.len()), Some(1));
    let plain = stored(&plan_of(json!({}), vec![]), "s");
    assert_eq!(verbs(&plan_of(json!({}), vec![plain.clone()])), [""; 0]);
    let other = json!({"subsets": [{"addresses": [{"ip": "10.2.3.4"}], "ports": [{"port": 80}]}]});
    let moved = plan_of(other, vec![plain.clone()]);
    assert_eq!((verbs(&moved), addresses(&written(&moved)[0])), (vec!["update"], vec!["10.2.3.4"]));
    let port = json!({"subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 81}]}]});
    assert_eq!(verbs(&plan_of(port, vec![plain.clone()])), ["update"], "a spare slice is used again");
    assert_eq!(verbs(&plan_of(json!({}), vec![plain.clone(), stored(&first, "t")])), ["delete"]);
    let renewed = json!({"metadata": {"uid": "uid-f"}});
    assert_eq!(verbs(&plan_of(renewed, vec![plain])), ["update"], "it has another owner");
}

#[test]
fn only_what_is_written_by_hand_is_shown() {
    let slice = || stored(&plan_of(json!({}), vec![]), "s");
    let skip = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}});
    let lock = json!({"metadata": {"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}});
    assert_eq!(verbs(&plan_of(skip, vec![slice()])), ["delete"]);
    assert_eq!(verbs(&plan_of(lock, vec![slice()])), ["delete"]);
    let selects = observed(Some(endpoints(json!({}))), json!({"app": "web"}), vec![slice()]);
    assert_eq!(verbs(&plan::plan(&selects)), ["delete"]);
    assert_eq!(verbs(&plan::plan(&observed(None, Value::Null, vec![slice()]))), ["delete"]);
    let mut no_service = observed(Some(endpoints(json!({}))), Value::Null, vec![]);
    no_service.service = None;
    assert_eq!(verbs(&plan::plan(&no_service)), [""; 0]);
}

#[test]
fn subsets_are_sorted_by_ports_and_families() {
    let subsets = json!({"subsets": [
        {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "a", "port": 80}]},
        {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"name": "b", "port": 81}]},
        {"notReadyAddresses": [{"ip": "010.0.0.002"}], "ports": [{"name": "a", "port": 80}]},
    ]});
    let slices = written(&plan_of(subsets, vec![]));
    let shape: Vec<(String, usize, Vec<&str>)> = slices
        .iter()
        .map(|slice| (slice.address_type.clone(), slice.ports.as_ref().map_or(0, Vec::len), addresses(slice)))
        .collect();
    assert_eq!(
        shape,
        [
            ("IPv4".to_owned(), 1, vec!["10.0.0.1", "10.0.0.2"]),
            ("IPv4".to_owned(), 1, vec!["10.0.0.1"]),
            ("IPv6".to_owned(), 1, vec!["fd00::1"]),
        ]
    );
    let ready: Vec<Option<bool>> = slices[0]
        .endpoints
        .iter()
        .flatten()
        .map(|one| one.conditions.as_ref().and_then(|conditions| conditions.ready))
        .collect();
    assert_eq!(ready, [Some(true), Some(false)]);
    let together = json!({"subsets": [
        {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "a", "port": 80}]},
        {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "b", "port": 81}]},
    ]});
    let slices = written(&plan_of(together, vec![]));
    assert_eq!((slices.len(), slices[0].ports.as_ref().map_or(0, Vec::len)), (1, 2));
}

#[test]
fn what_cannot_be_shown_is_said() {
    let many = json!({"subsets": [{"ports": [{"port": 80}], "addresses": [
        {"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}, {"ip": "10.0.0.3"}, {"ip": "10.0.0.4"}]}]});
    let plan = plan_of(many, vec![]);
    assert_eq!((verbs(&plan), addresses(&written(&plan)[0]).len()), (vec!["event", "create"], 3));
    let odd = json!({"subsets": [{"ports": [{"port": 80}], "addresses": [{"ip": "here"}]}]});
    assert_eq!(verbs(&plan_of(odd, vec![])), ["event"]);
}
