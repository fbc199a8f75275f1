//! The keys of an issuer, from where it publishes them; read again when a token is
//! signed with one that is not known, but not for each such token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::Clock;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use tokio::sync::Mutex;

use super::config::IssuerConfig;
use crate::remote::Remote;

const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// How long an issuer has to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// How soon it is asked again at the soonest: strangers can make up keys.
const AGAIN: Duration = Duration::from_secs(5);
/// How many of its keys are tried for a token that names none.
const MOST: usize = 16;

/// The keys of one issuer.
pub(super) struct Keys {
    issuer: String,
    discovery: String,
    remote: Remote,
    clock: Arc<dyn Clock>,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    at: Option<Instant>,
    set: Arc<Vec<Jwk>>,
    /// Why the last reading failed.
    trouble: Option<String>,
}

impl Keys {
    pub(super) fn new(of: &IssuerConfig, clock: Arc<dyn Clock>) -> Self {
        let discovery = if of.discovery_url.is_empty() {
            format!("{}{WELL_KNOWN}", of.url.trim_end_matches('/'))
        } else {
            of.discovery_url.clone()
        };
        let ca =
            (!of.certificate_authority.is_empty()).then(|| of.certificate_authority.clone().into_bytes());
        let remote = Remote::new(&of.url, ca, LIMIT, Arc::clone(&clock));
        Self { issuer: of.url.clone(), discovery, remote, clock, read: Mutex::default() }
    }

    /// The keys that may have signed a token, as far as they are known: the one it
    /// names, or those of its sort.
    pub(super) async fn known(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<DecodingKey> {
        fitting(&self.read.lock().await.set, id, algorithm)
    }

    /// The same, after the issuer was asked, unless it was asked a moment ago.
    pub(super) async fn renewed(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<DecodingKey>, String> {
        // Who comes while they are read waits for them.
        let mut read = self.read.lock().await;
        let now = self.clock.monotonic();
        if read.at.is_some_and(|at| now.saturating_duration_since(at) < AGAIN) {
            let found = fitting(&read.set, id, algorithm);
            return read.trouble.clone().map_or(Ok(found), Err);
        }
        read.at = Some(now);
        match self.fetch().await {
            Ok(keys) => (read.set, read.trouble) = (Arc::new(keys), None),
            Err(why) => {
                tracing::warn!(issuer = self.issuer, why, "cannot read the keys of an issuer");
                read.trouble = Some(why.clone());
                return Err(why);
            }
        }
        Ok(fitting(&read.set, id, algorithm))
    }

    async fn fetch(&self) -> Result<Vec<Jwk>, String> {
        let said = |error: &dyn std::error::Error| {
            let below = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{below}")
        };
        let document = self.remote.get(&self.discovery).await.map_err(|error| said(&error))?;
        let document: Value = serde_json::from_slice(&document).map_err(|error| said(&error))?;
        if document["issuer"] != self.issuer.as_str() {
            return Err(format!("{} is of the issuer {}", self.discovery, document["issuer"]));
        }
        let url = document["jwks_uri"].as_str().ok_or("the issuer does not say where its keys are")?;
        let keys = self.remote.get(url).await.map_err(|error| said(&error))?;
        read(&keys)
    }
}

/// The keys of a set that can be used; others are left out.
fn read(bytes: &[u8]) -> Result<Vec<Jwk>, String> {
    let mut set: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let keys = set["keys"].as_array_mut().ok_or("the issuer's keys are no set")?;
    let known = std::mem::take(keys).into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect();
    Ok(JwkSet { keys: known }.keys)
}

fn fitting(keys: &[Jwk], id: Option<&str>, algorithm: Algorithm) -> Vec<DecodingKey> {
    let fits = |key: &&Jwk| {
        let is_named = id.is_none_or(|id| key.common.key_id.as_deref() == Some(id));
        let signs = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
        let is_for = key.common.key_algorithm.is_none_or(|of| of.to_string() == format!("{algorithm:?}"));
        is_named && signs && is_for
    };
    let decoding = keys.iter().filter(fits).take(MOST).filter_map(|key| DecodingKey::from_jwk(key).ok());
    decoding.filter(|key| algorithm.family() == key.family()).collect()
}
