//! The decision: pure, and the only path that schedules.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::types::core::v1::Pod;
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::plugins::{ClusterEvent, Plugins, Refusal};
use crate::snapshot::{NodeState, Snapshot};

/// Below this many nodes all are looked at.
const ALWAYS_LOOK_AT: usize = 100;

/// Where to send a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Node(String),
    /// Nowhere, for now.
    Nowhere(Diagnosis),
}

/// Why every node refuses a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Each node's refusal.
    pub refusals: BTreeMap<String, Refusal>,
}

impl Diagnosis {
    /// Upstream's sentence about it.
    #[must_use]
    pub fn message(&self) -> String {
        if self.refusals.is_empty() {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.refusals.values().flat_map(|refusal| &refusal.reasons) {
            *counts.entry(reason).or_default() += 1;
        }
        let mut parts: Vec<String> =
            counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort();
        format!("0/{} nodes are available: {}.", self.refusals.len(), parts.join(", "))
    }

    /// What may let the pod fit.
    #[must_use]
    pub fn unblocked_by(&self, plugins: &Plugins) -> Vec<ClusterEvent> {
        let mut events: Vec<ClusterEvent> = self
            .refusals
            .values()
            .flat_map(|refusal| plugins.unblocked_by(refusal.plugin))
            .copied()
            .collect();
        // Without any node, the first one decides.
        events.push(ClusterEvent::NodeAdded);
        events.sort_unstable();
        events.dedup();
        events
    }
}

/// What a decision takes besides its inputs: where to begin looking, so that
/// all nodes get their turn where not all are looked at, and chance among equals.
#[derive(Debug)]
pub struct Search {
    start: usize,
    chance: StdRng,
}

impl Search {
    /// A search with its own source of chance.
    #[must_use]
    pub const fn new(chance: StdRng) -> Self {
        Self { start: 0, chance }
    }
}

/// Decides where a pod goes.
pub fn schedule(pod: &Pod, snapshot: &Snapshot, plugins: &Plugins, search: &mut Search) -> Decision {
    let (fitting, diagnosis) = fitting(pod, snapshot, plugins, search);
    if fitting.is_empty() {
        return Decision::Nowhere(diagnosis);
    }
    let scores = if fitting.len() == 1 { vec![0] } else { scores(pod, &fitting, plugins) };
    let best = scores.iter().copied().max().unwrap_or(0);
    let equals: Vec<&NodeState> =
        fitting.iter().zip(&scores).filter(|(_, score)| **score == best).map(|(node, _)| *node).collect();
    Decision::Node(equals[search.chance.random_range(0..equals.len())].name.clone())
}

/// How many fitting nodes are enough, as upstream's adaptive share has it.
fn enough(nodes: usize) -> usize {
    if nodes < ALWAYS_LOOK_AT {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ALWAYS_LOOK_AT)
}

fn fitting<'a>(
    pod: &Pod,
    snapshot: &'a Snapshot,
    plugins: &Plugins,
    search: &mut Search,
) -> (Vec<&'a NodeState>, Diagnosis) {
    let checks: Vec<_> =
        plugins.filters.iter().filter_map(|entry| Some((entry.name, (entry.prepare)(pod)?))).collect();
    let nodes = snapshot.nodes();
    let start = if nodes.is_empty() { 0 } else { search.start % nodes.len() };
    let (mut fitting, mut diagnosis, mut seen) = (Vec::new(), Diagnosis::default(), 0);
    let wanted = enough(nodes.len());
    for node in nodes[start..].iter().chain(&nodes[..start]).map(Arc::as_ref) {
        seen += 1;
        let refusal = checks.iter().find_map(|(plugin, check)| {
            let reasons = check(node);
            (!reasons.is_empty()).then_some(Refusal { plugin, reasons })
        });
        match refusal {
            // Refusals matter only if nobody accepts.
            Some(refusal) if fitting.is_empty() => {
                diagnosis.refusals.insert(node.name.clone(), refusal);
            }
            Some(_) => {}
            None => fitting.push(node),
        }
        if fitting.len() >= wanted {
            break;
        }
    }
    search.start = start + seen;
    (fitting, diagnosis)
}

fn scores(pod: &Pod, nodes: &[&NodeState], plugins: &Plugins) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    for entry in &plugins.scores {
        let Some(rate) = (entry.prepare)(pod) else { continue };
        let mut scores: Vec<i64> = nodes.iter().map(|node| rate(node)).collect();
        (entry.normalize)(&mut scores);
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += score * entry.weight;
        }
    }
    totals
}
