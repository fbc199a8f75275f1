//! Room on nodes: enough of it, and its even use.

use api::types::core::v1::Pod;

use super::{ClusterEvent, Filter, MAX_SCORE, Reasons, Score};
use crate::resources::{Amounts, Requests};
use crate::snapshot::NodeState;

/// Only nodes with room; rather those with most of it left (upstream's LeastAllocated).
pub(super) struct NodeResourcesFit;

impl Filter for NodeResourcesFit {
    const NAME: &'static str = "NodeResourcesFit";
    const UNBLOCKED_BY: &'static [ClusterEvent] =
        &[ClusterEvent::NodeAdded, ClusterEvent::NodeAllocatable, ClusterEvent::PodRemoved];
    type Facts = Amounts;

    fn facts(pod: &Pod) -> Option<Amounts> {
        Some(Requests::of(pod).asked)
    }

    fn check(asked: &Amounts, node: &NodeState) -> Reasons {
        let mut reasons = Reasons::new();
        if node.pods + 1 > node.max_pods {
            reasons.push("Too many pods".into());
        }
        let lacks = |asked: i64, has: i64, taken: i64| asked > 0 && asked > has.saturating_sub(taken);
        let (has, taken) = (&node.allocatable, &node.requested);
        if lacks(asked.cpu, has.cpu, taken.cpu) {
            reasons.push("Insufficient cpu".into());
        }
        if lacks(asked.memory, has.memory, taken.memory) {
            reasons.push("Insufficient memory".into());
        }
        if lacks(asked.ephemeral_storage, has.ephemeral_storage, taken.ephemeral_storage) {
            reasons.push("Insufficient ephemeral-storage".into());
        }
        for (name, asked) in &asked.others {
            let of = |amounts: &Amounts| amounts.others.get(name).copied().unwrap_or(0);
            if lacks(*asked, of(has), of(taken)) {
                reasons.push(format!("Insufficient {name}").into());
            }
        }
        reasons
    }
}

impl Score for NodeResourcesFit {
    const NAME: &'static str = "NodeResourcesFit";
    type Facts = Amounts;

    fn facts(pod: &Pod) -> Option<Amounts> {
        Some(Requests::of(pod).for_scores)
    }

    fn score(asked: &Amounts, node: &NodeState) -> i64 {
        let (has, taken) = (&node.allocatable, &node.requested_for_scores);
        let free = |has: i64, taken: i64| if taken > has { 0 } else { (has - taken) * MAX_SCORE / has };
        let scores = [(has.cpu, taken.cpu + asked.cpu), (has.memory, taken.memory + asked.memory)];
        let counted: Vec<i64> =
            scores.into_iter().filter(|(has, _)| *has > 0).map(|(has, taken)| free(has, taken)).collect();
        match i64::try_from(counted.len()) {
            Ok(count) if count > 0 => counted.iter().sum::<i64>() / count,
            _ => 0,
        }
    }
}

/// Rather nodes that then use the same share of processor time as of memory.
pub(super) struct BalancedAllocation;

impl Score for BalancedAllocation {
    const NAME: &'static str = "NodeResourcesBalancedAllocation";
    type Facts = Amounts;

    /// A pod that asks for nothing says nothing about balance.
    fn facts(pod: &Pod) -> Option<Amounts> {
        Some(Requests::of(pod).asked).filter(|asked| asked.cpu > 0 || asked.memory > 0)
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a share needs few bits"
    )]
    fn score(asked: &Amounts, node: &NodeState) -> i64 {
        let (has, taken) = (&node.allocatable, &node.requested);
        if has.cpu <= 0 || has.memory <= 0 {
            return MAX_SCORE;
        }
        let share = |taken: i64, has: i64| (taken as f64 / has as f64).min(1.0);
        let (cpu, memory) =
            (share(taken.cpu + asked.cpu, has.cpu), share(taken.memory + asked.memory, has.memory));
        ((1.0 - (cpu - memory).abs() / 2.0) * MAX_SCORE as f64) as i64
    }
}
