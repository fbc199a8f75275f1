//! Who asks: by client certificate, by service account token, or by bootstrap
//! token.

mod bootstrap_token;
mod service_account;
mod x509;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Status;
use daemon::Clock;
use daemon::server::Peer;

pub use bootstrap_token::{BootstrapTokenError, BootstrapTokens};
pub use service_account::{Bound, IssuedToken, TokenError, Tokens};

/// The group of everybody who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of all nodes.
pub const NODES: &str = "system:nodes";
/// Whoever did not say who they are.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that may do everything.
pub const MASTERS: &str = "system:masters";

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// Unique over time, where the name is not; may be empty.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Further facts.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// Whether the user is in a group.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// The node that the user is, if it is one.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|_| self.is_in(NODES))
    }
}

/// The namespace and name of the service account that a user name is.
#[must_use]
pub fn service_account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let is_one = resources::names::dns_label(namespace, false).is_empty()
        && resources::names::dns_subdomain(name, false).is_empty();
    is_one.then_some((namespace, name))
}

/// Why a bearer token is refused; for the log only.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// By the rules of service account tokens.
    #[error(transparent)]
    ServiceAccount(#[from] TokenError),
    /// By the rules of bootstrap tokens.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapTokenError),
}

/// Finds out who asks.
pub struct Authenticator {
    tokens: Arc<Tokens>,
    clock: Arc<dyn Clock>,
    bootstrap: Option<BootstrapTokens>,
}

impl Authenticator {
    /// An authenticator that takes the given tokens, and certificates that the
    /// TLS layer has verified.
    #[must_use]
    pub const fn new(tokens: Arc<Tokens>, bootstrap: Option<BootstrapTokens>, clock: Arc<dyn Clock>) -> Self {
        Self { tokens, bootstrap, clock }
    }

    /// The user behind a connection's certificate or a request's bearer token;
    /// anonymous where there is neither.
    ///
    /// # Errors
    /// A token that is not valid, or a certificate that is not, without a token.
    pub async fn authenticate(&self, peer: &Peer, authorization: Option<&[u8]>) -> Result<Arc<User>, Status> {
        let leaf = || peer.certificates.as_ref().and_then(|chain| chain.first());
        let shown = peer.remember(|| leaf().and_then(|leaf| x509::identity(leaf))).and_then(Option::as_ref);
        let has_ended = match shown {
            Some(identity) if identity.until >= self.clock.now() => return Ok(Arc::clone(&identity.user)),
            other => other.is_some(),
        };
        match authorization.and_then(bearer) {
            Some(token) => self.token(token, &[]).await.map_err(|why| {
                tracing::debug!(%why, "a bearer token was refused");
                Status::unauthorized()
            }),
            None if has_ended || peer.refused.is_some() => {
                let why = peer.refused.as_deref().unwrap_or("it has expired");
                tracing::debug!(peer = %peer.address, why, "a client certificate was refused");
                Err(Status::unauthorized())
            }
            None => Ok(Arc::new(User::anonymous())),
        }
    }

    /// The user of a token that is meant for one of `audiences` (none given: for
    /// this server). Bootstrap tokens are always for this server.
    ///
    /// # Errors
    /// Why the token is not valid.
    pub async fn token(&self, token: &str, audiences: &[String]) -> Result<Arc<User>, Refused> {
        let is_for_us =
            audiences.is_empty() || audiences.iter().any(|one| self.tokens.audiences().contains(one));
        let bootstrap = self.bootstrap.as_ref().filter(|_| is_for_us);
        if let Some(judged) = bootstrap.and_then(|known| known.authenticate(token, self.tokens.now())) {
            return Ok(Arc::new(judged?));
        }
        Ok(self.tokens.authenticate(token, audiences).await?)
    }

    /// The service account tokens.
    #[must_use]
    pub const fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }
}

fn bearer(header: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(header).ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}
