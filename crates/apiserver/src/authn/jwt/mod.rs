//! Tokens of other issuers: JSON web tokens of OpenID Connect, verified with the
//! keys that the issuer publishes.

mod claims;
mod config;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use daemon::Clock;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use super::User;
use crate::expiring::Expiring;
use claims::{Claims, Mapping};
use keys::Keys;

pub use config::Anonymous;
pub(crate) use config::{ClaimRule, Configuration, IssuerConfig, Jwt, Mappings, Prefixed};

/// How much before its time a token is taken: clocks differ.
const EARLY: i64 = 300;
/// Users that are remembered, and for how long.
const REMEMBERED: usize = 4096;
const KEEP: Duration = Duration::from_secs(10);

/// Why a token is refused; for the log only.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// Its signature is not good.
    #[error("verify a token of {issuer}")]
    Invalid {
        /// The issuer.
        issuer: String,
        /// Why.
        source: jsonwebtoken::errors::Error,
    },
    /// The issuer's keys cannot be had.
    #[error("get the keys of {issuer}: {why}")]
    Keys {
        /// The issuer.
        issuer: String,
        /// Why.
        why: String,
    },
    /// The token is not for this server, or not now.
    #[error("a token of {issuer}: {why}")]
    Claims {
        /// The issuer.
        issuer: String,
        /// Why.
        why: String,
    },
}

/// An issuer whose tokens are taken.
pub struct Issuer {
    url: String,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    mapping: Mapping,
    keys: Keys,
    clock: Arc<dyn Clock>,
    known: Expiring<[u8; 32], (i64, Arc<User>)>,
}

impl Issuer {
    /// An issuer as it is configured; its keys are read when its first token comes.
    ///
    /// # Errors
    /// Expressions that do not compile, or algorithms that are not known.
    pub(crate) fn new(config: &Jwt, algorithms: &[String], clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let of = &config.issuer;
        Ok(Self {
            url: of.url.clone(),
            audiences: of.audiences.clone(),
            algorithms: algorithms.iter().map(|name| algorithm(name)).collect::<Result<_, _>>()?,
            mapping: config.mapping()?,
            keys: Keys::new(of, Arc::clone(clock)),
            clock: Arc::clone(clock),
            known: Expiring::new(REMEMBERED, Arc::clone(clock)),
        })
    }

    /// The user of a token; `None` for one of another issuer.
    ///
    /// # Errors
    /// Why the token is not valid.
    pub(super) async fn authenticate(&self, token: &str) -> Option<Result<Arc<User>, JwtError>> {
        if issuer_of(token)? != self.url {
            return None;
        }
        let now = self.clock.now().as_second();
        let digest: [u8; 32] =
            sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), token)).into();
        if let Some((until, user)) = self.known.get(&digest)
            && now < until
        {
            return Some(Ok(user));
        }
        let verified = self.verify(token, now).await;
        Some(verified.map(|(until, user)| {
            self.known.put(digest, (until, Arc::clone(&user)), KEEP);
            user
        }))
    }

    async fn verify(&self, token: &str, now: i64) -> Result<(i64, Arc<User>), JwtError> {
        let issuer = || self.url.clone();
        let invalid = |source| JwtError::Invalid { issuer: issuer(), source };
        let refused = |why: String| JwtError::Claims { issuer: issuer(), why };
        let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
        // The token does not choose what is good enough for it.
        if !self.algorithms.contains(&header.alg) {
            return Err(refused(format!("signed with {:?}, which is not allowed", header.alg)));
        }
        let mut rules = Validation::new(header.alg);
        rules.set_issuer(&[&self.url, &self.url.trim_start_matches("https://").to_owned()]);
        // Times and audiences are checked below, by the server's own clock.
        (rules.validate_exp, rules.validate_aud) = (false, false);
        rules.set_required_spec_claims(&["iss", "exp", "aud"]);
        let id = header.kid.as_deref();
        let known = self.keys.known(id, header.alg).await;
        let claims = match signed(token, &known, &rules) {
            Ok(claims) => claims,
            // The issuer may have other keys by now.
            Err(_) => {
                let keys = self.keys.renewed(id, header.alg).await;
                let keys = keys.map_err(|why| JwtError::Keys { issuer: issuer(), why })?;
                signed(token, &keys, &rules).map_err(|error| match error {
                    Some(error) => invalid(error),
                    None => refused("signed with a key that the issuer does not have".to_owned()),
                })?
            }
        };
        let until = self.check(&claims, now).map_err(refused)?;
        let user = self.mapping.user(&claims).map_err(|error| refused(format!("{error:#}")))?;
        Ok((until, Arc::new(user)))
    }

    /// Whether the token is for now and for this server; until when it is.
    fn check(&self, claims: &Claims, now: i64) -> Result<i64, String> {
        // Seconds, perhaps with a fraction.
        let time = |name: &str| claims.get(name).and_then(Value::as_f64).map(|seconds| seconds as i64);
        let until = time("exp").ok_or("it does not say until when it is good")?;
        if until <= now {
            return Err(format!("it expired at {until} seconds since 1970"));
        }
        if let Some(from) = time("nbf").filter(|from| *from > now + EARLY) {
            return Err(format!("it is good only from {from} seconds since 1970 on"));
        }
        let audiences = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(one)) => vec![one.as_str()],
            _ => Vec::new(),
        };
        if !self.audiences.iter().any(|own| audiences.contains(&own.as_str())) {
            return Err(format!("expected audience in {:?} got {audiences:?}", self.audiences));
        }
        Ok(until)
    }
}

/// The claims of a token that one of the keys has signed; else why the last did not.
fn signed(
    token: &str,
    keys: &[DecodingKey],
    rules: &Validation,
) -> Result<Claims, Option<jsonwebtoken::errors::Error>> {
    let mut last = None;
    for key in keys {
        match jsonwebtoken::decode::<Claims>(token, key, rules) {
            Ok(decoded) => return Ok(decoded.claims),
            Err(error) => last = Some(error),
        }
    }
    Err(last)
}

fn algorithm(name: &str) -> anyhow::Result<Algorithm> {
    Ok(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        other => anyhow::bail!("unsupported signing alg: {other:?}"),
    })
}

/// The algorithms that are known.
pub(crate) const ALGORITHMS: [&str; 8] =
    ["ES256", "ES384", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// Who a token says that it is from; nothing of it is verified.
pub(super) fn issuer_of(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (payload, signature) = (parts.nth(1)?, parts.next()?);
    if parts.next().is_some() || signature.is_empty() {
        return None;
    }
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    Some(match claims["iss"].as_str()? {
        // Its tokens have always left the scheme out.
        "accounts.google.com" => "https://accounts.google.com".to_owned(),
        issuer => issuer.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_token_is() {
        let token =
            |claims: &str| format!("h.{}.s", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(issuer_of(&token(r#"{"iss":"https://i"}"#)).as_deref(), Some("https://i"));
        assert_eq!(
            issuer_of(&token(r#"{"iss":"accounts.google.com"}"#)).as_deref(),
            Some("https://accounts.google.com")
        );
        for other in ["", "a.b", "a.b.c", "a.b.c.d", &token("{}"), &token("1")] {
            assert_eq!(issuer_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_algorithms() {
        assert!(ALGORITHMS.iter().all(|name| algorithm(name).is_ok()));
        for other in ["HS256", "none", "EdDSA", ""] {
            assert!(algorithm(other).is_err(), "{other}");
        }
    }
}
