//! Whether a token is still needed.

use std::time::Duration;

use api::types::core::v1::{Pod, Secret, ServiceAccount};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use reconcile::{Action, Plan};
use serde_json::json;

use super::Observed;
use crate::owners;

/// The config map that says since when the use of tokens is noted.
pub(super) const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const SINCE: &str = "since";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// How often tokens are looked at.
const INTERVAL: Duration = Duration::from_secs(24 * 3600);

fn annotation<'a>(token: &'a Secret, name: &str) -> Option<&'a str> {
    token.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn label<'a>(token: &'a Secret, name: &str) -> Option<&'a str> {
    token.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// The name of a token's account.
pub(super) fn account_of(token: &Secret) -> Option<&str> {
    annotation(token, "kubernetes.io/service-account.name")
}

/// The names of the secrets that a pod uses.
pub(super) fn secrets_of(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut names: Vec<String> =
        spec.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()).collect();
    for volume in spec.volumes.iter().flatten() {
        names.extend(volume.secret.as_ref().and_then(|secret| secret.secret_name.clone()));
        let projected = volume.projected.iter().flat_map(|one| one.sources.iter().flatten());
        names.extend(projected.filter_map(|source| Some(source.secret.as_ref()?.name.clone())));
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for container in containers {
        let whole = container
            .env_from
            .iter()
            .flatten()
            .filter_map(|from| Some(from.secret_ref.as_ref()?.name.clone()));
        let single =
            container.env.iter().flatten().filter_map(|variable| {
                Some(variable.value_from.as_ref()?.secret_key_ref.as_ref()?.name.clone())
            });
        names.extend(whole.chain(single));
    }
    names
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if let Some(action) = action(observed, now) {
        plan.actions.push(action);
    }
    plan.wake(INTERVAL);
    plan
}

fn action(observed: &Observed, now: Timestamp) -> Option<Action> {
    let token = &*observed.token;
    let preserved = now.checked_sub(observed.period).ok()?;
    let day = |time: Timestamp| time.to_zoned(TimeZone::UTC).date();
    let tracking = observed.tracking.as_ref()?.data.as_ref()?.get(SINCE)?.parse::<Date>().ok()?;
    // The day itself does not count: the notes may have begun at its end.
    let noted = tracking.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    let created = token.metadata.creation_timestamp.as_ref()?.0;
    if noted > preserved || created >= preserved || token.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if let Some(used) = label(token, LAST_USED)
        && used.parse::<Date>().ok()? >= day(preserved)
    {
        return None;
    }
    let name = owners::name(token);
    if !is_automatic(token, observed.account.as_deref()?) || observed.mounted.contains(name) {
        return None;
    }
    match label(token, INVALID_SINCE).and_then(|text| text.parse::<Date>().ok()) {
        None => {
            let patch = json!({"metadata": {"labels": {INVALID_SINCE: day(now).to_string()}}});
            Some(Action::patch(token, patch))
        }
        Some(since) if since >= day(preserved) => None,
        Some(_) => {
            let mut delete = Action::delete(token);
            if let Action::Delete { options, .. } = &mut delete
                && let Some(conditions) = &mut options.preconditions
            {
                // It may have been used this moment.
                conditions.resource_version.clone_from(&token.metadata.resource_version);
            }
            Some(delete)
        }
    }
}

/// Whether a token was made for its account by the cluster, not by somebody.
fn is_automatic(token: &Secret, account: &ServiceAccount) -> bool {
    let uid = annotation(token, "kubernetes.io/service-account.uid").unwrap_or_default();
    let mut listed = account.secrets.iter().flatten();
    (uid.is_empty() || uid == owners::uid(account))
        && listed.any(|secret| secret.name.as_deref() == Some(owners::name(token)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use jiff::SignedDuration;
    use serde_json::Value;

    use super::*;
    use crate::testing::{now, object, pod};

    fn verb(labels: Value, changes: Value, mounted: &[&str]) -> Option<&'static str> {
        let mut token = json!({
            "metadata": {"name": "t", "namespace": "ns", "uid": "u", "creationTimestamp": "2025-01-01T00:00:00Z",
                "annotations": {"kubernetes.io/service-account.name": "a", "kubernetes.io/service-account.uid": "uid-a"},
                "labels": labels},
        });
        api::patch::merge_patch(&mut token, changes);
        let observed = Observed {
            token: Arc::new(object(token)),
            account: Some(Arc::new(object(
                json!({"metadata": {"name": "a", "uid": "uid-a"}, "secrets": [{"name": "t"}]}),
            ))),
            mounted: mounted.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
            tracking: Some(Arc::new(object(json!({"data": {"since": "2025-06-01"}})))),
            period: SignedDuration::from_hours(24 * 365),
        };
        plan(&observed, now()).actions.first().map(Action::verb)
    }

    #[test]
    fn a_token_goes_in_two_steps_when_nobody_uses_it() {
        let used = |day: &str| json!({LAST_USED: day});
        let invalid = |day: &str| json!({INVALID_SINCE: day});
        assert_eq!(verb(json!({}), json!({}), &[]), Some("patch"));
        assert_eq!(verb(used("2025-11-22"), json!({}), &[]), Some("patch"));
        assert_eq!(verb(used("2025-11-24"), json!({}), &[]), None);
        assert_eq!(verb(used("once"), json!({}), &[]), None);
        assert_eq!(verb(invalid("2026-01-01"), json!({}), &[]), None);
        assert_eq!(verb(invalid("2025-10-01"), json!({}), &[]), Some("delete"));
        assert_eq!(verb(json!({}), json!({}), &["t"]), None, "a pod mounts it");
        let recent = json!({"metadata": {"creationTimestamp": "2026-11-01T00:00:00Z"}});
        assert_eq!(verb(json!({}), recent, &[]), None);
        let by_hand = json!({"metadata": {"name": "mine"}});
        assert_eq!(verb(json!({}), by_hand, &[]), None, "the account does not list it");
        let another = json!({"metadata": {"annotations": {"kubernetes.io/service-account.uid": "uid-b"}}});
        assert_eq!(verb(json!({}), another, &[]), None);
    }

    #[test]
    fn a_pod_uses_secrets_in_many_ways() {
        let pod = pod(
            "p",
            json!({"spec": {
                "imagePullSecrets": [{"name": "a"}],
                "volumes": [{"name": "v", "secret": {"secretName": "b"}}, {"name": "w", "projected": {"sources": [{"secret": {"name": "c"}}]}}],
                "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "d"}}],
                    "env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "e", "key": "k"}}}]}],
            }}),
        );
        assert_eq!(secrets_of(&pod), ["a", "b", "c", "d", "e"]);
    }
}
