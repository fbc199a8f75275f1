//! Even spreading of like pods over the domains of topologies.

mod constraint;
mod eligibility;
mod score;

use std::sync::Arc;

use api::types::core::v1::{Pod, TopologySpreadConstraint};

use self::constraint::{Args, Constraint, Defaulting, HARD};
use self::constraint::{check_defaults, own_constraints, read, system_defaults};
use self::eligibility::{Eligibility, ask};
use super::taints::tolerations;
use super::{Filter, Plugin, Prepared, Roles, Shift};
use crate::events::{Event, Kinds};
use crate::objection::Objection;
use crate::pod::PodInfo;
use crate::snapshot::{Counts, NodeInfo, Snapshot};

/// Only nodes that keep the pod's hard constraints; rather those that keep its
/// soft ones, or, for pods without any, the default ones.
pub(super) struct PodTopologySpread {
    defaults: Vec<TopologySpreadConstraint>,
    /// Whether the defaults are upstream's own.
    are_systems: bool,
}

impl Plugin for PodTopologySpread {
    const NAME: &'static str = "PodTopologySpread";
    const HEEDS: Kinds = Kinds::NODE_MADE
        .with(Kinds::NODE_REMOVED)
        .with(Kinds::POD_ADDED)
        .with(Kinds::POD_CHANGED)
        .with(Kinds::POD_REMOVED)
        .with(Kinds::WAITING);
    type Args = Args;

    fn new(args: Args) -> Result<Self, String> {
        check_defaults(&args)?;
        let are_systems = args.defaulting_type == Defaulting::System;
        let defaults = if are_systems { system_defaults() } else { args.default_constraints };
        Ok(Self { defaults, are_systems })
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().filtering(&self).scoring(&self)
    }

    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        let own = own_constraints(&pod.pod);
        if own.is_empty() {
            // What the default constraints select depends on services and owners.
            return true;
        }
        is_helped(pod, &read(own, &pod.pod, HARD), event)
    }
}

fn is_helped(pod: &PodInfo, constraints: &[Constraint], event: &Event<'_>) -> bool {
    let selects = |one: &PodInfo| constraints.iter().any(|c| c.selector.matches(&one.pod.metadata.labels));
    let has_keys = |node: &NodeInfo| constraints.iter().all(|c| node.label(&c.key).is_some());
    let is_other_now = |old: &PodInfo, new: &PodInfo| {
        let differs = |c: &Constraint| {
            c.selector.matches(&old.pod.metadata.labels) != c.selector.matches(&new.pod.metadata.labels)
        };
        constraints.iter().any(differs)
    };
    match event {
        Event::PodAdded(other) | Event::PodRemoved(other) => {
            other.namespace() == pod.namespace() && selects(other)
        }
        Event::PodChanged { old, new } => new.namespace() == pod.namespace() && is_other_now(old, new),
        Event::Waiting { old, new } => {
            let tolerates_more = tolerations(&old.pod) != tolerations(&new.pod);
            tolerates_more && constraints.iter().any(|c| c.honors_taints) || is_other_now(old, new)
        }
        Event::NodeAdded(node) | Event::NodeRemoved(node) => has_keys(node),
        Event::NodeChanged { old, new } => {
            let moved = constraints.iter().any(|c| old.label(&c.key) != new.label(&c.key));
            has_keys(old) != has_keys(new) || has_keys(new) && (moved || old.taints != new.taints)
        }
        _ => false,
    }
}

/// What the filter knows.
#[derive(Clone)]
pub(super) struct Facts {
    shared: Arc<Shared>,
    counts: Vec<Counts>,
}

struct Shared {
    namespace: String,
    bounds: Vec<Bound>,
    eligibility: Eligibility,
}

/// A constraint, and how the pods that it selects are spread.
struct Bound {
    constraint: Constraint,
    /// 1 if the pod itself is selected.
    own: i64,
    /// The domain with the fewest pods, and the next.
    lowest: [(usize, i64); 2],
    /// How many domains there are.
    domains: usize,
}

impl Filter for PodTopologySpread {
    type Facts = Facts;
    const IS_LOCAL: bool = false;
    const LOOKS_AT_PODS: bool = true;

    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Prepared<Facts> {
        let constraints = self.constraints(&pod.pod, snapshot, HARD);
        if constraints.is_empty() {
            return Prepared::Indifferent;
        }
        let eligibility = Eligibility::new(&pod.pod, snapshot, &constraints, true);
        let (mut bounds, mut counts) = (Vec::new(), Vec::new());
        for (place, constraint) in constraints.into_iter().enumerate() {
            let answer = ask(&constraint, pod.namespace(), snapshot);
            let spread = eligibility.spread(&constraint, place, answer, snapshot);
            let own = i64::from(constraint.selector.matches(&pod.pod.metadata.labels));
            let lowest = spread.lowest();
            counts.push(Counts::new(spread.topology, spread.totals));
            bounds.push(Bound { constraint, own, lowest, domains: spread.domains });
        }
        let shared = Shared { namespace: pod.namespace().to_owned(), bounds, eligibility };
        Prepared::Facts(Facts { shared: Arc::new(shared), counts })
    }

    fn check(&self, facts: &Facts, node: &NodeInfo) -> Result<(), Objection> {
        for (bound, counts) in facts.shared.bounds.iter().zip(&facts.counts) {
            let Some(here) = counts.at(node.slot) else {
                return Err(Objection::lasting(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            if here + bound.own - bound.fewest(counts) > bound.constraint.max_skew {
                return Err(Objection::passing("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }

    fn shift(&self, facts: &mut Facts, shift: &Shift<'_>) {
        let shared = &facts.shared;
        if shift.pod.namespace() != shared.namespace || shift.pod.is_leaving {
            return;
        }
        if !shared.eligibility.has_keys(shift.node.slot) {
            return;
        }
        for (bound, counts) in shared.bounds.iter().zip(&mut facts.counts) {
            if bound.constraint.counts(shift.pod) && shared.eligibility.admits(&bound.constraint, shift.node)
            {
                counts.shift(shift.node.slot, shift.by);
            }
        }
    }
}

impl Bound {
    /// How many pods the emptiest domain has.
    fn fewest(&self, counts: &Counts) -> i64 {
        if self.domains < self.constraint.min_domains {
            return 0;
        }
        // Only one node is ever shifted, so only one domain.
        let [lowest, next] = self.lowest;
        counts.shifts().first().map_or(lowest.1, |(shifted, _)| {
            let others = if lowest.0 == *shifted { next.1 } else { lowest.1 };
            others.min(counts.of(*shifted))
        })
    }
}

impl PodTopologySpread {
    /// The constraints of one kind that hold for a pod.
    fn constraints(&self, pod: &Pod, snapshot: &Snapshot, kind: &str) -> Vec<Constraint> {
        let own = own_constraints(pod);
        if !own.is_empty() {
            return read(own, pod, kind);
        }
        let mut constraints = read(&self.defaults, pod, kind);
        if constraints.is_empty() {
            return constraints;
        }
        let Some(selector) = snapshot.workloads.selector_of(pod) else { return Vec::new() };
        for constraint in &mut constraints {
            constraint.selector = selector.clone();
        }
        constraints
    }
}
