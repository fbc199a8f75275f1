//! Even spreading of like pods over the domains of topologies.

use std::sync::Arc;

use api::LabelSelector;
use api::selector::{Requirement, Test};
use api::types::core::v1::{Pod, Toleration, TopologySpreadConstraint};

use super::taints::{is_kept_out, tolerations};
use super::{Filter, MAX_SCORE, Plugin, Prepared, Roles, Score, Shift};
use crate::events::{Event, Kinds};
use crate::node_selector::Required;
use crate::objection::Objection;
use crate::pod::PodInfo;
use crate::snapshot::{Answer, Counts, NodeInfo, Question, Scope, Snapshot, Topology};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const HARD: &str = "DoNotSchedule";
const SOFT: &str = "ScheduleAnyway";
/// A score that stands for "not to be scored".
const UNSCORED: i64 = -1;

/// Only nodes that keep the pod's hard constraints; rather those that keep its
/// soft ones, or, for pods without any, the default ones.
pub(super) struct PodTopologySpread {
    defaults: Vec<TopologySpreadConstraint>,
    /// Whether the defaults are upstream's own.
    are_systems: bool,
}

/// `PodTopologySpreadArgs`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Args {
    default_constraints: Vec<TopologySpreadConstraint>,
    defaulting_type: Defaulting,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
enum Defaulting {
    #[default]
    System,
    List,
}

/// A constraint, read.
#[derive(Clone, Debug)]
struct Constraint {
    max_skew: i64,
    key: String,
    selector: LabelSelector,
    min_domains: usize,
    honors_affinity: bool,
    honors_taints: bool,
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

impl Constraint {
    /// Whether a pod is counted. A selector that selects everything counts nothing.
    fn counts(&self, pod: &PodInfo) -> bool {
        !self.selector.is_everything() && self.selector.matches(&pod.pod.metadata.labels)
    }
}

/// Which nodes count.
struct Eligibility {
    required: Option<Required>,
    tolerations: Vec<Toleration>,
    topologies: Vec<Arc<Topology>>,
    needs_all_keys: bool,
}

/// How pods are spread over the nodes that count.
struct Spread {
    topology: Arc<Topology>,
    totals: Arc<Vec<u32>>,
    /// Whether each domain has a node that counts; `None`: all that have nodes.
    seen: Option<Vec<bool>>,
    domains: usize,
}

impl Eligibility {
    fn new(pod: &Pod, snapshot: &Snapshot, constraints: &[Constraint], needs_all_keys: bool) -> Self {
        Self {
            required: Required::of(pod),
            tolerations: tolerations(pod).to_vec(),
            topologies: constraints.iter().map(|one| snapshot.topology(&one.key)).collect(),
            needs_all_keys,
        }
    }

    fn has_keys(&self, slot: usize) -> bool {
        self.topologies.iter().all(|topology| topology.domain(slot).is_some())
    }

    fn admits(&self, constraint: &Constraint, node: &NodeInfo) -> bool {
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

    fn spread(&self, constraint: &Constraint, place: usize, answer: Answer, snapshot: &Snapshot) -> Spread {
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
    fn lowest(&self) -> [(usize, i64); 2] {
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

fn ask(constraint: &Constraint, namespace: &str, snapshot: &Snapshot) -> Answer {
    if constraint.selector.is_everything() {
        return Answer::default();
    }
    let scope = Scope::Names([namespace.to_owned()].into());
    let question = Question { parts: vec![(scope, constraint.selector.clone())], only_staying: true };
    snapshot.count(question, &constraint.key).1
}

/// What the score knows.
pub(super) struct Preferences {
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

fn own_constraints(pod: &Pod) -> &[TopologySpreadConstraint] {
    pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_deref()).unwrap_or_default()
}

fn read(constraints: &[TopologySpreadConstraint], pod: &Pod, kind: &str) -> Vec<Constraint> {
    let wanted = constraints.iter().filter(|one| one.when_unsatisfiable == kind);
    wanted
        .map(|one| Constraint {
            max_skew: i64::from(one.max_skew),
            key: one.topology_key.clone(),
            selector: selector(one, pod),
            min_domains: one.min_domains.and_then(|count| usize::try_from(count).ok()).unwrap_or(1),
            honors_affinity: one.node_affinity_policy.as_deref().unwrap_or("Honor") == "Honor",
            honors_taints: one.node_taints_policy.as_deref() == Some("Honor"),
        })
        .collect()
}

/// The selector of a constraint, with the pod's own values of the labels in
/// `matchLabelKeys`.
fn selector(constraint: &TopologySpreadConstraint, pod: &Pod) -> LabelSelector {
    let selector = LabelSelector::from_api(constraint.label_selector.as_ref());
    let selector = selector.unwrap_or_else(|_| LabelSelector::nothing());
    let labels = pod.metadata.labels.as_ref();
    let mut requirements: Vec<Requirement> = constraint
        .match_label_keys
        .iter()
        .flatten()
        .filter_map(|key| {
            let value = labels?.get(key)?;
            Some(Requirement { key: key.clone(), test: Test::In(vec![value.clone()]) })
        })
        .collect();
    if requirements.is_empty() || selector == LabelSelector::nothing() {
        return selector;
    }
    requirements.extend(selector.requirements().iter().cloned());
    LabelSelector::from_requirements(requirements)
}

fn system_defaults() -> Vec<TopologySpreadConstraint> {
    let soft = |key: &str, max_skew| TopologySpreadConstraint {
        topology_key: key.to_owned(),
        when_unsatisfiable: SOFT.to_owned(),
        max_skew,
        ..TopologySpreadConstraint::default()
    };
    vec![soft(HOSTNAME, 3), soft(ZONE, 5)]
}

fn check_defaults(args: &Args) -> Result<(), String> {
    let constraints = &args.default_constraints;
    if args.defaulting_type == Defaulting::System && !constraints.is_empty() {
        return Err("defaultConstraints need defaultingType: List".to_owned());
    }
    for (place, one) in constraints.iter().enumerate() {
        let at = format!("defaultConstraints[{place}]");
        if one.max_skew <= 0 {
            return Err(format!("{at}: maxSkew must be greater than zero"));
        }
        if one.topology_key.is_empty() {
            return Err(format!("{at}: topologyKey is missing"));
        }
        if ![HARD, SOFT].contains(&one.when_unsatisfiable.as_str()) {
            return Err(format!("{at}: whenUnsatisfiable must be {HARD} or {SOFT}"));
        }
        if one.label_selector.is_some() {
            return Err(format!("{at}: labelSelector is deduced for each pod: leave it out"));
        }
        let same = |other: &TopologySpreadConstraint| {
            other.topology_key == one.topology_key && other.when_unsatisfiable == one.when_unsatisfiable
        };
        if constraints[..place].iter().any(same) {
            return Err(format!("{at}: {} {} is there twice", one.topology_key, one.when_unsatisfiable));
        }
    }
    Ok(())
}
