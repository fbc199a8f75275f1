//! Who asks: as a front proxy says, by client certificate, by service account token, by bootstrap token, by
//! a token of an issuer that is trusted, or by one that a webhook knows.

mod bootstrap_token;
mod flags;
mod front_proxy;
mod jwt;
mod service_account;
mod webhook;
mod x509;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Status;
use daemon::Clock;
use daemon::server::Peer;
use http::HeaderMap;
use http::header::AUTHORIZATION;

pub use bootstrap_token::{BootstrapTokenError, BootstrapTokens};
pub use flags::AuthenticationFlags;
pub use front_proxy::FrontProxyFlags;
pub use jwt::{Anonymous, Issuer, JwtError};
pub use service_account::{Bindings, Bound, IssuedToken, TokenError, Tokens};
pub use webhook::{TokenWebhook, WebhookTokenError};

/// The group of everybody who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Names the credential in a user's extra facts.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
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
    /// By the rules of other issuers.
    #[error(transparent)]
    Issuer(#[from] JwtError),
    /// By a webhook.
    #[error(transparent)]
    Webhook(#[from] WebhookTokenError),
}

/// Finds out who asks.
pub struct Authenticator {
    tokens: Arc<Tokens>,
    clock: Arc<dyn Clock>,
    bootstrap: Option<BootstrapTokens>,
    others: Others,
}

/// What takes the word of others, and who comes without.
pub struct Others {
    /// Clients that say who theirs are.
    pub front_proxies: FrontProxyFlags,
    /// Issuers, told apart by their addresses.
    pub issuers: Vec<Issuer>,
    /// The webhook that is asked last.
    pub webhook: Option<TokenWebhook>,
    /// Who may come without saying who they are.
    pub anonymous: Anonymous,
}

impl Authenticator {
    /// An authenticator that takes the given tokens, and certificates that the
    /// TLS layer has verified.
    #[must_use]
    pub const fn new(
        tokens: Arc<Tokens>,
        bootstrap: Option<BootstrapTokens>,
        others: Others,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { tokens, clock, bootstrap, others }
    }

    /// Whether a user may go on to a path, who may be nobody in particular.
    ///
    /// # Errors
    /// Only who says who they are may.
    pub fn admit(&self, user: &User, path: &str) -> Result<(), Status> {
        let anonymous = &self.others.anonymous;
        let is_for_all = anonymous.enabled
            && (anonymous.conditions.is_empty() || anonymous.conditions.iter().any(|one| one.path == path));
        if user.name == ANONYMOUS && user.is_in(UNAUTHENTICATED) && !is_for_all {
            return Err(Status::unauthorized());
        }
        Ok(())
    }

    /// The user whom a front proxy names, or who is behind a connection's certificate or
    /// a request's bearer token; anonymous where there is nothing of that.
    ///
    /// # Errors
    /// A token that is not valid, or a certificate that is not, without a token.
    pub async fn authenticate(&self, peer: &Peer, headers: &mut HeaderMap) -> Result<Arc<User>, Status> {
        if let Some(user) = self.others.front_proxies.user(peer, headers, self.clock.now()) {
            return Ok(authenticated(Arc::new(user)));
        }
        let leaf = || peer.certificates.as_ref().and_then(|chain| chain.first());
        let shown = peer.remember(|| leaf().and_then(|leaf| x509::identity(leaf))).and_then(Option::as_ref);
        let has_ended = match shown {
            Some(identity) if identity.until >= self.clock.now() => return Ok(Arc::clone(&identity.user)),
            other => other.is_some(),
        };
        match headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())) {
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
        let mut refused: Refused = match self.tokens.authenticate(token, audiences).await {
            Ok(user) => return Ok(user),
            Err(why) => why.into(),
        };
        if is_for_us {
            for issuer in &self.others.issuers {
                match issuer.authenticate(token).await {
                    Some(Ok(user)) => return Ok(authenticated(user)),
                    Some(Err(why)) => refused = why.into(),
                    None => {}
                }
            }
        }
        if let Some(webhook) = &self.others.webhook {
            match webhook.authenticate(token, audiences, self.tokens.audiences()).await {
                Ok(user) => return Ok(authenticated(user)),
                Err(why) => refused = why.into(),
            }
        }
        Err(refused)
    }

    /// The service account tokens.
    #[must_use]
    pub const fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }
}

/// A user whom others vouch for, in the group of all who said who they are.
fn authenticated(user: Arc<User>) -> Arc<User> {
    if user.is_in(AUTHENTICATED) || user.is_in(UNAUTHENTICATED) {
        return user;
    }
    let mut user = User::clone(&user);
    user.groups.push(AUTHENTICATED.to_owned());
    Arc::new(user)
}

/// What the name of a header says of a further fact, percent-decoded; what is not well
/// encoded stays as it is.
pub(crate) fn unescape(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'%' {
            bytes.push(*byte);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(decoded) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return key.to_owned();
        };
        bytes.push(decoded);
        rest = &after[2..];
    }
    String::from_utf8(bytes).unwrap_or_else(|_| key.to_owned())
}

fn bearer(header: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(header).ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}
