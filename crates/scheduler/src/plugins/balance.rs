//! Even use of the resources of nodes.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;

use super::{MAX_SCORE, Plugin, Roles, Score};
use crate::events::{Event, Kinds};
use crate::pod::PodInfo;
use crate::resources::{Amounts, is_counted};
use crate::snapshot::{NodeInfo, Snapshot};

/// A resource that counts, and how much.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resource {
    pub(super) name: String,
    #[serde(default)]
    pub(super) weight: i64,
}

/// Processor time and memory, alike.
pub(super) fn default_resources() -> Vec<Resource> {
    ["cpu", "memory"].map(|name| Resource { name: name.to_owned(), weight: 1 }).into()
}

/// What is taken of a resource of a node, and what the node has; `None`: it does
/// not count, because the node has none, or nobody asks for it.
pub(super) fn measure(name: &str, asked: i64, node: &NodeInfo, taken: &Amounts) -> Option<(i64, i64)> {
    if asked == 0 && is_counted(name) {
        return None;
    }
    let has = node.allocatable.of(name);
    let taken = if matches!(name, "cpu" | "memory") { taken } else { &node.requested };
    (has != 0).then(|| (taken.of(name), has))
}

/// Rather nodes whose resources are used more evenly with the pod than without.
pub(super) struct BalancedAllocation {
    resources: Vec<Resource>,
}

/// `NodeResourcesBalancedAllocationArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Args {
    resources: Vec<Resource>,
}

impl Plugin for BalancedAllocation {
    const NAME: &'static str = "NodeResourcesBalancedAllocation";
    const HEEDS: Kinds = Kinds::NONE;
    type Args = Args;

    fn new(args: Args) -> Result<Self, String> {
        let resources = if args.resources.is_empty() { default_resources() } else { args.resources };
        let mut seen = BTreeSet::new();
        for resource in &resources {
            if !seen.insert(&resource.name) {
                return Err(format!("resources: {} is listed twice", resource.name));
            }
            if resource.weight > 1 {
                return Err(format!("resources: the weight of {} must be 1", resource.name));
            }
        }
        Ok(Self { resources })
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().scoring(&self)
    }

    fn is_helped_by(&self, _: &PodInfo, _: &Event<'_>) -> bool {
        false
    }
}

impl Score for BalancedAllocation {
    type Facts = Vec<i64>;
    const IS_LOCAL: bool = true;

    /// A pod that asks for nothing says nothing about balance.
    fn prepare(&self, pod: &PodInfo, _: &Snapshot, _: &[&NodeInfo]) -> Option<Vec<i64>> {
        let asked: Vec<i64> =
            self.resources.iter().map(|resource| pod.requests.asked.of(&resource.name)).collect();
        asked.iter().any(|asked| *asked != 0).then_some(asked)
    }

    fn score(&self, asked: &Vec<i64>, node: &NodeInfo) -> i64 {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for (resource, asked) in self.resources.iter().zip(asked) {
            if let Some((taken, has)) = measure(&resource.name, *asked, node, &node.requested) {
                with.push(share(taken + asked, has));
                without.push(share(taken, has));
            }
        }
        let half = MAX_SCORE / 2;
        half + (half + evenness(&with) - evenness(&without)) / 2
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs few bits")]
fn share(taken: i64, has: i64) -> f64 {
    (taken as f64 / has as f64).min(1.0)
}

/// [`MAX_SCORE`] where all shares are equal, less the further they are apart.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a score needs few bits")]
fn evenness(shares: &[f64]) -> i64 {
    let deviation = match shares {
        [] | [_] => 0.0,
        [one, two] => ((one - two) / 2.0).abs(),
        many => {
            let mean = many.iter().sum::<f64>() / many.len() as f64;
            let squares: f64 = many.iter().map(|share| (share - mean).powi(2)).sum();
            (squares / many.len() as f64).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}
