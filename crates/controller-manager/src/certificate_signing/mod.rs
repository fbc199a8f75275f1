//! Signs approved requests for the cluster's own signers (upstream:
//! `pkg/controller/certificates/signer`).
//!
//! The plan says what is to be signed; [`sign`] holds the authority's key only
//! while the plan is carried out, and reads it from its files each time, so that
//! a new authority is used without a restart.

mod plan;
mod sign;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use api::types::certificates::v1::CertificateSigningRequest;
use client::Cache;
use reconcile::{Action, Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;
use plan::Verdict;

/// The authority's certificate and key.
#[derive(Clone, Debug)]
pub struct AuthorityFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// The loop's cache.
pub struct Signing {
    requests: Arc<Cache<CertificateSigningRequest>>,
    /// Without an authority there is nothing to sign with, and the loop sleeps.
    authority: Option<AuthorityFiles>,
    longest: Duration,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let requests = context.caches.signing_requests();
    let flags = &context.flags;
    let files = flags.cluster_signing_cert_file.clone().zip(flags.cluster_signing_key_file.clone());
    let reconciler = Signing {
        requests: Arc::clone(&requests),
        authority: files.map(|(certificate, key)| AuthorityFiles { certificate, key }),
        longest: flags.cluster_signing_duration,
    };
    Loop::new(reconciler, 5).own(&requests)
}

impl Reconciler for Signing {
    const NAME: &'static str = "certificatesigningrequest-signing";
    type Observed = (Arc<CertificateSigningRequest>, AuthorityFiles);

    fn observe(&self, key: &ObjectKey) -> Option<Self::Observed> {
        Some((self.requests.get_key(key)?, self.authority.clone()?))
    }

    fn plan(&self, (request, authority): &Self::Observed, moment: &Moment) -> Plan {
        match plan::plan(request, self.longest, moment.now) {
            Verdict::NotOurs => Plan::default(),
            Verdict::Refuse(failed) => Plan::of(vec![Action::update_status(&*failed)]),
            Verdict::Sign(order) => {
                let signature = sign::Signature { order: *order, authority: authority.clone() };
                Plan::of(vec![Action::complete_part("status", &**request, Arc::new(signature))])
            }
        }
    }
}
