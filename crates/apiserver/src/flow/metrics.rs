//! `apiserver_flowcontrol_*`, under upstream's names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

use super::demand::Smoothed;
use super::queues::Refusal;
use super::schema::Limits;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFlow {
    priority_level: String,
    flow_schema: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    priority_level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRefusal {
    priority_level: String,
    flow_schema: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWait {
    priority_level: String,
    flow_schema: String,
    execute: &'static str,
}

type Seats = Family<OfLevel, Gauge>;
type SeatsOfDemand = Family<OfLevel, Gauge<f64, AtomicU64>>;

fn waits() -> Histogram {
    Histogram::new([0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0])
}

fn executions() -> Histogram {
    Histogram::new([0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0])
}

fn widths() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 10.0])
}

/// The metrics of flow control.
pub(super) struct Metrics {
    rejected: Family<OfRefusal, Counter>,
    dispatched: Family<OfFlow, Counter>,
    queued: Family<OfFlow, Gauge>,
    queued_seats: Family<OfFlow, Gauge>,
    executing: Family<OfFlow, Gauge>,
    executing_seats: Family<OfFlow, Gauge>,
    waited: Family<OfWait, Histogram, fn() -> Histogram>,
    executed: Family<OfFlow, Histogram, fn() -> Histogram>,
    widths: Family<OfFlow, Histogram, fn() -> Histogram>,
    nominal: Seats,
    lower: Seats,
    upper: Seats,
    current: Seats,
    peak: Seats,
    average: SeatsOfDemand,
    deviation: SeatsOfDemand,
    smoothed: SeatsOfDemand,
    target: SeatsOfDemand,
    fair: Gauge<f64, AtomicU64>,
}

/// The metrics of one schema, looked up once.
pub(super) struct SchemaMetrics {
    rejected: [Counter; 3],
    pub(super) dispatched: Counter,
    pub(super) queued: Gauge,
    pub(super) queued_seats: Gauge,
    pub(super) executing: Gauge,
    pub(super) executing_seats: Gauge,
    pub(super) waited: Histogram,
    pub(super) waited_in_vain: Histogram,
    pub(super) executed: Histogram,
    pub(super) widths: Histogram,
}

impl SchemaMetrics {
    pub(super) fn rejected(&self, refusal: Refusal) -> &Counter {
        &self.rejected[refusal as usize]
    }
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            rejected: Family::default(),
            dispatched: Family::default(),
            queued: Family::default(),
            queued_seats: Family::default(),
            executing: Family::default(),
            executing_seats: Family::default(),
            waited: Family::new_with_constructor(waits),
            executed: Family::new_with_constructor(executions),
            widths: Family::new_with_constructor(widths),
            nominal: Family::default(),
            lower: Family::default(),
            upper: Family::default(),
            current: Family::default(),
            peak: Family::default(),
            average: Family::default(),
            deviation: Family::default(),
            smoothed: Family::default(),
            target: Family::default(),
            fair: Gauge::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let all = registry.sub_registry_with_prefix("apiserver_flowcontrol");
        all.register("rejected_requests", "Requests refused", self.rejected.clone());
        all.register("dispatched_requests", "Requests let in", self.dispatched.clone());
        all.register("current_inqueue_requests", "Requests that wait", self.queued.clone());
        all.register("current_inqueue_seats", "Seats waited for", self.queued_seats.clone());
        all.register("current_executing_requests", "Requests that run", self.executing.clone());
        all.register("current_executing_seats", "Seats in use", self.executing_seats.clone());
        all.register("request_wait_duration_seconds", "Time in a queue", self.waited.clone());
        all.register("request_execution_seconds", "Time to run", self.executed.clone());
        all.register("work_estimated_seats", "Widths of requests", self.widths.clone());
        all.register("nominal_limit_seats", "Seats by shares", self.nominal.clone());
        all.register("lower_limit_seats", "Seats that are not lent", self.lower.clone());
        all.register("upper_limit_seats", "Seats with those borrowed", self.upper.clone());
        all.register("current_limit_seats", "Seats now", self.current.clone());
        all.register("demand_seats_high_watermark", "Most seats wanted lately", self.peak.clone());
        all.register("demand_seats_average", "Seats wanted lately", self.average.clone());
        all.register("demand_seats_stdev", "Their standard deviation", self.deviation.clone());
        all.register("demand_seats_smoothed", "Seats wanted, smoothed", self.smoothed.clone());
        all.register("target_seats", "Seats aimed at", self.target.clone());
        all.register("seat_fair_frac", "Part of its target that a level gets", self.fair.clone());
    }

    pub(super) fn of_schema(&self, level: &str, schema: &str) -> SchemaMetrics {
        let of = OfFlow { priority_level: level.to_owned(), flow_schema: schema.to_owned() };
        let rejected = Refusal::ALL.map(|refusal| {
            let of = OfRefusal {
                priority_level: level.to_owned(),
                flow_schema: schema.to_owned(),
                reason: refusal.name(),
            };
            self.rejected.get_or_create(&of).clone()
        });
        let waited = |execute| {
            let of = OfWait { priority_level: level.to_owned(), flow_schema: schema.to_owned(), execute };
            self.waited.get_or_create(&of).clone()
        };
        SchemaMetrics {
            rejected,
            dispatched: self.dispatched.get_or_create(&of).clone(),
            queued: self.queued.get_or_create(&of).clone(),
            queued_seats: self.queued_seats.get_or_create(&of).clone(),
            executing: self.executing.get_or_create(&of).clone(),
            executing_seats: self.executing_seats.get_or_create(&of).clone(),
            waited: waited("true"),
            waited_in_vain: waited("false"),
            executed: self.executed.get_or_create(&of).clone(),
            widths: self.widths.get_or_create(&of).clone(),
        }
    }

    pub(super) fn limits(&self, level: &str, limits: Limits) {
        let of = OfLevel { priority_level: level.to_owned() };
        let seats = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.nominal.get_or_create(&of).set(seats(limits.nominal));
        self.lower.get_or_create(&of).set(seats(limits.lower));
        self.upper.get_or_create(&of).set(seats(limits.upper));
    }

    pub(super) fn adjusted(&self, level: &str, demand: Smoothed, target: f64, current: u64) {
        let of = OfLevel { priority_level: level.to_owned() };
        self.peak.get_or_create(&of).set(i64::try_from(demand.peak).unwrap_or(i64::MAX));
        self.average.get_or_create(&of).set(demand.average);
        self.deviation.get_or_create(&of).set(demand.deviation);
        self.smoothed.get_or_create(&of).set(demand.smoothed);
        self.target.get_or_create(&of).set(target);
        self.current.get_or_create(&of).set(i64::try_from(current).unwrap_or(i64::MAX));
    }

    pub(super) fn fair(&self, proportion: f64) {
        self.fair.set(proportion);
    }
}
