//! What the store tells about itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters and latencies of one member.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) proposals: Counter,
    pub(crate) proposals_failed: Counter,
    pub(crate) batches: Counter,
    pub(crate) leader_changes: Counter,
    /// From the arrival of a change to its answer.
    pub(crate) commit_seconds: Histogram,
    /// One write and sync of the raft log.
    pub(crate) flush_seconds: Histogram,
    pub(crate) checkpoint_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let latency = || Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        Self {
            proposals: Counter::default(),
            proposals_failed: Counter::default(),
            batches: Counter::default(),
            leader_changes: Counter::default(),
            commit_seconds: latency(),
            flush_seconds: latency(),
            checkpoint_seconds: latency(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("store");
        registry.register("proposals", "Changes submitted", self.proposals.clone());
        registry.register(
            "proposals_failed",
            "Changes whose outcome is unknown or that were refused",
            self.proposals_failed.clone(),
        );
        registry.register("batches", "Raft entries proposed", self.batches.clone());
        registry.register("leader_changes", "Changes of the leader seen", self.leader_changes.clone());
        registry.register(
            "commit_duration_seconds",
            "From the arrival of a change to its answer",
            self.commit_seconds.clone(),
        );
        registry.register(
            "log_flush_duration_seconds",
            "One write and sync of the raft log",
            self.flush_seconds.clone(),
        );
        registry.register(
            "checkpoint_duration_seconds",
            "Making the state machine durable",
            self.checkpoint_seconds.clone(),
        );
    }
}
