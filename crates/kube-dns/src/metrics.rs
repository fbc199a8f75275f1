//! What kube-dns counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How a question was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// The response code, by number.
    pub rcode: u16,
    /// `cluster` or `forwarded`.
    pub source: &'static str,
}

/// The counters. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Answered questions.
    pub responses: Family<Outcome, Counter>,
}

impl Metrics {
    /// Puts the counters into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("kube_dns_responses", "Answered questions", self.responses.clone());
    }
}
