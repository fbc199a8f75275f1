//! Whether a request is signed, and as what.

use std::time::Duration;

use api::types::certificates::v1::CertificateSigningRequest;
use jiff::Timestamp;

use crate::signing_requests::{self as requests, Asked};

/// Clocks that are a little behind must take a fresh certificate.
const BACKDATED: Duration = Duration::from_mins(5);
/// Certificates of a shorter life keep all of it.
const SHORT: Duration = Duration::from_hours(8);
/// No certificate lives shorter.
const SHORTEST: Duration = Duration::from_mins(10);

/// What is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The request, DER: its subject and key are taken as they are.
    pub(super) request: Vec<u8>,
    /// The names that it asks for.
    pub(super) asked: Asked,
    /// What the certificate may be used for.
    pub(super) usages: Vec<String>,
    /// When it begins.
    pub(super) not_before: Timestamp,
    /// When it ends, unless the authority ends before.
    pub(super) not_after: Timestamp,
}

/// What becomes of a request.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing, here.
    NotOurs,
    /// It is marked as failed.
    Refuse(Box<CertificateSigningRequest>),
    /// It is signed.
    Sign(Box<Order>),
}

pub(super) fn plan(request: &CertificateSigningRequest, longest: Duration, now: Timestamp) -> Verdict {
    let is_approved = requests::condition(request, "Approved").is_some();
    let is_over = requests::condition(request, "Failed").is_some()
        || requests::condition(request, "Denied").is_some()
        || requests::certificate(request).is_some();
    let signer = request.spec.signer_name.as_str();
    let is_ours = matches!(
        signer,
        requests::API_CLIENT | requests::KUBELET_CLIENT | requests::KUBELET_SERVING | requests::LEGACY
    );
    if !is_ours || !is_approved || is_over {
        return Verdict::NotOurs;
    }
    match order(request, signer, longest, now) {
        Ok(order) => Verdict::Sign(Box::new(order)),
        Err(why) => {
            let kind = ("Failed", "SignerValidationFailure");
            Verdict::Refuse(Box::new(requests::with_condition(request, kind, &why, now)))
        }
    }
}

fn order(
    request: &CertificateSigningRequest,
    signer: &str,
    longest: Duration,
    now: Timestamp,
) -> Result<Order, String> {
    let pem = &request.spec.request.0;
    let asked = requests::read(pem).map_err(|error| error.to_string())?;
    let usages = request.spec.usages.clone().unwrap_or_default();
    match signer {
        requests::KUBELET_CLIENT => requests::check_kubelet_client(&asked, &usages)?,
        requests::KUBELET_SERVING => {
            requests::check_kubelet_serving(&asked, &usages)?;
            if request.spec.username.as_deref() != Some(asked.name.as_str()) {
                return Err("requested common name is not that of the requesting user".to_owned());
            }
        }
        requests::API_CLIENT => requests::check_api_client(&usages)?,
        _ => {}
    }
    if let Some(unknown) = usages.iter().find(|usage| !super::sign::is_known(usage)) {
        return Err(format!("unrecognized usage {unknown:?}"));
    }
    let wanted = request.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let life = wanted.map_or(longest, Duration::from_secs).min(longest).max(SHORTEST);
    let ends = if life < SHORT { now + life } else { now + life - BACKDATED };
    Ok(Order {
        request: requests::der(pem).map_err(|error| error.to_string())?,
        asked,
        usages,
        not_before: now - BACKDATED,
        not_after: ends,
    })
}
