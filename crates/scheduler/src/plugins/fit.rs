//! Room on nodes: enough of it, and how full the administrator wants them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;

use super::balance::{Resource, default_resources, measure};
use super::{Filter, MAX_SCORE, Plugin, Prepared, Roles, Score};
use crate::events::{Event, Kinds};
use crate::objection::{Objection, Reason, Shortage};
use crate::pod::PodInfo;
use crate::resources::{Amounts, is_extended};
use crate::snapshot::{NodeInfo, Snapshot};

/// The score of a point in the configured shape is out of this.
const SHAPE_SCALE: i64 = 10;

/// Only nodes with room; rather those that the strategy prefers.
pub(super) struct NodeResourcesFit {
    ignored: BTreeSet<String>,
    ignored_groups: BTreeSet<String>,
    strategy: Strategy,
}

/// Which nodes are preferred.
struct Strategy {
    resources: Vec<Resource>,
    aim: Aim,
}

enum Aim {
    /// Empty ones.
    LeastAllocated,
    /// Full ones.
    MostAllocated,
    /// Those at the heights of a line through points of use and score, in hundredths.
    Shape(Vec<(i64, i64)>),
}

/// `NodeResourcesFitArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Args {
    ignored_resources: BTreeSet<String>,
    ignored_resource_groups: BTreeSet<String>,
    scoring_strategy: StrategyArgs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct StrategyArgs {
    #[serde(rename = "type")]
    kind: StrategyType,
    resources: Vec<Resource>,
    requested_to_capacity_ratio: Option<RatioArgs>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum StrategyType {
    #[default]
    LeastAllocated,
    MostAllocated,
    RequestedToCapacityRatio,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RatioArgs {
    shape: Vec<Point>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    utilization: i64,
    score: i64,
}

impl Plugin for NodeResourcesFit {
    const NAME: &'static str = "NodeResourcesFit";
    const HEEDS: Kinds =
        Kinds::NODE_MADE.with(Kinds::POD_REMOVED).with(Kinds::POD_CHANGED).with(Kinds::WAITING);
    type Args = Args;

    fn new(args: Args) -> Result<Self, String> {
        if let Some(group) = args.ignored_resource_groups.iter().find(|group| group.contains('/')) {
            return Err(format!("ignoredResourceGroups: {group:?} has a slash: give what is before it"));
        }
        Ok(Self {
            ignored: args.ignored_resources,
            ignored_groups: args.ignored_resource_groups,
            strategy: Strategy::new(args.scoring_strategy)?,
        })
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().filtering(&self).scoring(&self)
    }

    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        let asked = &pod.requests.asked;
        match event {
            Event::NodeAdded(node) => self.objection(asked, node).is_none(),
            Event::NodeChanged { old, new } => {
                self.objection(asked, new).is_none() && offers_more(asked, old, new)
            }
            Event::PodRemoved(_) => true,
            Event::PodChanged { old, new } => {
                let less = |name| new.requests.asked.of(name) < old.requests.asked.of(name);
                asked.present().any(|(name, _)| less(name))
            }
            Event::Waiting { old, new } => crate::events::asks_for_less(&old.requests, &new.requests),
            _ => false,
        }
    }
}

impl Filter for NodeResourcesFit {
    type Facts = Amounts;
    const IS_LOCAL: bool = true;
    const LOOKS_AT_PODS: bool = true;

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Prepared<Amounts> {
        Prepared::Facts(pod.requests.asked.clone())
    }

    fn check(&self, asked: &Amounts, node: &NodeInfo) -> Result<(), Objection> {
        let (has, taken) = (&node.allocatable, &node.requested);
        let fits = |asked: i64, has: i64, taken: i64| asked == 0 || asked <= has - taken;
        if node.pod_count() < node.max_pods
            && asked.others.is_empty()
            && fits(asked.cpu, has.cpu, taken.cpu)
            && fits(asked.memory, has.memory, taken.memory)
            && fits(asked.ephemeral_storage, has.ephemeral_storage, taken.ephemeral_storage)
        {
            return Ok(());
        }
        self.objection(asked, node).map_or(Ok(()), Err)
    }
}

impl NodeResourcesFit {
    fn objection(&self, asked: &Amounts, node: &NodeInfo) -> Option<Objection> {
        let mut reasons = Vec::new();
        let mut can_be_evicted_away = true;
        if node.pod_count() + 1 > node.max_pods {
            let left = node.max_pods - node.pod_count();
            let shortage = Shortage { of: "pods".into(), asked: 1, left };
            reasons.push(Reason { text: "Too many pods".into(), shortage: Some(shortage) });
        }
        for (name, asked) in asked.present().filter(|(name, _)| !self.ignores(name)) {
            let has = node.allocatable.of(name);
            let left = has - node.requested.of(name);
            if asked <= left {
                continue;
            }
            can_be_evicted_away &= asked <= has;
            // The usual ones need no room of their own.
            let (of, text) = match name {
                "cpu" => ("cpu".into(), "Insufficient cpu".into()),
                "memory" => ("memory".into(), "Insufficient memory".into()),
                other => (other.to_owned().into(), format!("Insufficient {other}").into()),
            };
            reasons.push(Reason { text, shortage: Some(Shortage { of, asked, left }) });
        }
        (!reasons.is_empty()).then_some(Objection { reasons, can_be_evicted_away })
    }

    fn ignores(&self, name: &str) -> bool {
        is_extended(name)
            && (self.ignored.contains(name)
                || name.split('/').next().is_some_and(|group| self.ignored_groups.contains(group)))
    }
}

/// Whether a node has more of what is asked for than it had.
fn offers_more(asked: &Amounts, old: &NodeInfo, new: &NodeInfo) -> bool {
    new.max_pods > old.max_pods
        || asked.present().any(|(name, _)| new.allocatable.of(name) > old.allocatable.of(name))
}

impl Score for NodeResourcesFit {
    type Facts = Vec<i64>;
    const IS_LOCAL: bool = true;

    fn prepare(&self, pod: &PodInfo, _: &Snapshot, _: &[&NodeInfo]) -> Option<Vec<i64>> {
        let asked = pod.shape.scored();
        Some(self.strategy.resources.iter().map(|resource| asked.of(&resource.name)).collect())
    }

    fn score(&self, asked: &Vec<i64>, node: &NodeInfo) -> i64 {
        let (mut score, mut weights) = (0, 0);
        for (resource, asked) in self.strategy.resources.iter().zip(asked) {
            let Some((taken, has)) = measure(&resource.name, *asked, node, &node.requested_for_scores) else {
                continue;
            };
            let own = self.strategy.aim.score(taken + asked, has);
            if own == 0 && matches!(self.strategy.aim, Aim::Shape(_)) {
                continue;
            }
            score += own * resource.weight;
            weights += resource.weight;
        }
        match (weights, &self.strategy.aim) {
            (0, _) => 0,
            (weights, Aim::Shape(_)) => rounded(score, weights),
            (weights, _) => score / weights,
        }
    }
}

/// The quotient, rounded to the nearest, halves up.
const fn rounded(score: i64, weights: i64) -> i64 {
    (2 * score + weights) / (2 * weights)
}

impl Strategy {
    fn new(args: StrategyArgs) -> Result<Self, String> {
        let mut resources = args.resources;
        if resources.is_empty() {
            resources = default_resources();
        }
        for resource in &mut resources {
            if resource.weight == 0 {
                resource.weight = 1;
            }
            if !(1..=100).contains(&resource.weight) {
                return Err(format!("scoringStrategy: the weight of {} is not in 1 to 100", resource.name));
            }
        }
        let aim = match (args.kind, args.requested_to_capacity_ratio) {
            (StrategyType::LeastAllocated, None) => Aim::LeastAllocated,
            (StrategyType::MostAllocated, None) => Aim::MostAllocated,
            (StrategyType::RequestedToCapacityRatio, Some(ratio)) => Aim::Shape(shape(&ratio.shape)?),
            (StrategyType::RequestedToCapacityRatio, None) => {
                return Err("scoringStrategy: the type RequestedToCapacityRatio needs \
                            requestedToCapacityRatio with a shape"
                    .to_owned());
            }
            (_, Some(_)) => {
                return Err("scoringStrategy: requestedToCapacityRatio goes with the type \
                            RequestedToCapacityRatio only: set that type, or leave it out"
                    .to_owned());
            }
        };
        Ok(Self { resources, aim })
    }
}

fn shape(points: &[Point]) -> Result<Vec<(i64, i64)>, String> {
    if points.is_empty() {
        return Err("requestedToCapacityRatio: the shape needs at least one point".to_owned());
    }
    if points.windows(2).any(|pair| pair[0].utilization >= pair[1].utilization) {
        return Err(
            "requestedToCapacityRatio: the points of the shape must be in order of utilization".to_owned()
        );
    }
    let fits =
        |point: &Point| (0..=100).contains(&point.utilization) && (0..=SHAPE_SCALE).contains(&point.score);
    if !points.iter().all(fits) {
        return Err(format!(
            "requestedToCapacityRatio: utilization goes from 0 to 100, score from 0 to {SHAPE_SCALE}"
        ));
    }
    Ok(points.iter().map(|point| (point.utilization, point.score * MAX_SCORE / SHAPE_SCALE)).collect())
}

impl Aim {
    fn score(&self, taken: i64, has: i64) -> i64 {
        match self {
            Self::LeastAllocated if taken > has => 0,
            Self::LeastAllocated => (has - taken) * MAX_SCORE / has,
            Self::MostAllocated => taken.min(has) * MAX_SCORE / has,
            Self::Shape(points) if taken > has => height(points, 100),
            Self::Shape(points) => height(points, taken * 100 / has),
        }
    }
}

/// The height of a line through points.
fn height(points: &[(i64, i64)], at: i64) -> i64 {
    let next = points.iter().position(|(utilization, _)| at <= *utilization);
    match next {
        Some(0) => points[0].1,
        Some(next) => {
            let ((left, low), (right, high)) = (points[next - 1], points[next]);
            low + (high - low) * (at - left) / (right - left)
        }
        None => points.last().map_or(0, |(_, score)| *score),
    }
}
