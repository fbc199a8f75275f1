//! Who asks: by client certificate, or by service account token.

mod service_account;
mod x509;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Status;
use daemon::server::Peer;

pub use service_account::{Bound, IssuedToken, Tokens};

/// The group of everybody who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
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
        Self { name: "system:anonymous".into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// Whether the user is in a group.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// The node that the user is, if it is one.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|_| self.is_in("system:nodes"))
    }
}

/// Finds out who asks.
pub struct Authenticator {
    tokens: Arc<Tokens>,
}

impl Authenticator {
    /// An authenticator that takes the given tokens, and certificates that the
    /// TLS layer has verified.
    #[must_use]
    pub const fn new(tokens: Arc<Tokens>) -> Self {
        Self { tokens }
    }

    /// The user behind a connection's certificate or a request's bearer token;
    /// anonymous where there is neither.
    ///
    /// # Errors
    /// A token that is not valid.
    pub async fn authenticate(&self, peer: &Peer, authorization: Option<&[u8]>) -> Result<Arc<User>, Status> {
        if let Some(chain) = &peer.certificates
            && let Some(user) = chain.first().and_then(|leaf| x509::user(leaf))
        {
            return Ok(Arc::new(user));
        }
        match authorization.and_then(bearer) {
            Some(token) => self.tokens.authenticate(token, &[]).await.map_err(|why| {
                tracing::debug!(%why, "a bearer token was refused");
                Status::unauthorized()
            }),
            None => Ok(Arc::new(User::anonymous())),
        }
    }

    /// The tokens.
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
