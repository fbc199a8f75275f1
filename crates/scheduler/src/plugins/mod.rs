//! What decides where a pod may run and where it runs best.
//!
//! A plugin is one file: a type made from its arguments, and what it can do
//! ([`Filter`], [`Score`]), listed in [`Plugin::roles`]. It works out its facts
//! about a pod once per decision and is then asked about nodes. [`table`] lists
//! all plugins; a [`crate::profile::Profile`] is made from it and is the only
//! path that schedules.

mod affinity;
mod balance;
pub(crate) mod features;
mod fit;
mod fixed;
mod images;
mod interpod;
mod name;
mod ports;
mod spread;
pub mod table;
mod taints;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::events::{Event, Kinds};
use crate::objection::Objection;
use crate::pod::PodInfo;
use crate::preemption::Preemption;
use crate::snapshot::{NodeInfo, Snapshot};

/// The best score.
pub const MAX_SCORE: i64 = 100;

/// A plugin, made from its arguments.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// Upstream's name.
    const NAME: &'static str;
    /// The kinds of events after which [`Plugin::is_helped_by`] is to be asked.
    const HEEDS: Kinds;
    /// What can be configured.
    type Args: DeserializeOwned + Default;

    /// Makes it.
    ///
    /// # Errors
    /// The arguments do not make sense: which, and what to do.
    fn new(args: Self::Args) -> Result<Self, String>;

    /// What it does.
    fn roles(self: Arc<Self>) -> Roles;

    /// Whether a pod that it refused might pass now, after an event of a kind
    /// that it heeds.
    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool;
}

/// The arguments of plugins that have none.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoArgs {}

/// What a plugin does.
#[derive(Clone, Default)]
pub struct Roles {
    /// Says which nodes may take a pod.
    pub filter: Option<Arc<dyn AnyFilter>>,
    /// Says which nodes suit a pod.
    pub score: Option<Arc<dyn AnyScore>>,
    /// Gives pods their volumes, which may take so long.
    pub binds_volumes: Option<Duration>,
    /// Makes room.
    pub preemption: Option<Preemption>,
    /// Keeps pods back that are not ready.
    pub keeps_gates: bool,
    /// Says which pod is next.
    pub sorts: bool,
    /// Binds.
    pub binds: bool,
}

impl Roles {
    /// With a filter.
    #[must_use]
    pub fn filtering<F: Filter>(mut self, filter: &Arc<F>) -> Self {
        self.filter = Some(Arc::new(Arc::clone(filter)));
        self
    }

    /// With a score.
    #[must_use]
    pub fn scoring<S: Score>(mut self, score: &Arc<S>) -> Self {
        self.score = Some(Arc::new(Arc::clone(score)));
        self
    }
}

/// What a filter says of a pod before it is asked about nodes.
pub enum Prepared<Facts> {
    /// Every node will do.
    Indifferent,
    /// Nodes are to be asked about with these facts.
    Facts(Facts),
    /// Only nodes of these names, and they are to be asked about.
    Only(BTreeSet<String>, Facts),
    /// No node will do.
    Refused(Objection),
}

/// A pod that comes to a node or leaves it, in thought. Afterwards that node is
/// asked about, and no other.
pub struct Shift<'a> {
    /// The pod.
    pub pod: &'a PodInfo,
    /// The node.
    pub node: &'a NodeInfo,
    /// 1: it comes; -1: it leaves.
    pub by: i64,
}

/// Says which nodes may take a pod.
pub trait Filter: Plugin {
    /// What it needs to know of the pod and of other nodes.
    type Facts: Clone + Send + Sync + 'static;
    /// Whether its word about a node depends on nothing but the node itself and
    /// what is part of a pod's [`crate::memory::Shape`].
    const IS_LOCAL: bool;
    /// Whether its word about a node may change with the pods there.
    const LOOKS_AT_PODS: bool;

    /// The facts.
    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Prepared<Self::Facts>;

    /// What it has against a node.
    ///
    /// # Errors
    /// The objection.
    fn check(&self, facts: &Self::Facts, node: &NodeInfo) -> Result<(), Objection>;

    /// Changes the facts as if a pod came to a node or left it. Needed by
    /// filters that know of more than the one node they are asked about.
    fn shift(&self, _facts: &mut Self::Facts, _shift: &Shift<'_>) {}
}

/// Says which nodes suit a pod best.
pub trait Score: Plugin {
    /// What it needs to know of the pod and of other nodes.
    type Facts: 'static;
    /// Whether its score of a node depends on nothing but the node itself and
    /// what is part of a pod's [`crate::memory::Shape`].
    const IS_LOCAL: bool;

    /// The facts, given the nodes that may take the pod; `None`: all are equal.
    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot, fitting: &[&NodeInfo]) -> Option<Self::Facts>;

    /// The score of a node, 0 to [`MAX_SCORE`] after [`Score::normalize`].
    fn score(&self, facts: &Self::Facts, node: &NodeInfo) -> i64;

    /// Brings the scores of all nodes into the range.
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// A filter of any type.
pub trait AnyFilter: Send + Sync {
    /// See [`Filter::IS_LOCAL`].
    fn is_local(&self) -> bool;
    /// See [`Filter::prepare`].
    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Prepared<Box<dyn Check>>;
}

/// A filter with its facts about one pod.
pub trait Check: Send + Sync {
    /// See [`Filter::check`].
    ///
    /// # Errors
    /// The objection.
    fn check(&self, node: &NodeInfo) -> Result<(), Objection>;
    /// See [`Filter::shift`].
    fn shift(&mut self, shift: &Shift<'_>);
    /// See [`Filter::LOOKS_AT_PODS`].
    fn looks_at_pods(&self) -> bool;
    /// A copy that can be shifted.
    fn copy(&self) -> Box<dyn Check>;
}

struct Checking<F: Filter>(Arc<F>, F::Facts);

impl<F: Filter> Check for Checking<F> {
    fn check(&self, node: &NodeInfo) -> Result<(), Objection> {
        self.0.check(&self.1, node)
    }

    fn shift(&mut self, shift: &Shift<'_>) {
        self.0.shift(&mut self.1, shift);
    }

    fn looks_at_pods(&self) -> bool {
        F::LOOKS_AT_PODS
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(Self(Arc::clone(&self.0), self.1.clone()))
    }
}

impl<F: Filter> AnyFilter for Arc<F> {
    fn is_local(&self) -> bool {
        F::IS_LOCAL
    }

    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Prepared<Box<dyn Check>> {
        let with = |facts| Box::new(Checking(Self::clone(self), facts)) as Box<dyn Check>;
        match F::prepare(self, pod, snapshot) {
            Prepared::Indifferent => Prepared::Indifferent,
            Prepared::Facts(facts) => Prepared::Facts(with(facts)),
            Prepared::Only(names, facts) => Prepared::Only(names, with(facts)),
            Prepared::Refused(objection) => Prepared::Refused(objection),
        }
    }
}

/// A score of any type.
pub trait AnyScore: Send + Sync {
    /// See [`Score::IS_LOCAL`].
    fn is_local(&self) -> bool;
    /// See [`Score::prepare`].
    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot, fitting: &[&NodeInfo]) -> Option<Box<dyn Rate>>;
}

/// A score with its facts about one pod.
pub trait Rate {
    /// See [`Score::score`].
    fn score(&self, node: &NodeInfo) -> i64;
    /// See [`Score::normalize`].
    fn normalize(&self, scores: &mut [i64]);
}

struct Rating<S: Score>(Arc<S>, S::Facts);

impl<S: Score> Rate for Rating<S> {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.0.score(&self.1, node)
    }

    fn normalize(&self, scores: &mut [i64]) {
        self.0.normalize(scores);
    }
}

impl<S: Score> AnyScore for Arc<S> {
    fn is_local(&self) -> bool {
        S::IS_LOCAL
    }

    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot, fitting: &[&NodeInfo]) -> Option<Box<dyn Rate>> {
        let facts = S::prepare(self, pod, snapshot, fitting)?;
        Some(Box::new(Rating(Self::clone(self), facts)))
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
