//! Which signatures the description has: one of each token that may sign.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::types::core::v1::Secret;
use jiff::Timestamp;
use reconcile::{Action, Plan};
use serde_json::{Map, Value, json};

use super::Observed;
use super::signature::sign;
use crate::owners;

const SIGNED: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let description = &*observed.description;
    let none = BTreeMap::new();
    let data = description.data.as_ref().unwrap_or(&none);
    let Some(text) = data.get(SIGNED) else { return Plan::default() };
    let present: BTreeMap<&str, &str> = data
        .iter()
        .filter(|(key, _)| key.starts_with(SIGNATURE))
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let mut changes: Map<String, Value> =
        present.keys().map(|key| ((*key).to_owned(), Value::Null)).collect();
    let mut wake = Vec::new();
    for token in &observed.tokens {
        let Some((id, secret)) = signing(token, now) else { continue };
        wake.extend(expiration(token));
        let key = format!("{SIGNATURE}{id}");
        let signature = sign(text, &id, &secret);
        if present.get(key.as_str()) == Some(&signature.as_str()) {
            changes.remove(&key);
        } else {
            changes.insert(key, signature.into());
        }
    }
    let mut plan = Plan::default();
    if !changes.is_empty() {
        plan.actions.push(Action::patch_unchanged(description, json!({"data": changes})));
    }
    for end in wake {
        if let Ok(left) = end.duration_since(now).try_into() {
            plan.wake(left);
        }
    }
    plan
}

fn text(token: &Secret, key: &str) -> Option<String> {
    let data = token.data.as_ref()?.get(key)?;
    String::from_utf8(data.0.clone()).ok().filter(|text| !text.is_empty())
}

fn expiration(token: &Secret) -> Option<Timestamp> {
    text(token, "expiration")?.parse().ok()
}

/// The id and the secret of a token that may sign; its name must hold the id.
fn signing(token: &Arc<Secret>, now: Timestamp) -> Option<(String, String)> {
    let id = text(token, "token-id")?;
    let secret = text(token, "token-secret")?;
    let named = owners::name(&**token).strip_prefix("bootstrap-token-") == Some(&id);
    let signs = text(token, "usage-bootstrap-signing").as_deref() == Some("true");
    // A time that cannot be read is over.
    let expired = text(token, "expiration").is_some() && expiration(token).is_none_or(|end| end <= now);
    (named && signs && !expired).then_some((id, secret))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;
    use crate::testing::{now, object};

    fn token(id: &str, changes: &[(&str, &str)]) -> Arc<Secret> {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let mut data = BTreeMap::from([
            ("token-id", encode(id)),
            ("token-secret", encode("0123456789abcdef")),
            ("usage-bootstrap-signing", encode("true")),
        ]);
        data.extend(changes.iter().map(|(key, value)| (*key, encode(value))));
        Arc::new(object(json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "data": data})))
    }

    fn changes(data: Value, tokens: Vec<Arc<Secret>>) -> Value {
        let description = Arc::new(object(json!({"metadata": {"name": "cluster-info"}, "data": data})));
        let planned = plan(&Observed { description, tokens }, now());
        match planned.actions.first() {
            Some(Action::Patch { patch: client::Patch::Merge(patch), .. }) => patch["data"].clone(),
            _ => Value::Null,
        }
    }

    #[test]
    fn each_valid_token_signs_and_no_other_signature_stays() {
        let signature = sign("x", "abcdef", "0123456789abcdef");
        let signed = json!({"jws-kubeconfig-abcdef": signature});
        assert_eq!(changes(json!({"kubeconfig": "x"}), vec![token("abcdef", &[])]), signed);
        assert_eq!(changes(json!({}), vec![token("abcdef", &[])]), Value::Null);
        let done = json!({"kubeconfig": "x", "jws-kubeconfig-abcdef": signature});
        assert_eq!(changes(done.clone(), vec![token("abcdef", &[])]), Value::Null);
        for barred in [
            ("usage-bootstrap-signing", "false"),
            ("token-id", "ghijkl"),
            ("expiration", "2026-11-23T11:00:00Z"),
            ("expiration", "soon"),
            ("token-secret", ""),
        ] {
            let left = changes(done.clone(), vec![token("abcdef", &[barred])]);
            assert_eq!(left, json!({"jws-kubeconfig-abcdef": null}), "{barred:?}");
        }
    }
}
