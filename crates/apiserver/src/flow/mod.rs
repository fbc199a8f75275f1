//! Priority and fairness: a request belongs to the first flow schema that matches
//! it, runs on seats of that schema's priority level, and waits fairly where there
//! are none, so that one greedy client does not keep the others out.
//!
//! The decisions are pure: [`queues`] who runs, [`schema`] what belongs where,
//! [`config`] which level has how many seats. This file is the shell around them.
//! A request that finds a seat pays for one hash and one short lock.

mod allocate;
mod config;
mod dealer;
mod demand;
mod drops;
mod in_flight;
mod level;
mod metrics;
mod objects;
mod queues;
mod schema;
mod width;

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Status;
use arc_swap::ArcSwap;
use daemon::Clock;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

use crate::authn::User;
use crate::authz::Attributes;
use crate::cache::WatchCache;
use crate::deadline::is_long_running;
use config::{Levels, Schema};
use level::Asked;
use metrics::Metrics;
use queues::{Arrival, Refusal, Running, Ticket};

pub use in_flight::{InFlight, Place};
pub use objects::start;
pub use width::Reading;

/// Nanoseconds since the server began.
type Nanos = u64;

/// How long a request waits for a seat that has no time of its own.
const WAIT: Duration = Duration::from_secs(15);

/// How long a request waits for a seat: a quarter of the time that it has.
fn patience(time: Option<Duration>) -> Duration {
    time.map_or(WAIT, |time| time / 4)
}

/// What every client reads that is turned away.
pub(crate) const TOO_MANY: &str = "Too many requests, please try again later.";

/// Flow control over all requests of this server.
pub struct FlowControl {
    clock: Arc<dyn Clock>,
    began: Instant,
    cache: Arc<WatchCache>,
    /// Seats of the whole server.
    server: u64,
    /// In the order in which they are tried.
    schemas: ArcSwap<Vec<Arc<Schema>>>,
    levels: Mutex<Levels>,
    metrics: Metrics,
}

/// The schema and level of a request, for its answer's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The flow schema's uid.
    pub schema: String,
    /// The priority level's uid.
    pub level: String,
}

/// A request that was turned away.
#[derive(Debug)]
pub struct Busy {
    /// Its flow.
    pub flow: Flow,
    /// Seconds after which to try again.
    pub retry_after: u32,
}

impl From<Busy> for Status {
    fn from(busy: Busy) -> Self {
        Self::too_many_requests(TOO_MANY, busy.retry_after)
    }
}

/// The seats of a request that runs; dropped, they are free again.
pub struct Seat {
    control: Arc<FlowControl>,
    schema: Arc<Schema>,
    running: Running,
}

impl Seat {
    /// The flow that the request belongs to.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.schema.flow()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let now = self.control.now();
        self.schema.level.finish(now, self.running);
        let metrics = &self.schema.metrics;
        metrics.executing.dec();
        metrics.executing_seats.dec_by(self.running.seats().cast_signed());
        metrics.executed.observe(seconds(now.saturating_sub(self.running.since())));
    }
}

impl Schema {
    fn flow(&self) -> Flow {
        Flow { schema: self.uid.clone(), level: self.level_uid.clone() }
    }
}

fn seconds(nanos: Nanos) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

impl FlowControl {
    /// Flow control with so many seats, and what every cluster has as configuration.
    #[must_use]
    pub fn new(cache: Arc<WatchCache>, server: u64, clock: Arc<dyn Clock>) -> Arc<Self> {
        let control = Self {
            began: clock.monotonic(),
            clock,
            cache,
            server,
            schemas: ArcSwap::default(),
            levels: Mutex::default(),
            metrics: Metrics::new(),
        };
        let parsed = |objects: Vec<serde_json::Value>| -> Vec<api::Object> {
            objects.into_iter().filter_map(|one| api::Object::from_value(one).ok()).collect()
        };
        control
            .digest(&parsed(resources::flow_control::schemas()), &parsed(resources::flow_control::levels()));
        Arc::new(control)
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    fn now(&self) -> Nanos {
        let since = self.clock.monotonic().saturating_duration_since(self.began);
        // Five hundred years.
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Lets a request in when it is its turn; `None` for what is not counted.
    ///
    /// # Errors
    /// There is no room, nor will be soon.
    pub async fn enter(
        self: &Arc<Self>,
        user: &User,
        ask: &Attributes,
        reading: Reading,
    ) -> Result<Option<Seat>, Busy> {
        // A watch is counted until it has begun.
        if is_long_running(ask) {
            return Ok(None);
        }
        let schemas = self.schemas.load();
        // The catch-all takes what nothing matches; it is the last and always there.
        let found = schemas.iter().find(|schema| schema.spec.matches(user, ask)).or_else(|| schemas.last());
        let Some(schema) = found.cloned() else { return Ok(None) };
        drop(schemas);
        let seats = self.seats(&schema, ask, reading);
        let hash = if schema.level.has_flows() { schema.spec.flow(&schema.name, user, ask) } else { 0 };
        let asked = schema.level.ask(self.now(), hash, seats);
        match asked {
            Asked::Settled(Arrival::Runs(running)) => Ok(Some(self.seat(schema, running))),
            Asked::Settled(Arrival::Refused(refusal)) => Err(self.refused(&schema, refusal)),
            Asked::Settled(Arrival::Waits { .. }) => Ok(None),
            Asked::Waits { ticket, queue, turn } => {
                let began = self.now();
                let wait = Wait::new(self, &schema, (ticket, queue), turn, seats);
                let turn = wait.turn(patience(reading.time)).await;
                let waited = seconds(self.now().saturating_sub(began));
                match turn {
                    Some(running) => {
                        schema.metrics.waited.observe(waited);
                        Ok(Some(self.seat(schema, running)))
                    }
                    None => {
                        schema.metrics.waited_in_vain.observe(waited);
                        Err(self.refused(&schema, Refusal::TimeOut))
                    }
                }
            }
        }
    }

    fn seats(&self, schema: &Schema, ask: &Attributes, reading: Reading) -> u64 {
        let reads = ask.verb == "list" || (ask.verb == "watch" && reading.sends_initial);
        let seats = if reads && !ask.resource.is_empty() {
            let held = self.cache.resource_if_known(&ask.group, &ask.resource);
            let held = held.map(|resource| resource.held()).unwrap_or_default();
            let held = width::Held { objects: held.0, bytes: held.1 };
            width::seats(held, reading, !ask.name.is_empty(), schema.level.widest())
        } else {
            1
        };
        schema.metrics.widths.observe(seats as f64);
        seats
    }

    fn seat(self: &Arc<Self>, schema: Arc<Schema>, running: Running) -> Seat {
        schema.metrics.dispatched.inc();
        schema.metrics.executing.inc();
        schema.metrics.executing_seats.inc_by(running.seats().cast_signed());
        Seat { control: Arc::clone(self), schema, running }
    }

    fn refused(&self, schema: &Schema, refusal: Refusal) -> Busy {
        schema.metrics.rejected(refusal).inc();
        let second = self.now() / 1_000_000_000;
        let retry_after = u32::try_from(schema.level.refuse(second)).unwrap_or(u32::MAX);
        Busy { flow: schema.flow(), retry_after }
    }
}

/// A request that waits; dropped, it does not wait any longer.
struct Wait<'a> {
    control: &'a FlowControl,
    schema: &'a Schema,
    place: (Ticket, usize),
    turn: oneshot::Receiver<Running>,
    seats: i64,
    is_over: bool,
}

impl<'a> Wait<'a> {
    fn new(
        control: &'a FlowControl,
        schema: &'a Schema,
        place: (Ticket, usize),
        turn: oneshot::Receiver<Running>,
        seats: u64,
    ) -> Self {
        let seats = seats.cast_signed();
        schema.metrics.queued.inc();
        schema.metrics.queued_seats.inc_by(seats);
        Self { control, schema, place, turn, seats, is_over: false }
    }

    /// Waits for the turn, but not for ever.
    async fn turn(mut self, limit: Duration) -> Option<Running> {
        if let Ok(Ok(running)) = tokio::time::timeout(limit, &mut self.turn).await {
            self.is_over = true;
            return Some(running);
        }
        self.is_over = true;
        self.schema.level.give_up(self.control.now(), self.place, &mut self.turn)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.schema.metrics.queued.dec();
        self.schema.metrics.queued_seats.dec_by(self.seats);
        if self.is_over {
            return;
        }
        // The client went away. If its turn came in this moment, the next one has it.
        let now = self.control.now();
        if let Some(running) = self.schema.level.give_up(now, self.place, &mut self.turn) {
            self.schema.level.finish(now, running);
        }
    }
}
