//! Which nodes count, and how pods are spread over them.

use std::sync::Arc;

use api::types::core::v1::{Pod, Toleration};

use super::constraint::Constraint;
use crate::node_selector::Required;
use crate::plugins::taints::{is_kept_out, tolerations};
use crate::snapshot::{Answer, NodeInfo, Question, Scope, Snapshot, Topology};

/// Which nodes count.
pub(super) struct Eligibility {
    required: Option<Required>,
    tolerations: Vec<Toleration>,
    pub(super) topologies: Vec<Arc<Topology>>,
    needs_all_keys: bool,
}

/// How pods are spread over the nodes that count.
pub(super) struct Spread {
    pub(super) topology: Arc<Topology>,
    pub(super) totals: Arc<Vec<u32>>,
    /// Whether each domain has a node that counts; `None`: all that have nodes.
    seen: Option<Vec<bool>>,
    pub(super) domains: usize,
}

impl Eligibility {
    pub(super) fn new(
        pod: &Pod,
        snapshot: &Snapshot,
        constraints: &[Constraint],
        needs_all_keys: bool,
    ) -> Self {
        Self {
            required: Required::of(pod),
            tolerations: tolerations(pod).to_vec(),
            topologies: constraints.iter().map(|one| snapshot.topology(&one.key)).collect(),
            needs_all_keys,
        }
    }

    pub(super) fn has_keys(&self, slot: usize) -> bool {
        self.topologies.iter().all(|topology| topology.domain(slot).is_some())
    }

    pub(super) fn admits(&self, constraint: &Constraint, node: &NodeInfo) -> bool {
        (!constraint.honors_affinity || self.required.as_ref().is_none_or(|required| required.matches(node)))
            && !(constraint.honors_taints && is_kept_out(node, &self.tolerations))
    }

    /// Whether every node counts that has the constraint's label.
    fn admits_all(&self, constraint: &Constraint) -> bool {
        let keys_agree = || self.topologies.iter().all(|topology| topology.strays() == 0);
        (self.required.is_none() || !constraint.honors_affinity)
            && !constraint.honors_taints
            && (!self.needs_all_keys || self.topologies.len() == 1 || keys_agree())
    }

    pub(super) fn spread(
        &self,
        constraint: &Constraint,
        place: usize,
        answer: Answer,
        snapshot: &Snapshot,
    ) -> Spread {
        let topology = Arc::clone(&self.topologies[place]);
        if self.admits_all(constraint) {
            let domains = topology.count();
            return Spread { topology, totals: answer.by_domain, seen: None, domains };
        }
        let (mut totals, mut seen) = (vec![0; topology.len()], vec![false; topology.len()]);
        for node in snapshot.nodes() {
            let Some(domain) = topology.domain(node.slot) else { continue };
            if self.needs_all_keys && !self.has_keys(node.slot) || !self.admits(constraint, node) {
                continue;
            }
            seen[domain] = true;
            totals[domain] += answer.by_slot.get(node.slot).copied().unwrap_or(0);
        }
        let domains = seen.iter().filter(|seen| **seen).count();
        Spread { topology, totals: Arc::new(totals), seen: Some(seen), domains }
    }
}

impl Spread {
    /// The domain with the fewest pods, and the next.
    pub(super) fn lowest(&self) -> [(usize, i64); 2] {
        let mut lowest = [(usize::MAX, i64::from(i32::MAX)); 2];
        let populated = self.topology.populated();
        for domain in populated.filter(|domain| self.seen.as_ref().is_none_or(|seen| seen[*domain])) {
            let count = i64::from(self.totals.get(domain).copied().unwrap_or(0));
            if count < lowest[0].1 {
                lowest = [(domain, count), lowest[0]];
            } else if count < lowest[1].1 {
                lowest[1] = (domain, count);
            }
        }
        lowest
    }
}

/// How many pods a constraint selects, on each node and in each domain.
pub(super) fn ask(constraint: &Constraint, namespace: &str, snapshot: &Snapshot) -> Answer {
    if constraint.selector.is_everything() {
        return Answer::default();
    }
    let scope = Scope::Names([namespace.to_owned()].into());
    let question = Question { parts: vec![(scope, constraint.selector.clone())], only_staying: true };
    snapshot.count(question, &constraint.key).1
}
