//! What a request passes between authentication and its verb, the same in both
//! fronts: it becomes whom it impersonates.

use std::sync::Arc;

use api::Status;
use http::HeaderMap;

use crate::authn::User;
use crate::authz::Attributes;
use crate::gate::Gate;
use crate::impersonation;

/// Who sends a request, before it is known what it asks.
#[derive(Clone, Debug)]
pub struct Sender {
    user: Arc<User>,
    /// The user to become.
    wanted: Option<Arc<User>>,
}

/// A request that may go on to its verb.
pub struct Entered {
    /// On whose behalf.
    pub user: Arc<User>,
}

impl Sender {
    /// The sender of a request with these headers; those that impersonate are taken away.
    ///
    /// # Errors
    /// Headers that impersonate no user, but a part of one.
    pub fn new(user: Arc<User>, headers: &mut HeaderMap) -> Result<Self, Status> {
        let wanted = impersonation::take(headers)?.map(Arc::new);
        Ok(Self { user, wanted })
    }
}

impl Gate {
    /// Lets a request in.
    ///
    /// # Errors
    /// The sender may not become whom it names.
    pub async fn enter(&self, sender: &Sender, ask: &Attributes) -> Result<Entered, Status> {
        let user = match &sender.wanted {
            None => Arc::clone(&sender.user),
            Some(wanted) => {
                let allowed = impersonation::check(self.authorizer(), &sender.user, wanted, ask).await?;
                tracing::debug!(
                    user = sender.user.name,
                    wanted = allowed.user.name,
                    constraint = allowed.constraint,
                    "impersonates"
                );
                Arc::new(allowed.user)
            }
        };
        Ok(Entered { user })
    }
}
