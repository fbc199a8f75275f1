//! Service account tokens: JSON web tokens signed by the cluster, bound to a
//! service account and often to a pod, and worth nothing once those are gone.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use daemon::Clock;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{AUTHENTICATED, User};
use crate::cache::WatchCache;

/// Verified signatures remembered, by the token's digest.
const REMEMBERED: usize = 4096;

/// Why a token is refused; for the log only.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is not signed by us, or not for us, or expired.
    #[error("verify the token")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// It has expired.
    #[error("the token expired at {0} seconds since 1970")]
    Expired(i64),
    /// It is not meant for this server.
    #[error("the token is for {0:?}")]
    Audience(Vec<String>),
    /// What it is bound to is gone.
    #[error("the token is bound to {what} {name:?}, which does not exist any more")]
    Unbound {
        /// The kind.
        what: &'static str,
        /// The name.
        name: String,
    },
}

/// What a token is bound to besides its service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    nbf: i64,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Bound,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pod: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    secret: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    node: Option<Bound>,
}

/// What a token is worth nothing without, besides its service account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// A pod.
    pub pod: Option<Bound>,
    /// A secret.
    pub secret: Option<Bound>,
    /// A node: that of the pod, or the node itself.
    pub node: Option<Bound>,
}

/// A token just made.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token itself.
    pub token: String,
    /// Until when it is good.
    pub expires: jiff::Timestamp,
}

/// Signs and verifies.
pub struct Tokens {
    issuer: String,
    keys_url: String,
    audiences: Vec<String>,
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: DecodingKey,
    key_id: String,
    public_pem: Vec<u8>,
    cache: Arc<WatchCache>,
    clock: Arc<dyn Clock>,
    verified: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl Tokens {
    /// Reads the keys: an elliptic (P-256) or RSA pair, PEM.
    ///
    /// # Errors
    /// A file that cannot be read, or is no key.
    pub fn load(
        private: &Path,
        public: &Path,
        (issuer, keys_url): (&str, String),
        audiences: Vec<String>,
        cache: Arc<WatchCache>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
        let (private_pem, public_pem) = (read(private)?, read(public)?);
        let (algorithm, signing, verifying) = match EncodingKey::from_ec_pem(&private_pem) {
            Ok(signing) => (Algorithm::ES256, signing, DecodingKey::from_ec_pem(&public_pem)),
            Err(_) => {
                let signing = EncodingKey::from_rsa_pem(&private_pem).with_context(|| {
                    format!("{} is neither an EC nor an RSA private key", private.display())
                })?;
                (Algorithm::RS256, signing, DecodingKey::from_rsa_pem(&public_pem))
            }
        };
        let verifying = verifying
            .with_context(|| format!("{} is no public key that fits the private key", public.display()))?;
        use base64::Engine as _;
        let key_id = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(&public_pem));
        let verified = Mutex::default();
        let issuer = issuer.to_owned();
        Ok(Self {
            issuer,
            keys_url,
            audiences,
            algorithm,
            signing,
            verifying,
            key_id,
            public_pem,
            cache,
            clock,
            verified,
        })
    }

    /// The audiences that this server is.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The time by which tokens are judged.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// The issuer's name.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where the public keys are served.
    #[must_use]
    pub fn keys_url(&self) -> &str {
        &self.keys_url
    }

    /// The name of the signatures' algorithm.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        if self.algorithm == Algorithm::ES256 { "ES256" } else { "RS256" }
    }

    /// What tells the key from others.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public key, PEM.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_pem
    }

    /// Makes a token for a service account.
    ///
    /// # Errors
    /// The signature cannot be made.
    pub fn issue(
        &self,
        namespace: &str,
        account: Bound,
        bound: Bindings,
        audiences: Vec<String>,
        seconds: i64,
    ) -> Result<IssuedToken, TokenError> {
        let now = self.clock.now().as_second();
        let claims = Claims {
            aud: if audiences.is_empty() { self.audiences.clone() } else { audiences },
            exp: now + seconds,
            iat: now,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            nbf: now,
            sub: format!("system:serviceaccount:{namespace}:{}", account.name),
            kubernetes: Kubernetes {
                namespace: namespace.to_owned(),
                serviceaccount: account,
                pod: bound.pod,
                secret: bound.secret,
                node: bound.node,
            },
        };
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.key_id.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.signing)?;
        let expires = jiff::Timestamp::from_second(claims.exp).unwrap_or(jiff::Timestamp::MAX);
        Ok(IssuedToken { token, expires })
    }

    /// The user of a token that is meant for one of `audiences` (none given:
    /// for this server).
    ///
    /// # Errors
    /// Why the token is not valid.
    pub async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Arc<User>, TokenError> {
        let claims = self.verify(token)?;
        let now = self.clock.now().as_second();
        if claims.exp <= now {
            return Err(TokenError::Expired(claims.exp));
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        if !claims.aud.iter().any(|one| wanted.contains(one)) {
            return Err(TokenError::Audience(claims.aud.clone()));
        }
        if self.bindings(&claims).is_err() {
            // It may have been made a moment ago: look again before refusing.
            if let Err(error) = self.cache.refreshed().await {
                tracing::warn!(%error, "cannot confirm what a token is bound to");
            }
            self.bindings(&claims)?;
        }
        Ok(Arc::new(user(&claims)))
    }

    fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.verified.lock().get(&digest) {
            return Ok(Arc::clone(claims));
        }
        let mut rules = Validation::new(self.algorithm);
        rules.set_issuer(&[&self.issuer]);
        // Expiry and audience are checked at each use, not only at the first.
        rules.validate_exp = false;
        rules.validate_aud = false;
        let claims = Arc::new(jsonwebtoken::decode::<Claims>(token, &self.verifying, &rules)?.claims);
        let mut verified = self.verified.lock();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(digest, Arc::clone(&claims));
        Ok(claims)
    }

    fn bindings(&self, claims: &Claims) -> Result<(), TokenError> {
        let of = &claims.kubernetes;
        let check = |what: &'static str, resource: &str, bound: &Bound| {
            let found = self.cache.resource("", resource).get(&of.namespace, &bound.name);
            if found.is_some_and(|object| object.uid() == bound.uid) {
                Ok(())
            } else {
                Err(TokenError::Unbound { what, name: format!("{}/{}", of.namespace, bound.name) })
            }
        };
        check("service account", "serviceaccounts", &of.serviceaccount)?;
        of.pod.iter().try_for_each(|pod| check("pod", "pods", pod))?;
        // A pod's token is good as long as its pod; one of a node alone, as long as the node.
        if let (None, Some(node)) = (&of.pod, &of.node) {
            let found = self.cache.resource("", "nodes").get("", &node.name);
            if found.is_none_or(|object| object.uid() != node.uid) {
                return Err(TokenError::Unbound { what: "node", name: node.name.clone() });
            }
        }
        of.secret.iter().try_for_each(|secret| check("secret", "secrets", secret))
    }
}

fn user(claims: &Claims) -> User {
    let of = &claims.kubernetes;
    let mut extra = BTreeMap::new();
    extra.insert(super::CREDENTIAL_ID.to_owned(), vec![format!("JTI={}", claims.jti)]);
    if let Some(pod) = &of.pod {
        extra.insert("authentication.kubernetes.io/pod-name".to_owned(), vec![pod.name.clone()]);
        extra.insert("authentication.kubernetes.io/pod-uid".to_owned(), vec![pod.uid.clone()]);
    }
    if let Some(node) = &of.node {
        extra.insert("authentication.kubernetes.io/node-name".to_owned(), vec![node.name.clone()]);
        // The node of a pod may not have been known.
        if !node.uid.is_empty() {
            extra.insert("authentication.kubernetes.io/node-uid".to_owned(), vec![node.uid.clone()]);
        }
    }
    User {
        name: claims.sub.clone(),
        uid: of.serviceaccount.uid.clone(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", of.namespace),
            AUTHENTICATED.to_owned(),
        ],
        extra,
    }
}
