//! The one runtime under every control loop.
//!
//! A [`Reconciler`] looks at cached objects and plans, without IO; this crate
//! does everything else once for all of them: the queue of keys, retries with
//! backoff, carrying out the plan under preconditions, waiting until the caches
//! show what was written, metrics. It names no concrete kind. Start reading
//! here, then in [`action`] for what a plan can hold, in [`wiring`] for how a
//! change of a cache becomes a key, and in [`runtime`] for the loop itself.

pub mod action;
mod execute;
mod metrics;
pub mod queue;
pub mod runtime;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod wiring;

use std::time::Duration;

use api::ObjectKey;
use jiff::Timestamp;

pub use action::{Action, Announcement, Guard, Note, Tone};
pub use metrics::Metrics;
pub use runtime::Runtime;
pub use wiring::Loop;

/// A control loop for one kind of object.
pub trait Reconciler: Send + Sync + 'static {
    /// The loop's name in logs and metrics.
    const NAME: &'static str;

    /// What a plan is made of.
    type Observed;

    /// A look at the caches that `self` holds, and at nothing else. `None`:
    /// nothing to do for this key.
    fn observe(&self, key: &ObjectKey) -> Option<Self::Observed>;

    /// What to do. Pure: the same look at the same moment gives the same plan.
    fn plan(&self, observed: &Self::Observed, moment: &Moment) -> Plan;
}

/// When a plan is made, and how the key's last plan fared.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// The time.
    pub now: Timestamp,
    /// Why the last plan for this key could not be carried out; conflicts,
    /// which only ask for a fresh plan, do not count.
    pub failure: Option<Failure>,
}

impl Moment {
    /// A moment after no failure.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self { now, failure: None }
    }
}

/// An action that the server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was tried: `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// The server's words.
    pub message: String,
}

/// What a reconciler wants done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Carried out in order; neighbouring creates or deletes of one resource
    /// may run at the same time. The first failure ends the plan.
    pub actions: Vec<Action>,
    /// When to look again although nothing changed.
    pub wake_after: Option<Duration>,
}

impl Plan {
    /// A plan of these actions.
    #[must_use]
    pub const fn of(actions: Vec<Action>) -> Self {
        Self { actions, wake_after: None }
    }

    /// Asks to look again after a time; the shortest wish wins.
    pub fn wake(&mut self, after: Duration) {
        self.wake_after = Some(self.wake_after.map_or(after, |before| before.min(after)));
    }
}
