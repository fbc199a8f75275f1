//! What operators see of the loops, under upstream's metric names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: &'static str,
}

/// The metrics of all loops of a process. Clones share the values.
#[derive(Clone, Debug)]
pub struct Metrics {
    depth: Family<Name, Gauge>,
    runs: Family<Name, Counter>,
    retries: Family<Name, Counter>,
    errors: Family<Name, Counter>,
    duration: Family<Name, Histogram>,
}

/// The metrics of one loop.
#[derive(Clone, Debug)]
pub(crate) struct LoopMetrics {
    pub(crate) depth: Gauge,
    pub(crate) runs: Counter,
    pub(crate) retries: Counter,
    pub(crate) errors: Counter,
    pub(crate) duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            depth: Family::default(),
            runs: Family::default(),
            retries: Family::default(),
            errors: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 4.0, 10))),
        }
    }
}

impl Metrics {
    /// Makes the metrics visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("workqueue_depth", "Keys ready for a run", self.depth.clone());
        registry.register("reconcile_runs", "Plans made and carried out", self.runs.clone());
        registry.register(
            "workqueue_retries",
            "Runs repeated after a conflict or error",
            self.retries.clone(),
        );
        registry.register("reconcile_errors", "Plans that the server refused", self.errors.clone());
        registry.register(
            "workqueue_work_duration_seconds",
            "Time to look, plan and carry out",
            self.duration.clone(),
        );
    }

    pub(crate) fn of(&self, name: &'static str) -> LoopMetrics {
        let label = Name { name };
        LoopMetrics {
            depth: self.depth.get_or_create(&label).clone(),
            runs: self.runs.get_or_create(&label).clone(),
            retries: self.retries.get_or_create(&label).clone(),
            errors: self.errors.get_or_create(&label).clone(),
            duration: self.duration.get_or_create(&label).clone(),
        }
    }
}
