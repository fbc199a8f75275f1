//! What a request passes between authentication and its verb, the same in both
//! fronts: it is recorded, becomes whom it impersonates, and waits until there is room for it.

use std::sync::Arc;

use api::Status;
use http::HeaderMap;

use crate::audit::{self, Audit};
use crate::authn::User;
use crate::authz::Attributes;
use crate::deadline::Deadline;
use crate::flow::{Busy, Flow, FlowControl, InFlight, Place, Reading, Seat};
use crate::gate::Gate;
use crate::impersonation;

/// What lets requests in.
pub struct Doors {
    /// How many at once.
    pub limit: Limit,
    /// How long they may take.
    pub deadline: Deadline,
    /// What is recorded of them.
    pub audit: Option<Arc<Audit>>,
}

/// How requests are limited.
pub enum Limit {
    /// By priority and fairness.
    Fair(Arc<FlowControl>),
    /// By their number alone.
    Plain(InFlight),
}

/// Who sends a request, before it is known what it asks.
#[derive(Clone, Debug)]
pub struct Sender {
    user: Arc<User>,
    /// The user to become.
    wanted: Option<Arc<User>>,
}

/// A request that may go on to its verb. While it lives, it takes its room.
pub struct Entered {
    /// On whose behalf.
    pub user: Arc<User>,
    room: Room,
}

enum Room {
    Seat(Seat),
    Place(#[expect(dead_code, reason = "it is held, not read")] Place),
    NotCounted,
}

impl Entered {
    /// The flow that the request belongs to, where it is counted by flows.
    #[must_use]
    pub fn flow(&self) -> Option<Flow> {
        match &self.room {
            Room::Seat(seat) => Some(seat.flow()),
            Room::Place(_) | Room::NotCounted => None,
        }
    }
}

/// A request that does not get in.
pub enum Turned {
    /// It may not.
    Refused(Box<Status>),
    /// There is no room.
    Busy(Busy),
}

impl From<Status> for Turned {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<Turned> for Status {
    fn from(turned: Turned) -> Self {
        match turned {
            Turned::Refused(status) => *status,
            Turned::Busy(busy) => busy.into(),
        }
    }
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
    /// The sender may not become whom it names, or there is no room.
    pub async fn enter(
        &self,
        sender: &Sender,
        ask: &Attributes,
        reading: Reading,
    ) -> Result<Entered, Turned> {
        audit::begin(&sender.user, ask).await?;
        let user = match &sender.wanted {
            None => Arc::clone(&sender.user),
            Some(wanted) => self.become_wanted(&sender.user, wanted, ask).await?,
        };
        let room = match &self.doors().limit {
            Limit::Fair(flow) => {
                let seat = flow.enter(&user, ask, reading).await.map_err(Turned::Busy)?;
                seat.map_or(Room::NotCounted, Room::Seat)
            }
            Limit::Plain(limits) => match limits.enter(&user, ask) {
                Ok(place) => place.map_or(Room::NotCounted, Room::Place),
                Err(()) => return Err(Turned::Busy(Busy { flow: Flow::default(), retry_after: 1 })),
            },
        };
        Ok(Entered { user, room })
    }

    async fn become_wanted(&self, user: &User, wanted: &User, ask: &Attributes) -> Result<Arc<User>, Status> {
        let allowed = impersonation::check(self.authorizer(), user, wanted, ask).await?;
        let (wanted, constraint) = (&allowed.user.name, allowed.constraint);
        tracing::debug!(user = user.name, wanted, constraint, "impersonates");
        audit::impersonated(&allowed.user, constraint);
        Ok(Arc::new(allowed.user))
    }
}
