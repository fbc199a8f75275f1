use std::net::IpAddr;

use reconcile::{Action, Guard, Plan};
use serde_json::{Value, json};

use super::Neighbours;
use super::plan::{is_open, plan};
use crate::signing_requests as requests;
use crate::testing::{certificate_request, now, signing_request};

fn plan_of(pem: &str, changes: Value, neighbours: &Neighbours) -> Plan {
    let request = signing_request(pem, changes);
    assert!(is_open(&request));
    plan(&request, &requests::read(pem.as_bytes()).expect("reads"), neighbours, now())
}

fn approves(plan: &Plan) -> bool {
    plan.actions.iter().any(|action| {
        let Action::Update { target, object } = action else { return false };
        target.subresource == "approval" && object["status"]["conditions"][0]["type"] == "Approved"
    })
}

fn set(addresses: &[&str]) -> std::collections::HashSet<IpAddr> {
    addresses.iter().map(|one| one.parse().expect("an address")).collect()
}

#[test]
fn what_was_decided_is_not_decided_again() {
    let pem = certificate_request("system:node:n1", &["system:nodes"], &[]);
    for kind in ["Approved", "Denied", "Failed"] {
        let status = json!({"status": {"conditions": [{"type": kind, "status": "True"}]}});
        assert!(!is_open(&signing_request(&pem, status)), "{kind}");
    }
    assert!(!is_open(&signing_request(&pem, json!({"status": {"certificate": "Zm9v"}}))));
}

#[test]
fn client_certificates_after_an_access_review() {
    let pem = certificate_request("system:node:n1", &["system:nodes"], &[]);
    let parts = |username: &str| -> Vec<String> {
        let plan = plan_of(&pem, json!({"spec": {"username": username}}), &Neighbours::default());
        assert!(approves(&plan));
        let Action::Require(Guard::Allowed { target, reviews }) = &plan.actions[0] else {
            panic!("{plan:?}")
        };
        assert_eq!(target.resource, "subjectaccessreviews");
        let part = |review: &Value| {
            assert_eq!(review["spec"]["user"], username);
            review["spec"]["resourceAttributes"]["subresource"].as_str().expect("text").to_owned()
        };
        reviews.iter().map(part).collect()
    };
    assert_eq!(parts("system:bootstrap:abcdef"), ["nodeclient"]);
    assert_eq!(parts("system:node:n1"), ["selfnodeclient", "nodeclient"]);
    for bad in
        [json!({"spec": {"usages": ["server auth"]}}), json!({"spec": {"signerName": requests::API_CLIENT}})]
    {
        assert_eq!(plan_of(&pem, bad, &Neighbours::default()), Plan::default());
    }
}

#[test]
fn serving_certificates_only_for_the_node_itself() {
    let serving = |name: &str, hosts: &[&str], user: &str, neighbours: &Neighbours| {
        let pem = certificate_request(&format!("system:node:{name}"), &["system:nodes"], hosts);
        let changes = json!({"spec": {
            "signerName": requests::KUBELET_SERVING, "username": user,
            "groups": ["system:nodes", "system:authenticated"],
            "usages": ["digital signature", "server auth"],
        }});
        let plan = plan_of(&pem, changes, neighbours);
        assert_eq!(plan.wake_after.is_some(), !approves(&plan), "one looks again at what was not approved");
        approves(&plan)
    };
    let nobody = Neighbours::default();
    let own = "system:node:n1";
    assert!(serving("n1", &["n1", "10.0.0.1"], own, &nobody));
    assert!(!serving("n1", &["n1", "10.0.0.1"], "system:node:n2", &nobody), "asked by another node");
    assert!(!serving("n1", &["n1", "n2", "10.0.0.1"], own, &nobody), "another name");
    for address in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "::1", "::ffff:127.0.0.1"] {
        assert!(!serving("n1", &["n1", address], own, &nobody), "{address}");
    }
    let taken = Neighbours { own: None, taken: set(&["10.0.0.2"]) };
    assert!(!serving("n1", &["10.0.0.2"], own, &taken), "somebody else's address");
    let known = Neighbours { own: Some(set(&["10.0.0.1"])), taken: set(&["10.0.0.2"]) };
    assert!(serving("n1", &["n1", "10.0.0.1"], own, &known));
    assert!(!serving("n1", &["n1", "10.0.0.3"], own, &known), "an address that the node does not have");
    for name in
        ["kubernetes", "kubernetes.default.svc", "localhost", "web.default.svc.cluster.local", "10.0.0.9"]
    {
        assert!(!serving(name, &["10.0.0.1"], &format!("system:node:{name}"), &nobody), "{name}");
    }
}

#[test]
fn a_user_that_only_looks_like_a_node_gets_no_serving_certificate() {
    let pem = certificate_request("system:node:n1", &["system:nodes"], &["n1"]);
    let changes = json!({"spec": {
        "signerName": requests::KUBELET_SERVING, "username": "system:node:n1", "groups": ["devs"],
        "usages": ["digital signature", "server auth"],
    }});
    assert!(!approves(&plan_of(&pem, changes, &Neighbours::default())));
}
