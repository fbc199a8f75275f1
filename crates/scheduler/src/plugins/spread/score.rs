//! Which nodes keep soft constraints best.

use std::sync::Arc;

use super::PodTopologySpread;
use super::constraint::{Constraint, HOSTNAME, SOFT, own_constraints};
use super::eligibility::{Eligibility, ask};
use crate::plugins::{MAX_SCORE, Score};
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot, Topology};

/// A score that stands for "not to be scored".
const UNSCORED: i64 = -1;

/// What the score knows.
pub(in crate::plugins) struct Preferences {
    parts: Vec<Preference>,
    needs_all_keys: bool,
}

struct Preference {
    topology: Arc<Topology>,
    /// Pods by slot where domains are nodes, by domain elsewhere.
    counts: Arc<Vec<u32>>,
    is_by_slot: bool,
    /// Small topologies weigh less, as their domains have more pods each.
    weight: f64,
    /// Differences up to the allowed skew matter little.
    base: f64,
}

impl Score for PodTopologySpread {
    type Facts = Preferences;
    const IS_LOCAL: bool = false;

    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot, fitting: &[&NodeInfo]) -> Option<Preferences> {
        let constraints = self.constraints(&pod.pod, snapshot, SOFT);
        if constraints.is_empty() {
            return None;
        }
        let needs_all_keys = !own_constraints(&pod.pod).is_empty() || !self.are_systems;
        let eligibility = Eligibility::new(&pod.pod, snapshot, &constraints, needs_all_keys);
        let scored: Vec<usize> = fitting
            .iter()
            .map(|node| node.slot)
            .filter(|slot| !needs_all_keys || eligibility.has_keys(*slot))
            .collect();
        let preference = |(place, constraint): (usize, &Constraint)| {
            let answer = ask(constraint, pod.namespace(), snapshot);
            let topology = Arc::clone(&eligibility.topologies[place]);
            let is_by_slot = constraint.key == HOSTNAME;
            let size = if is_by_slot { scored.len() } else { values(&topology, &scored) };
            let counts = if is_by_slot {
                answer.by_slot
            } else {
                eligibility.spread(constraint, place, answer, snapshot).totals
            };
            Preference { topology, counts, is_by_slot, weight: weight(size), base: base(constraint.max_skew) }
        };
        let parts = constraints.iter().enumerate().map(preference).collect();
        Some(Preferences { parts, needs_all_keys })
    }

    #[expect(clippy::cast_possible_truncation, reason = "counts of pods have few bits")]
    fn score(&self, preferences: &Preferences, node: &NodeInfo) -> i64 {
        let mut score = 0.0;
        for part in &preferences.parts {
            let Some(domain) = part.topology.domain(node.slot) else {
                if preferences.needs_all_keys {
                    return UNSCORED;
                }
                continue;
            };
            let place = if part.is_by_slot { node.slot } else { domain };
            let count = f64::from(part.counts.get(place).copied().unwrap_or(0));
            score += count * part.weight + part.base;
        }
        f64::round(score) as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let scored = || scores.iter().copied().filter(|score| *score != UNSCORED);
        let (fewest, most) = (scored().min().unwrap_or(0), scored().max().unwrap_or(0));
        for score in scores {
            *score = match *score {
                UNSCORED => 0,
                _ if most == 0 => MAX_SCORE,
                score => MAX_SCORE * (most + fewest - score) / most,
            };
        }
    }
}

/// How many values a label has on nodes; no value at all is one of them.
fn values(topology: &Topology, slots: &[usize]) -> usize {
    let mut seen = vec![false; topology.len()];
    let mut strays = false;
    for slot in slots {
        match topology.domain(*slot) {
            Some(domain) => seen[domain] = true,
            None => strays = true,
        }
    }
    seen.iter().filter(|seen| **seen).count() + usize::from(strays)
}

#[expect(clippy::cast_precision_loss, reason = "counts of domains have few bits")]
fn weight(size: usize) -> f64 {
    ((size + 2) as f64).ln()
}

#[expect(clippy::cast_precision_loss, reason = "a skew has few bits")]
const fn base(max_skew: i64) -> f64 {
    (max_skew - 1) as f64
}
