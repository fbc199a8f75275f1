//! Objects for tests: a valid default, with one thing changed.

use api::ObjectKey;
use api::types::apps::v1::{Deployment, ReplicaSet};
use api::types::certificates::v1::CertificateSigningRequest;
use api::types::core::v1::{Node, Pod};
use clap::Parser as _;
use jiff::Timestamp;
use reconcile::simulation::{Dice, World};
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use crate::caches::Caches;
use crate::controllers::Context;
use crate::flags::Flags;

/// An object from its JSON.
pub(crate) fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("a valid object")
}

/// The tests' present.
pub(crate) fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().expect("a time")
}

/// A controller context whose caches nobody fills.
pub(crate) fn context() -> Context {
    let flags = Flags::try_parse_from(["kube-controller-manager", "--kubeconfig=none"]).expect("valid flags");
    Context::new(flags, Caches::default(), "".into(), None, daemon::SystemClock::shared())
}

/// The status that a plan tells; null where it tells none.
pub(crate) fn told_status(plan: &Plan) -> Value {
    let status = |action: &Action| match action {
        Action::Patch { target, patch: client::Patch::Merge(patch) } if target.subresource == "status" => {
            Some(patch["status"].clone())
        }
        _ => None,
    };
    plan.actions.iter().find_map(status).unwrap_or_default()
}

/// A pod labelled `app=web`, merged with changes.
pub(crate) fn pod(name: &str, changes: Value) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "labels": {"app": "web"},
            "creationTimestamp": "2026-11-23T11:00:00Z",
        },
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
    });
    api::patch::merge_patch(&mut pod, changes);
    object(pod)
}

/// The changes that make a pod of the replica set `web` run on a node.
pub(crate) fn running(node: &str, address: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "spec": {"nodeName": node},
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-11-23T11:30:00Z"}],
        },
    })
}

/// A replica set `web` of pods labelled `app=web`.
pub(crate) fn replica_set(replicas: i32) -> ReplicaSet {
    object(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "uid-set", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
        },
    }))
}

/// A deployment `web` of pods labelled `app=web`.
pub(crate) fn deployment(replicas: i32) -> Deployment {
    object(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "uid-deployment", "generation": 1},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
        },
    }))
}

/// A ready node.
pub(crate) fn node(name: &str, changes: Value) -> Node {
    let mut node = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "creationTimestamp": "2026-11-23T10:00:00Z"},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-23T12:00:00Z"}]},
    });
    api::patch::merge_patch(&mut node, changes);
    object(node)
}

/// A certificate request, PEM.
pub(crate) fn certificate_request(name: &str, organizations: &[&str], hosts: &[&str]) -> String {
    let key = rcgen::KeyPair::generate().expect("key");
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(hosts).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    // One name holds one value of each type; the second is given by number.
    let numbered = [rcgen::DnType::OrganizationName, rcgen::DnType::CustomDnType(vec![2, 5, 4, 10])];
    for (kind, value) in numbered.into_iter().zip(organizations) {
        params.distinguished_name.push(kind, *value);
    }
    params.serialize_request(&key).expect("request").pem().expect("PEM")
}

/// A node's request for a client certificate, merged with changes.
pub(crate) fn signing_request(pem: &str, changes: Value) -> CertificateSigningRequest {
    use base64::Engine as _;
    let mut request = json!({
        "metadata": {"name": "csr", "uid": "uid-csr", "creationTimestamp": "2026-11-23T11:00:00Z"},
        "spec": {
            "request": base64::engine::general_purpose::STANDARD.encode(pem),
            "signerName": crate::signing_requests::KUBELET_CLIENT,
            "usages": ["digital signature", "client auth"],
            "username": "system:bootstrap:abcdef",
            "groups": ["system:bootstrappers", "system:authenticated"],
        },
    });
    api::patch::merge_patch(&mut request, changes);
    object(request)
}

/// One thing that a kubelet would do: start a pod, or end one that is being deleted.
pub(crate) fn kubelet(world: &mut World, dice: &mut Dice) -> bool {
    let mut pods: Vec<Pod> = world.list();
    pods.retain(|pod| crate::pods::is_being_deleted(pod) || !crate::pods::is_ready(pod));
    if pods.is_empty() {
        return false;
    }
    let pod = &pods[dice.below(pods.len())];
    let key = ObjectKey::of(pod);
    if crate::pods::is_being_deleted(pod) {
        world.take::<Pod>(&key);
        return true;
    }
    let now = api::time::format(world.now);
    world.edit::<Pod>(&key, |pod| {
        if pod.text(&["spec", "nodeName"]).is_empty() {
            pod.set_at(&["spec", "nodeName"], "node-1");
        }
        pod.set_at(&["status", "phase"], "Running");
        let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": now}]);
        pod.set_at(&["status", "conditions"], ready);
    });
    true
}
