//! Which requests are approved without a person.

use std::net::IpAddr;
use std::time::Duration;

use api::types::certificates::v1::CertificateSigningRequest;
use client::Target;
use jiff::Timestamp;
use reconcile::{Action, Guard, Plan};
use serde_json::{Value, json};

use super::Neighbours;
use crate::signing_requests::{self as requests, Asked};

/// When to look again at a request that could not be approved: an address may
/// have been given up meanwhile.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
const KUBELET_CLIENT: &str = "Auto approving kubelet client certificate after SubjectAccessReview.";
const SELF_CLIENT: &str = "Auto approving self kubelet client certificate after SubjectAccessReview.";
const SERVING: &str = "Auto approving kubelet serving certificate for the node's own name and addresses.";

/// Whether nothing was decided about a request yet.
pub(super) fn is_open(request: &CertificateSigningRequest) -> bool {
    requests::certificate(request).is_none()
        && ["Approved", "Denied", "Failed"].iter().all(|kind| requests::condition(request, kind).is_none())
}

pub(super) fn plan(
    request: &CertificateSigningRequest,
    asked: &Asked,
    neighbours: &Neighbours,
    now: Timestamp,
) -> Plan {
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    let approval = |message: &str| {
        let approved = requests::with_condition(request, ("Approved", "AutoApproved"), message, now);
        Action::update_part("approval", &approved)
    };
    match request.spec.signer_name.as_str() {
        requests::KUBELET_CLIENT if requests::check_kubelet_client(asked, usages).is_ok() => {
            let is_own = request.spec.username.as_deref() == Some(asked.name.as_str());
            let (parts, message): (&[&str], _) = if is_own {
                (&["selfnodeclient", "nodeclient"], SELF_CLIENT)
            } else {
                (&["nodeclient"], KUBELET_CLIENT)
            };
            let reviews = parts.iter().map(|part| review(request, part)).collect();
            Plan::of(vec![
                Action::Require(Guard::Allowed { target: reviews_at(), reviews }),
                approval(message),
            ])
        }
        requests::KUBELET_SERVING if requests::check_kubelet_serving(asked, usages).is_ok() => {
            if may_serve(request, asked, neighbours) {
                return Plan::of(vec![approval(SERVING)]);
            }
            let mut plan = Plan::default();
            plan.wake(LOOK_AGAIN);
            plan
        }
        _ => Plan::default(),
    }
}

/// Whether a node asks for itself, and for nothing that is, or could be taken
/// for, somebody else.
fn may_serve(request: &CertificateSigningRequest, asked: &Asked, neighbours: &Neighbours) -> bool {
    let Some(node) = requests::node(asked) else { return false };
    let is_own = request.spec.username.as_deref() == Some(asked.name.as_str())
        && request.spec.groups.iter().flatten().any(|group| group == requests::NODES);
    let is_free = |address: &IpAddr| {
        let is_known = neighbours.own.as_ref().is_none_or(|own| own.is_empty() || own.contains(address));
        is_known && can_be_a_node(address) && !neighbours.taken.contains(address)
    };
    is_own
        && !is_reserved(node)
        && asked.hosts.iter().all(|host| host == node)
        && asked.addresses.iter().all(is_free)
}

fn can_be_a_node(address: &IpAddr) -> bool {
    let address = address.to_canonical();
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

/// Whether a name is one under which the API server, or any service, is called.
fn is_reserved(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    let ends = |suffix: &str| name.ends_with(suffix);
    first == "kubernetes"
        || first == "localhost"
        || ends(".localhost")
        || ends(".svc")
        || name.contains(".svc.")
        || name.contains('*')
        || name.parse::<IpAddr>().is_ok()
}

fn reviews_at() -> Target {
    Target {
        group: "authorization.k8s.io".to_owned(),
        version: "v1".to_owned(),
        resource: "subjectaccessreviews".to_owned(),
        ..Target::default()
    }
}

/// May whoever asks have such a certificate? To may is to be allowed to create
/// a subresource that exists only as a name.
fn review(request: &CertificateSigningRequest, part: &str) -> Value {
    let spec = &request.spec;
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
            "resourceAttributes": {
                "verb": "create", "group": "certificates.k8s.io", "version": "*",
                "resource": "certificatesigningrequests", "subresource": part,
            },
        },
    })
}
