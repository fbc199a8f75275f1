//! Certificate signing requests: who asked is what authentication says, and
//! only who may approve or sign for a signer does.
//!
//! Upstream's rules: the strategy that fills in the requester
//! (`pkg/registry/certificates`), and the admission plugins
//! `CertificateApproval`, `CertificateSigning` and
//! `CertificateSubjectRestriction`.

use std::sync::Arc;

use api::{Object, Status};
use base64::Engine as _;
use futures::future::BoxFuture;
use serde_json::json;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;

use super::{Operation, Plugin, Request};
use crate::authn::{MASTERS, User};
use crate::authz::{Attributes, Authorizer};

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
/// The signer whose certificates the API server takes from anybody.
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Fills in who asked; not a plugin of upstream's, so nothing turns it off.
pub(super) struct Requester;

/// Only who may approve for a signer does.
pub(super) struct CertificateApproval(Arc<Authorizer>);

/// Only who may sign for a signer does.
pub(super) struct CertificateSigning(Arc<Authorizer>);

/// Nobody becomes the master of the cluster by a certificate.
pub(super) struct CertificateSubjectRestriction;

impl CertificateApproval {
    pub(super) const fn new(authorizer: Arc<Authorizer>) -> Self {
        Self(authorizer)
    }
}

impl CertificateSigning {
    pub(super) const fn new(authorizer: Arc<Authorizer>) -> Self {
        Self(authorizer)
    }
}

/// Whether a user may do something for a signer: by its name, or by a pattern
/// for all signers of its domain.
fn may(authorizer: &Authorizer, user: &User, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    [signer.to_owned(), format!("{domain}/*")].into_iter().any(|name| {
        let ask = Attributes {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: "*".to_owned(),
            resource: "signers".to_owned(),
            name,
            ..Attributes::default()
        };
        authorizer.allows(user, &ask).is_ok()
    })
}

/// Whether the caller may do something for the signer of the request as it was.
fn check(authorizer: &Authorizer, request: &Request<'_>, verb: &str) -> Result<(), Status> {
    let signer = request.old.as_ref().map_or("", |old| old.text(&["spec", "signerName"]));
    if may(authorizer, &request.caller.user, verb, signer) {
        return Ok(());
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(request.forbidden(&why))
}

fn is_update(request: &Request<'_>, subresource: &str) -> bool {
    request.is(GROUP, RESOURCE, subresource) && request.operation == Operation::Update
}

fn is_create(request: &Request<'_>) -> bool {
    request.is(GROUP, RESOURCE, "") && request.operation == Operation::Create
}

impl Plugin for Requester {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if is_create(request)
                && let Some(object) = &mut request.object
            {
                stamp(object, &request.caller.user);
            }
            Ok(())
        })
    }
}

impl Plugin for CertificateApproval {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if is_update(request, "approval") { check(&self.0, request, "approve") } else { Ok(()) }
        })
    }
}

impl Plugin for CertificateSigning {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let at = |object: &Option<Object>, field: &str| {
                object.as_ref().and_then(|object| object.at(&["status", field]).cloned())
            };
            let mut fields = ["certificate", "conditions"].into_iter();
            let signs = fields.any(|field| at(&request.object, field) != at(&request.old, field));
            if is_update(request, "status") && signs { check(&self.0, request, "sign") } else { Ok(()) }
        })
    }
}

impl Plugin for CertificateSubjectRestriction {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let Some(new) = request.object.as_ref().filter(|_| is_create(request)) else { return Ok(()) };
            if new.text(&["spec", "signerName"]) == API_CLIENT && asks_for_masters(new) {
                let why = format!("use of {API_CLIENT} signer with {MASTERS} group is not allowed");
                return Err(request.forbidden(&why));
            }
            Ok(())
        })
    }
}

/// Writes into a request who made it, whatever it says itself.
fn stamp(object: &mut Object, user: &User) {
    object.set_at(&["spec", "username"], user.name.as_str());
    let known = [
        ("uid", json!(user.uid), user.uid.is_empty()),
        ("groups", json!(user.groups), user.groups.is_empty()),
        ("extra", json!(user.extra), user.extra.is_empty()),
    ];
    for (field, value, is_empty) in known {
        object.remove_at(&["spec", field]);
        if !is_empty {
            object.set_at(&["spec", field], value);
        }
    }
}

/// Whether the certificate would be one of somebody who may do everything.
fn asks_for_masters(object: &Object) -> bool {
    subject(object).is_some_and(|subject| subject.organizations.iter().any(|one| one == MASTERS))
}

/// Whom a request asks a certificate for.
pub(super) struct Subject {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
}

/// The subject of a request; none if it cannot be read.
pub(super) fn subject(object: &Object) -> Option<Subject> {
    let encoded = object.text(&["spec", "request"]);
    let pem = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let (_, pem) = parse_x509_pem(&pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &request.certification_request_info.subject;
    let common_name = subject.iter_common_name().next().and_then(|one| one.as_str().ok());
    let organizations = subject.iter_organization().filter_map(|one| one.as_str().ok());
    Some(Subject {
        common_name: common_name.unwrap_or_default().to_owned(),
        organizations: organizations.map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn who_asked_is_not_for_the_asker_to_say() {
        let mut object = Object::from_value(json!({"spec": {
            "username": "root", "uid": "1", "groups": [MASTERS], "extra": {"k": ["v"]},
        }}))
        .expect("an object");
        let user = User { name: "jane".to_owned(), groups: vec!["devs".to_owned()], ..User::default() };
        stamp(&mut object, &user);
        assert_eq!(object.get("spec"), Some(&json!({"username": "jane", "groups": ["devs"]})));
    }

    #[test]
    fn the_group_in_a_request_is_seen() {
        let with = |group: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::OrganizationName, group);
            let key = KeyPair::generate().expect("key");
            let pem = params.serialize_request(&key).expect("request").pem().expect("PEM");
            let encoded = base64::engine::general_purpose::STANDARD.encode(pem);
            Object::from_value(json!({"spec": {"request": encoded}})).expect("an object")
        };
        assert!(asks_for_masters(&with(MASTERS)));
        assert!(!asks_for_masters(&with("devs")));
    }
}
