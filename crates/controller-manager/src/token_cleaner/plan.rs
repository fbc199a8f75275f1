//! Whether, and when, a token goes.

use std::time::Duration;

use api::types::core::v1::Secret;
use jiff::Timestamp;
use reconcile::{Action, Plan};

const EXPIRATION: &str = "expiration";

pub(super) fn plan(token: &Secret, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let data = token.data.as_ref().and_then(|data| data.get(EXPIRATION));
    let Some(expiration) = data.filter(|bytes| !bytes.0.is_empty()) else { return plan };
    // A time that cannot be read is over, as the API server sees it too.
    let end = std::str::from_utf8(&expiration.0).ok().and_then(|text| text.parse::<Timestamp>().ok());
    let left = end.and_then(|end| Duration::try_from(end.duration_since(now)).ok());
    match left.filter(|left| !left.is_zero()) {
        Some(left) => plan.wake(left),
        None => plan.actions.push(Action::delete(token)),
    }
    plan
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use serde_json::json;

    use super::*;
    use crate::testing::{now, object};

    #[test]
    fn a_token_goes_when_it_has_expired() {
        let plan_of = |expiration: &str| {
            let encoded = base64::engine::general_purpose::STANDARD.encode(expiration);
            let token: Secret = object(json!({
                "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system", "uid": "u"},
                "data": {EXPIRATION: encoded},
            }));
            let plan = plan(&token, now());
            (plan.actions.len(), plan.wake_after.map(|after| after.as_secs()))
        };
        assert_eq!(plan_of("2026-11-23T12:01:00Z"), (0, Some(60)));
        assert_eq!(plan_of("2026-11-23T12:00:00Z"), (1, None));
        assert_eq!(plan_of("2026-11-23T14:00:00+03:00"), (1, None));
        assert_eq!(plan_of("soon"), (1, None));
        assert_eq!(plan_of(""), (0, None));
        assert_eq!(plan(&Secret::default(), now()), Plan::default());
    }
}
