//! Tables of plans.

use std::sync::Arc;

use api::types::core::v1::{Endpoints, Service};
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::{Observed, plan};
use crate::testing::{object, pod, running};

fn observed(endpoints: Option<Endpoints>) -> Observed {
    let service: Service = object(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "uid-service", "labels": {"a": "b"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1",
                 "ports": [{"port": 80, "targetPort": 8080}]},
    }));
    let pods = [
        pod("a", running("node-1", "10.1.0.2", true)),
        pod("b", running("node-2", "10.1.0.1", true)),
        pod("c", running("node-2", "10.1.0.3", false)),
    ];
    Observed {
        service: Some(Arc::new(service)),
        pods: pods.into_iter().map(Arc::new).collect(),
        endpoints: endpoints.map(Arc::new),
    }
}

#[test]
fn ready_and_unready_addresses_stand_apart_in_order() {
    let plan = plan::plan(&observed(None));
    let [Action::Create { object: created, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
    let ips = |list: &Value| -> Vec<Value> {
        list.as_array().into_iter().flatten().map(|one| one["ip"].clone()).collect()
    };
    let subset = &created["subsets"][0];
    assert_eq!(ips(&subset["addresses"]), ["10.1.0.1", "10.1.0.2"]);
    assert_eq!(ips(&subset["notReadyAddresses"]), ["10.1.0.3"]);
    assert_eq!(subset["ports"], json!([{"port": 8080, "protocol": "TCP"}]));
    assert_eq!(created["metadata"]["labels"]["a"], "b");
    let stored: Endpoints = object(created.clone());
    assert_eq!(plan::plan(&observed(Some(stored.clone()))), Plan::default(), "nothing changed");
    let gone = Observed { service: None, pods: vec![], endpoints: Some(Arc::new(stored)) };
    assert!(matches!(&plan::plan(&gone).actions[..], [Action::Delete { .. }]));
    let foreign = Observed { service: None, pods: vec![], endpoints: Some(Arc::default()) };
    assert_eq!(plan::plan(&foreign), Plan::default());
}
