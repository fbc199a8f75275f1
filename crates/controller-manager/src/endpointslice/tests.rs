//! Tables of plans.

use std::collections::HashMap;
use std::sync::Arc;

use api::types::core::v1::{Pod, Service};
use api::types::discovery::v1::EndpointSlice;
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::{Observed, plan};
use crate::testing::{object, pod, running};

fn service(changes: Value) -> Service {
    let mut service = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "uid-service"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
                 "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
    });
    api::patch::merge_patch(&mut service, changes);
    object(service)
}

fn plan_of(service: Service, pods: Vec<Pod>, slices: Vec<EndpointSlice>) -> Plan {
    plan::plan(&Observed {
        service: Arc::new(service),
        pods: pods.into_iter().map(Arc::new).collect(),
        zones: HashMap::from([("node-1".to_owned(), "a".to_owned())]),
        slices: slices.into_iter().map(Arc::new).collect(),
    })
}

fn created(plan: &Plan) -> Vec<Value> {
    let object = |action: &Action| match action {
        Action::Create { object, .. } => Some(object.clone()),
        _ => None,
    };
    plan.actions.iter().filter_map(object).collect()
}

fn as_stored(value: &Value, name: &str) -> EndpointSlice {
    let mut value = value.clone();
    api::patch::merge_patch(
        &mut value,
        json!({"metadata": {"name": name, "uid": name, "resourceVersion": "1"}}),
    );
    object(value)
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-11-23T11:59:00Z"}});
    let mut going = running("node-2", "10.1.0.3", true);
    api::patch::merge_patch(&mut going, leaving);
    let pods = vec![
        pod("a", running("node-1", "10.1.0.1", true)),
        pod("b", running("node-2", "10.1.0.2", false)),
        pod("c", going),
        pod("d", json!({})),
    ];
    let slices = created(&plan_of(service(json!({})), pods, vec![]));
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0]["ports"][0]["port"], 8080);
    let endpoints: Vec<Value> = slices[0]["endpoints"].as_array().cloned().unwrap_or_default();
    let shown: Vec<(Value, Value)> =
        endpoints.iter().map(|one| (one["conditions"].clone(), one["zone"].clone())).collect();
    let conditions =
        |ready, serving, terminating| json!({"ready": ready, "serving": serving, "terminating": terminating});
    assert_eq!(
        shown,
        [
            (conditions(true, true, false), json!("a")),
            (conditions(false, false, false), Value::Null),
            (conditions(false, true, true), Value::Null),
        ]
    );
    let labels = &slices[0]["metadata"]["labels"];
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
}

#[test]
fn a_hundred_endpoints_fill_a_slice_and_what_is_there_stays() {
    let pods = |count: u8| -> Vec<Pod> {
        (0..count)
            .map(|number| pod(&format!("p{number:03}"), running("node-1", &format!("10.1.0.{number}"), true)))
            .collect()
    };
    let first = created(&plan_of(service(json!({})), pods(150), vec![]));
    let sizes: Vec<usize> =
        first.iter().map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(sizes, [100, 50]);
    let stored = || vec![as_stored(&first[0], "one"), as_stored(&first[1], "two")];
    assert_eq!(plan_of(service(json!({})), pods(150), stored()), Plan::default(), "nothing changed");
    let grown = plan_of(service(json!({})), pods(151), stored());
    assert_eq!(grown.actions.len(), 1);
    assert!(matches!(&grown.actions[0], Action::Update { target, .. } if target.name == "two"));
    let shrunk = plan_of(service(json!({})), pods(100), stored());
    assert!(
        matches!(&shrunk.actions[..], [Action::Delete { target, .. }] if target.name == "two"),
        "{shrunk:?}"
    );
}

#[test]
fn no_pods_means_one_empty_slice_per_family() {
    let both = service(json!({"spec": {"ipFamilies": ["IPv4", "IPv6"], "clusterIP": "None"}}));
    let slices = created(&plan_of(both.clone(), vec![], vec![]));
    let families: Vec<&Value> = slices.iter().map(|slice| &slice["addressType"]).collect();
    assert_eq!(families, ["IPv4", "IPv6"]);
    assert_eq!(slices[0]["metadata"]["labels"]["service.kubernetes.io/headless"], "");
    let stored = vec![as_stored(&slices[0], "one"), as_stored(&slices[1], "two")];
    assert_eq!(plan_of(both, vec![], stored.clone()), Plan::default());
    let one = plan_of(service(json!({"spec": {"clusterIP": "None"}})), vec![], stored);
    assert!(matches!(&one.actions[..], [Action::Delete { target, .. }] if target.name == "two"), "{one:?}");
}
