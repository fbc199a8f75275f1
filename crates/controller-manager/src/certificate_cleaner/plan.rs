//! Whether, and when, a request goes.

use std::time::Duration;

use api::types::certificates::v1::CertificateSigningRequest;
use jiff::Timestamp;
use reconcile::{Action, Plan};
use x509_parser::pem::parse_x509_pem;

use crate::signing_requests as requests;

/// How long a request stays about which something was decided.
const DECIDED: Duration = Duration::from_hours(1);
/// How long a request waits for a decision.
const PENDING: Duration = Duration::from_hours(24);

pub(super) fn plan(request: &CertificateSigningRequest, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if request.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let Some(end) = ends(request) else { return plan };
    let left = end.duration_since(now);
    match Duration::try_from(left) {
        Ok(left) if !left.is_zero() => plan.wake(left),
        _ => plan.actions.push(Action::delete(request)),
    }
    plan
}

/// When nobody needs the request any more.
fn ends(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let kinds = ["Approved", "Denied", "Failed"];
    let decided = kinds.iter().filter_map(|kind| requests::condition(request, kind));
    let times = decided.map(|one| one.last_update_time.as_ref().or(one.last_transition_time.as_ref()));
    let created = request.metadata.creation_timestamp.as_ref()?.0;
    let after = |start: Timestamp, time: Duration| start.checked_add(time).ok();
    let mut is_decided = false;
    let mut end: Option<Timestamp> = None;
    for time in times {
        is_decided = true;
        let one = after(time.map_or(created, |time| time.0), DECIDED);
        end = end.min(one).or(one);
    }
    if !is_decided {
        return after(created, PENDING);
    }
    let expires = requests::certificate(request).and_then(expiry);
    end.map(|end| expires.map_or(end, |expires| expires.min(end)))
}

fn expiry(pem: &[u8]) -> Option<Timestamp> {
    let (_, block) = parse_x509_pem(pem).ok()?;
    let certificate = block.parse_x509().ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{certificate_request, now, signing_request};

    fn left(changes: Value) -> Option<u64> {
        let request = signing_request(&certificate_request("jane", &[], &[]), changes);
        let plan = plan(&request, now());
        assert_ne!(plan.actions.is_empty(), plan.wake_after.is_none());
        plan.wake_after.map(|after| after.as_secs())
    }

    fn decided(kind: &str, at: &str) -> Value {
        json!({"status": {"conditions": [{"type": kind, "status": "True", "lastUpdateTime": at}]}})
    }

    #[test]
    fn requests_go_when_their_time_is_over() {
        let created = |at: &str| json!({"metadata": {"creationTimestamp": at}});
        assert_eq!(left(created("2026-11-23T11:00:00Z")), Some(23 * 3600));
        assert_eq!(left(created("2026-11-22T12:00:00Z")), None);
        for kind in ["Approved", "Denied", "Failed"] {
            assert_eq!(left(decided(kind, "2026-11-23T11:30:00Z")), Some(1800), "{kind}");
            assert_eq!(left(decided(kind, "2026-11-23T11:00:00Z")), None, "{kind}");
        }
    }

    #[test]
    fn a_certificate_that_expired_takes_its_request_along() {
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2026, 11, 23);
        let key = rcgen::KeyPair::generate().expect("key");
        let pem = params.self_signed(&key).expect("certificate").pem();
        use base64::Engine as _;
        let mut changes = decided("Approved", "2026-11-23T11:59:00Z");
        changes["status"]["certificate"] = base64::engine::general_purpose::STANDARD.encode(pem).into();
        assert_eq!(left(changes), None);
    }
}
