//! Tokens that another server judges, by `TokenReview` (`authentication.k8s.io/v1`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemon::Clock;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::User;
use crate::expiring::Expiring;
use crate::remote::{FIRST_WAIT, Remote, RemoteError};

/// How long the server has to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Answers that are remembered.
const REMEMBERED: usize = 8192;

/// Why a token is refused; for the log only.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WebhookTokenError {
    /// The server does not know the token.
    #[error("the token webhook does not know the token: {0:?}")]
    Unknown(String),
    /// The token is for somebody else.
    #[error("the token is not for any of {0:?}")]
    Audience(Vec<String>),
    /// The server gave no answer.
    #[error("ask the token webhook")]
    Remote(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl From<RemoteError> for WebhookTokenError {
    fn from(error: RemoteError) -> Self {
        Self::Remote(Arc::new(error))
    }
}

type Verdict = Result<Arc<User>, WebhookTokenError>;

/// The server that judges tokens.
pub struct TokenWebhook {
    remote: Remote,
    api_version: String,
    keep: Duration,
    known: Expiring<[u8; 32], Verdict>,
}

impl TokenWebhook {
    /// The server that a kubeconfig names; its answers are kept for a while.
    ///
    /// # Errors
    /// The file cannot be used, or the version is not spoken.
    pub fn load(path: &Path, version: &str, keep: Duration, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        anyhow::ensure!(
            matches!(version, "v1" | "v1beta1"),
            "unsupported authentication webhook version {version:?}, supported versions are \"v1\", \"v1beta1\""
        );
        let remote = Remote::load(path, LIMIT, Arc::clone(&clock))?;
        let api_version = format!("authentication.k8s.io/{version}");
        Ok(Self { remote, api_version, keep, known: Expiring::new(REMEMBERED, clock) })
    }

    /// The user of a token for one of `audiences`; those of this server are `own`.
    ///
    /// # Errors
    /// Why the token is not valid.
    pub(super) async fn authenticate(&self, token: &str, audiences: &[String], own: &[String]) -> Verdict {
        let wanted = if audiences.is_empty() { own } else { audiences };
        let key = digest(token, wanted);
        if let Some(known) = self.known.get(&key) {
            return known;
        }
        let verdict = self.ask(token, wanted, own).await;
        // What the server did not answer is asked again.
        if !matches!(verdict, Err(WebhookTokenError::Remote(_))) {
            self.known.put(key, verdict.clone(), self.keep);
        }
        verdict
    }

    async fn ask(&self, token: &str, wanted: &[String], own: &[String]) -> Verdict {
        let review = json!({
            "kind": "TokenReview", "apiVersion": self.api_version, "metadata": {},
            "spec": {"token": token, "audiences": wanted}, "status": {"user": {}},
        });
        let answer = self.remote.post_again(review.to_string().into(), FIRST_WAIT).await?;
        let answer: Value =
            serde_json::from_slice(&answer).map_err(|error| WebhookTokenError::Remote(Arc::new(error)))?;
        judge(&answer["status"], wanted, own).map(Arc::new)
    }
}

/// Not the token itself is kept, so that nobody finds it in memory.
fn digest(token: &str, audiences: &[String]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn judge(status: &Value, wanted: &[String], own: &[String]) -> Result<User, WebhookTokenError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if status["authenticated"] != true {
        return Err(WebhookTokenError::Unknown(text(&status["error"])));
    }
    let given = texts(&status["audiences"]);
    // A server that says nothing of audiences means this one.
    let given = if given.is_empty() { own } else { &given };
    if !given.iter().any(|one| wanted.contains(one)) {
        return Err(WebhookTokenError::Audience(wanted.to_vec()));
    }
    let user = &status["user"];
    let extra = user["extra"].as_object().into_iter().flatten();
    Ok(User {
        name: text(&user["username"]),
        uid: text(&user["uid"]),
        groups: texts(&user["groups"]),
        extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let own = ["api".to_owned()];
        let other = ["other".to_owned()];
        let user = json!({"username": "jane", "uid": "u", "groups": ["g"], "extra": {"k": ["v"]}});
        let good = json!({"authenticated": true, "user": user});
        let jane = judge(&good, &own, &own).expect("a user");
        assert_eq!((jane.name.as_str(), jane.groups.len(), jane.extra["k"].len()), ("jane", 1, 1));
        assert!(judge(&good, &other, &own).is_err(), "for this server only");
        let for_other = json!({"authenticated": true, "user": user, "audiences": ["other"]});
        assert!(judge(&for_other, &other, &own).is_ok());
        assert!(judge(&for_other, &own, &own).is_err());
        for bad in [json!(null), json!({"user": user}), json!({"authenticated": "true", "user": user})] {
            assert!(judge(&bad, &own, &own).is_err(), "{bad}");
        }
        assert_ne!(digest("ab", &["c".into()]), digest("a", &["bc".into()]));
    }
}
