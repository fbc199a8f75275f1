//! Making room for a pod that fits nowhere, at the cost of less important ones.
//!
//! [`Preemption::attempt`] is pure: it says which pods would have to go from
//! which node. The rules are upstream's `DefaultPreemption`.

mod choice;
#[cfg(test)]
mod tests;
mod victims;

use std::sync::Arc;

use rand::RngExt as _;

pub use self::choice::best;
use self::victims::victims;
use crate::checks::Checks;
use crate::diagnosis::{Diagnosis, General};
use crate::objection::{Objection, Refusal};
use crate::pod::PodInfo;
use crate::schedule::Search;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::writes::condition;

/// The name under which it is configured.
pub const NAME: &str = "DefaultPreemption";

/// How far to look for the best node.
#[derive(Clone, Copy, Debug)]
pub struct Preemption {
    /// At least this share of the nodes that may do, percent.
    pub min_percentage: usize,
    /// At least this many.
    pub min_absolute: usize,
}

impl Default for Preemption {
    fn default() -> Self {
        Self { min_percentage: 10, min_absolute: 100 }
    }
}

/// A node, and the pods that would have to go.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The node.
    pub node: Arc<str>,
    /// The pods, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them break a budget.
    pub violations: usize,
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// It was not made, for this reason; empty: it was not needed.
    NotMade(&'static str),
    /// No node can be made to fit; why, in upstream's words.
    InVain(String),
    /// These would do, the best first.
    Found(Vec<Candidate>),
}

impl Attempt {
    /// What people are told of it, in upstream's words.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        match self {
            Self::NotMade("") | Self::Found(_) => None,
            Self::NotMade(reason) => Some(format!("preemption: {reason}")),
            Self::InVain(message) => Some(format!("preemption: {message}")),
        }
    }
}

impl Preemption {
    /// Looks for a node on which room can be made for a pod that was refused.
    pub fn attempt(
        &self,
        pod: &PodInfo,
        snapshot: &Snapshot,
        checks: Option<&Checks>,
        diagnosis: &Diagnosis,
        search: &mut Search,
    ) -> Attempt {
        if let Some(reason) = is_not_eligible(pod, snapshot, diagnosis) {
            return Attempt::NotMade(reason);
        }
        let promising: Vec<&NodeInfo> = match checks {
            Some(_) => promising(snapshot, diagnosis),
            None => Vec::new(),
        };
        let Some(checks) = checks.filter(|_| !promising.is_empty()) else {
            return Attempt::InVain(in_vain(snapshot.len(), Vec::new()));
        };
        let start = search.chance.random_range(0..promising.len());
        let around = promising[start..].iter().chain(&promising[..start]);
        let (mut keeping, mut breaking, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
        let wanted = self.wanted(promising.len());
        for node in around {
            match victims(pod, snapshot, checks, node) {
                Ok(candidate) if candidate.violations == 0 => keeping.push(candidate),
                Ok(candidate) => breaking.push(candidate),
                Err(refusal) => refusals.push((Arc::clone(&node.name), Arc::new(refusal))),
            }
            if !keeping.is_empty() && keeping.len() + breaking.len() >= wanted {
                break;
            }
        }
        keeping.append(&mut breaking);
        if keeping.is_empty() {
            return Attempt::InVain(in_vain(snapshot.len(), refusals));
        }
        Attempt::Found(best(keeping))
    }

    fn wanted(&self, nodes: usize) -> usize {
        (nodes * self.min_percentage / 100).max(self.min_absolute).min(nodes)
    }
}

fn is_not_eligible(pod: &PodInfo, snapshot: &Snapshot, diagnosis: &Diagnosis) -> Option<&'static str> {
    let policy = pod.pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref());
    if policy == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let node = snapshot.node(pod.nominated()?)?;
    // A node that will never do is not worth waiting for.
    if diagnosis.of(&node.name).is_none_or(|objection| !objection.can_be_evicted_away) {
        return None;
    }
    let is_going = |other: &&Arc<PodInfo>| other.priority < pod.priority && is_being_preempted(other);
    node.pods.iter().find(is_going).map(|_| "not eligible due to a terminating pod on the nominated node.")
}

/// Whether a pod is on its way out because a scheduler wanted so.
fn is_being_preempted(pod: &PodInfo) -> bool {
    let target = condition(&pod.pod, "DisruptionTarget");
    pod.is_leaving
        && target
            .is_some_and(|one| one.status == "True" && one.reason.as_deref() == Some("PreemptionByScheduler"))
}

/// The nodes whose objection may go away with pods.
fn promising<'a>(snapshot: &'a Snapshot, diagnosis: &Diagnosis) -> Vec<&'a NodeInfo> {
    let refusals = diagnosis.refusals.iter();
    let passing = refusals.filter(|(_, refusal)| refusal.objection.can_be_evicted_away);
    passing.filter_map(|(name, _)| snapshot.node(name)).collect()
}

fn in_vain(nodes: usize, refusals: Vec<(Arc<str>, Arc<Refusal>)>) -> String {
    let objection = Objection::lasting("Preemption is not helpful for scheduling");
    let general = General { plugins: vec![NAME], objection, is_against_all: false };
    Diagnosis { nodes, refusals, general: Some(general), eviction: None }.message()
}
