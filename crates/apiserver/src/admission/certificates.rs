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
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;

use super::{Operation, Plugin, Request};
use crate::authn::{MASTERS, User};
use crate::authz::{Attributes, Authorizer};
use crate::cache::WatchCache;

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
/// The signer whose certificates the API server takes from anybody.
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

pub(super) struct Certificates {
    authorizer: Authorizer,
}

impl Certificates {
    pub(super) fn new(cache: &Arc<WatchCache>) -> Self {
        Self { authorizer: Authorizer::new(cache) }
    }

    /// Whether a user may do something for a signer: by its name, or by a
    /// pattern for all signers of its domain.
    fn may(&self, user: &User, verb: &str, signer: &str) -> bool {
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
            self.authorizer.allows(user, &ask).is_ok()
        })
    }

    fn judge(&self, request: &Request<'_>) -> Result<(), Status> {
        if request.kind.group != GROUP || request.kind.resource != RESOURCE {
            return Ok(());
        }
        let Some(new) = &request.object else { return Ok(()) };
        let signer = new.text(&["spec", "signerName"]);
        let refuse = |verb: &str| {
            let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
            Err(request.forbidden(&why))
        };
        let changes = |path: &[&str]| request.old.as_ref().and_then(|old| old.at(path)) != new.at(path);
        match (request.operation, request.subresource) {
            (Operation::Create, "") if signer == API_CLIENT && asks_for_masters(new) => {
                let why = format!("use of {API_CLIENT} signer with {MASTERS} group is not allowed");
                Err(request.forbidden(&why))
            }
            (Operation::Update, "approval") if !self.may(&request.caller.user, "approve", signer) => {
                refuse("approve")
            }
            (Operation::Update, "status")
                if (changes(&["status", "certificate"]) || changes(&["status", "conditions"]))
                    && !self.may(&request.caller.user, "sign", signer) =>
            {
                refuse("sign")
            }
            _ => Ok(()),
        }
    }
}

impl Plugin for Certificates {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if request.is(GROUP, RESOURCE, "")
                && request.operation == Operation::Create
                && let Some(object) = &mut request.object
            {
                stamp(object, &request.caller.user);
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { self.judge(request) })
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
    let encoded = object.at(&["spec", "request"]).and_then(Value::as_str).unwrap_or_default();
    let Ok(pem) = base64::engine::general_purpose::STANDARD.decode(encoded) else { return false };
    let Ok((_, pem)) = parse_x509_pem(&pem) else { return false };
    let Ok((_, request)) = X509CertificationRequest::from_der(&pem.contents) else { return false };
    let subject = &request.certification_request_info.subject;
    subject.iter_organization().any(|one| one.as_str().is_ok_and(|name| name == MASTERS))
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
