//! What the scheduler counts, with upstream's names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::queue::Depths;

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `scheduled`, `unschedulable` or `error`.
    pub result: &'static str,
    /// The scheduler.
    pub profile: String,
}

/// The part of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Part {
    /// `active`, `backoff`, `unschedulable` or `gated`.
    pub queue: &'static str,
}

/// The counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Attempts.
    pub attempts: Family<Outcome, Counter>,
    /// Pods that wait.
    pub pending: Family<Part, Gauge>,
    /// Time of a decision, seconds.
    pub decision: Histogram,
    /// Searches for room to make.
    pub preemptions: Counter,
    /// Pods that had to go, for each time that room was made.
    pub victims: Histogram,
}

impl Metrics {
    /// Counters in a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            attempts: Family::default(),
            pending: Family::default(),
            decision: Histogram::new(exponential_buckets(0.0001, 2.0, 14)),
            preemptions: Counter::default(),
            victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
        };
        registry.register(
            "scheduler_schedule_attempts",
            "Attempts to schedule pods",
            metrics.attempts.clone(),
        );
        registry.register("scheduler_pending_pods", "Pods that wait for a node", metrics.pending.clone());
        registry.register(
            "scheduler_scheduling_algorithm_duration_seconds",
            "Time of a decision",
            metrics.decision.clone(),
        );
        registry.register(
            "scheduler_preemption_attempts",
            "Searches for room to make",
            metrics.preemptions.clone(),
        );
        registry.register(
            "scheduler_preemption_victims",
            "Pods that had to go, for each time that room was made",
            metrics.victims.clone(),
        );
        metrics
    }

    /// Takes how many pods had to go.
    pub fn preempted(&self, victims: usize) {
        self.victims.observe(f64::from(u32::try_from(victims).unwrap_or(u32::MAX)));
    }

    /// Counts an attempt.
    pub fn attempt(&self, result: &'static str, profile: &str) {
        self.attempts.get_or_create(&Outcome { result, profile: profile.to_owned() }).inc();
    }

    /// Takes the depths of the queue.
    pub fn depths(&self, depths: Depths) {
        let parts = [
            ("active", depths.active),
            ("backoff", depths.backoff),
            ("unschedulable", depths.unschedulable),
            ("gated", depths.gated),
        ];
        for (queue, depth) in parts {
            self.pending.get_or_create(&Part { queue }).set(i64::try_from(depth).unwrap_or(i64::MAX));
        }
    }
}
