//! What kube-proxy counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The counters. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Time from a change to its rules in the kernel, seconds.
    pub duration: Histogram,
    /// Lines of nft's language sent.
    pub lines: Counter,
    /// Transactions that the kernel did not take.
    pub failures: Counter,
}

impl Metrics {
    /// Counters in a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            lines: Counter::default(),
            failures: Counter::default(),
        };
        registry.register(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "Time to program",
            metrics.duration.clone(),
        );
        registry.register("kubeproxy_nft_lines", "Lines sent to nft", metrics.lines.clone());
        registry.register(
            "kubeproxy_sync_failures",
            "Transactions that were refused",
            metrics.failures.clone(),
        );
        metrics
    }
}
