//! Bootstrap tokens: `ID.SECRET`, known by a secret in `kube-system`, with
//! which a machine proves that an administrator wants it in the cluster.
//!
//! The rules are upstream's (`plugin/pkg/auth/authenticator/token/bootstrap`).
//! Secrets are looked up in the watch cache; the store is never asked, so that
//! guessing costs the server nothing.

use std::sync::Arc;

use api::Object;
use base64::Engine as _;
use jiff::Timestamp;
use subtle::ConstantTimeEq as _;

use super::{AUTHENTICATED, User};
use crate::cache::WatchCache;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
/// The group of everybody with a bootstrap token; further groups lie below it.
const GROUP: &str = "system:bootstrappers";
/// The longest name of a further group behind `system:bootstrappers:`.
const MAX_GROUP: usize = 256;

/// Why a bootstrap token is refused; for the log only.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BootstrapTokenError {
    /// There is no such token, or its secret part is another.
    #[error("there is no bootstrap token {0:?} with this secret")]
    Unknown(String),
    /// The token has expired, or nobody can tell when it does.
    #[error("the bootstrap token {0:?} has expired")]
    Expired(String),
    /// The token is for something else.
    #[error("the bootstrap token {0:?} is not for authentication")]
    OtherUsage(String),
    /// A further group is not one that a token may give.
    #[error("the bootstrap token {id:?} gives the group {group:?}")]
    Group {
        /// The token's id.
        id: String,
        /// The group.
        group: String,
    },
}

/// Knows the bootstrap tokens of the cluster.
pub struct BootstrapTokens {
    cache: Arc<WatchCache>,
}

impl BootstrapTokens {
    /// The tokens whose secrets are in the cache.
    #[must_use]
    pub const fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache }
    }

    /// The user of a token; `None` for what is no bootstrap token by its shape.
    ///
    /// # Errors
    /// Why the token is not valid.
    pub(super) fn authenticate(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Option<Result<User, BootstrapTokenError>> {
        let (id, secret) = split(token)?;
        let found = self.cache.resource("", "secrets").get(NAMESPACE, &format!("bootstrap-token-{id}"));
        let stored = found.and_then(|stored| stored.object().ok());
        Some(match stored {
            Some(object) => judge(&object, id, secret, now),
            None => Err(BootstrapTokenError::Unknown(id.to_owned())),
        })
    }
}

/// The two parts of a token of the right shape.
fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let fits = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (fits(id, ID_LENGTH) && fits(secret, SECRET_LENGTH)).then_some((id, secret))
}

fn judge(object: &Object, id: &str, secret: &str, now: Timestamp) -> Result<User, BootstrapTokenError> {
    let data = |key: &str| {
        let encoded = object.text(&["data", key]);
        base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default()
    };
    let text = |key: &str| String::from_utf8(data(key)).unwrap_or_default();
    let is_secret_right = bool::from(data("token-secret").as_slice().ct_eq(secret.as_bytes()));
    let is_token = object.text(&["type"]) == TYPE && !object.is_terminating();
    if !is_token || !is_secret_right || text("token-id") != id {
        return Err(BootstrapTokenError::Unknown(id.to_owned()));
    }
    let expiration = text("expiration");
    // A time that cannot be read is over.
    if !expiration.is_empty() && expiration.parse::<Timestamp>().map_or(true, |end| end <= now) {
        return Err(BootstrapTokenError::Expired(id.to_owned()));
    }
    if text("usage-bootstrap-authentication") != "true" {
        return Err(BootstrapTokenError::OtherUsage(id.to_owned()));
    }
    let mut groups = vec![GROUP.to_owned()];
    for group in text("auth-extra-groups").split(',').map(str::trim).filter(|group| !group.is_empty()) {
        if !is_bootstrap_group(group) {
            return Err(BootstrapTokenError::Group { id: id.to_owned(), group: group.to_owned() });
        }
        groups.push(group.to_owned());
    }
    groups.sort();
    groups.dedup();
    groups.push(AUTHENTICATED.to_owned());
    Ok(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

/// Whether a token may give a group: only groups below that of all tokens.
fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends_plainly = rest.bytes().next_back().is_some_and(plain);
    ends_plainly
        && rest.len() <= MAX_GROUP
        && rest.bytes().all(|byte| plain(byte) || matches!(byte, b':' | b'-'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

    fn secret(changes: Value) -> Object {
        let mut secret = json!({
            "type": TYPE,
            "metadata": {"name": "bootstrap-token-abcdef", "namespace": NAMESPACE},
            "data": {
                "token-id": "abcdef", "token-secret": "0123456789abcdef",
                "usage-bootstrap-authentication": "true",
            },
        });
        api::patch::merge_patch(&mut secret, changes);
        if let Some(data) = secret["data"].as_object_mut() {
            for value in data.values_mut() {
                let text = value.as_str().expect("text");
                *value = base64::engine::general_purpose::STANDARD.encode(text).into();
            }
        }
        Object::from_value(secret).expect("an object")
    }

    #[test]
    fn the_shape_of_a_token() {
        assert_eq!(split("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for other in [
            "",
            "abcdef",
            "abcde.0123456789abcdef",
            "ABCDEF.0123456789abcdef",
            "a.b.c",
            "abcdef.0123456789abcde.",
        ] {
            assert_eq!(split(other), None, "{other}");
        }
    }

    #[test]
    fn a_good_token_is_a_user_and_its_groups() {
        let more = json!({"data": {"auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token"}});
        let user = judge(&secret(more), "abcdef", "0123456789abcdef", NOW).expect("a user");
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(
            user.groups,
            [GROUP, "system:bootstrappers:kubeadm:default-node-token", AUTHENTICATED].map(str::to_owned)
        );
    }

    #[test]
    fn what_makes_a_token_bad() {
        use BootstrapTokenError::{Expired, Group, OtherUsage, Unknown};
        let id = || "abcdef".to_owned();
        let group = |group: &str| Group { id: id(), group: group.to_owned() };
        let cases = [
            (json!({"data": {"token-secret": "0123456789abcdee"}}), Unknown(id())),
            (json!({"data": {"token-secret": null}}), Unknown(id())),
            (json!({"data": {"token-id": "fedcba"}}), Unknown(id())),
            (json!({"type": "Opaque"}), Unknown(id())),
            (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), Unknown(id())),
            (json!({"data": {"expiration": "2026-09-21T14:13:20Z"}}), Expired(id())),
            (json!({"data": {"expiration": "soon"}}), Expired(id())),
            (json!({"data": {"usage-bootstrap-authentication": "false"}}), OtherUsage(id())),
            (json!({"data": {"usage-bootstrap-authentication": null}}), OtherUsage(id())),
            (json!({"data": {"auth-extra-groups": "system:masters"}}), group("system:masters")),
            (
                json!({"data": {"auth-extra-groups": "system:bootstrappers:a,system:bootstrappers:B"}}),
                group("system:bootstrappers:B"),
            ),
            (json!({"data": {"auth-extra-groups": "system:bootstrappers:"}}), group("system:bootstrappers:")),
        ];
        for (changes, expected) in cases {
            let judged = judge(&secret(changes.clone()), "abcdef", "0123456789abcdef", NOW);
            assert_eq!(judged, Err(expected), "{changes}");
        }
        let later = secret(json!({"data": {"expiration": "2026-09-21T14:13:21Z"}}));
        assert!(judge(&later, "abcdef", "0123456789abcdef", NOW).is_ok());
    }
}
