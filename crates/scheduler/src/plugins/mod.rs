//! What decides where a pod may run and where it runs best, and the one table
//! of it. A plugin computes its `Facts` about a pod once and is then asked
//! about every node.

mod affinity;
mod name;
mod ports;
mod resources;
mod taints;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use api::types::core::v1::Pod;

use crate::snapshot::NodeState;

/// The best score.
pub const MAX_SCORE: i64 = 100;

/// What can happen in the cluster that lets a refused pod fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClusterEvent {
    /// A node came.
    NodeAdded,
    /// A node has other resources.
    NodeAllocatable,
    /// A node has other labels.
    NodeLabels,
    /// A node has other taints, or was closed or opened.
    NodeTaints,
    /// A pod left its node, or asks for less.
    PodRemoved,
}

/// Why a node does not take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The plugin.
    pub plugin: &'static str,
    /// Upstream's words.
    pub reasons: Vec<Cow<'static, str>>,
}

/// Reasons against a node; none: the node will do.
pub type Reasons = Vec<Cow<'static, str>>;

/// Says which nodes may take a pod.
pub trait Filter {
    /// Upstream's name.
    const NAME: &'static str;
    /// What may change its mind.
    const UNBLOCKED_BY: &'static [ClusterEvent];
    /// What it needs to know of the pod.
    type Facts: Send + Sync + 'static;
    /// The facts; `None`: every node will do.
    fn facts(pod: &Pod) -> Option<Self::Facts>;
    /// Reasons against a node.
    fn check(facts: &Self::Facts, node: &NodeState) -> Reasons;
}

/// Says which nodes suit a pod best.
pub trait Score {
    /// Upstream's name.
    const NAME: &'static str;
    /// What it needs to know of the pod.
    type Facts: Send + Sync + 'static;
    /// The facts; `None`: all nodes are equal.
    fn facts(pod: &Pod) -> Option<Self::Facts>;
    /// The score of a node, 0 to [`MAX_SCORE`] after [`Score::normalize`].
    fn score(facts: &Self::Facts, node: &NodeState) -> i64;
    /// Brings the scores of all nodes into the range.
    fn normalize(_scores: &mut [i64]) {}
}

type Check = Box<dyn Fn(&NodeState) -> Reasons + Send + Sync>;
type Rate = Box<dyn Fn(&NodeState) -> i64 + Send + Sync>;

/// A filter in the table.
pub struct FilterEntry {
    /// The plugin's name.
    pub name: &'static str,
    /// What may change its mind.
    pub unblocked_by: &'static [ClusterEvent],
    /// Its check for one pod.
    pub prepare: fn(&Pod) -> Option<Check>,
}

/// A score in the table.
pub struct ScoreEntry {
    /// The plugin's name.
    pub name: &'static str,
    /// How much it counts.
    pub weight: i64,
    /// Its rating for one pod.
    pub prepare: fn(&Pod) -> Option<Rate>,
    /// Brings scores into the range.
    pub normalize: fn(&mut [i64]),
}

/// The plugins that decide.
pub struct Plugins {
    /// In the order in which they are asked; the first refusal counts.
    pub filters: Vec<FilterEntry>,
    /// All count.
    pub scores: Vec<ScoreEntry>,
}

impl Default for Plugins {
    /// The table: what decides where nothing else is configured.
    fn default() -> Self {
        Self {
            filters: vec![
                filter::<name::NodeUnschedulable>(),
                filter::<name::NodeName>(),
                filter::<taints::TaintToleration>(),
                filter::<affinity::NodeAffinity>(),
                filter::<ports::NodePorts>(),
                filter::<resources::NodeResourcesFit>(),
            ],
            scores: vec![
                score::<taints::TaintToleration>(3),
                score::<affinity::NodeAffinity>(2),
                score::<resources::NodeResourcesFit>(1),
                score::<resources::BalancedAllocation>(1),
            ],
        }
    }
}

impl Plugins {
    /// The events that can change a plugin's mind.
    #[must_use]
    pub fn unblocked_by(&self, plugin: &str) -> &'static [ClusterEvent] {
        self.filters.iter().find(|entry| entry.name == plugin).map_or(&[], |entry| entry.unblocked_by)
    }
}

fn filter<F: Filter + 'static>() -> FilterEntry {
    FilterEntry {
        name: F::NAME,
        unblocked_by: F::UNBLOCKED_BY,
        prepare: |pod| {
            F::facts(pod).map(|facts| Box::new(move |node: &NodeState| F::check(&facts, node)) as Check)
        },
    }
}

fn score<S: Score + 'static>(weight: i64) -> ScoreEntry {
    ScoreEntry {
        name: S::NAME,
        weight,
        prepare: |pod| {
            S::facts(pod).map(|facts| Box::new(move |node: &NodeState| S::score(&facts, node)) as Rate)
        },
        normalize: S::normalize,
    }
}

/// Stretches scores so that the largest becomes [`MAX_SCORE`]; `fewer_is_better`
/// turns them round.
fn stretch(scores: &mut [i64], fewer_is_better: bool) {
    let largest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let stretched = if largest == 0 { 0 } else { *score * MAX_SCORE / largest };
        *score = if fewer_is_better { MAX_SCORE - stretched } else { stretched };
    }
}
