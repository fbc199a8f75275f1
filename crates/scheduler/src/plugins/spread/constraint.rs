//! Constraints as pods and administrators write them, read.

use api::LabelSelector;
use api::selector::{Requirement, Test};
use api::types::core::v1::{Pod, TopologySpreadConstraint};

use crate::pod::PodInfo;

pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
pub(super) const HARD: &str = "DoNotSchedule";
pub(super) const SOFT: &str = "ScheduleAnyway";

/// `PodTopologySpreadArgs`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::plugins) struct Args {
    pub(super) default_constraints: Vec<TopologySpreadConstraint>,
    pub(super) defaulting_type: Defaulting,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub(super) enum Defaulting {
    #[default]
    System,
    List,
}

/// A constraint, read.
#[derive(Clone, Debug)]
pub(super) struct Constraint {
    pub(super) max_skew: i64,
    pub(super) key: String,
    pub(super) selector: LabelSelector,
    pub(super) min_domains: usize,
    pub(super) honors_affinity: bool,
    pub(super) honors_taints: bool,
}

impl Constraint {
    /// Whether a pod is counted. A selector that selects everything counts nothing.
    pub(super) fn counts(&self, pod: &PodInfo) -> bool {
        !self.selector.is_everything() && self.selector.matches(&pod.pod.metadata.labels)
    }
}

/// The constraints that a pod has itself.
pub(super) fn own_constraints(pod: &Pod) -> &[TopologySpreadConstraint] {
    pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_deref()).unwrap_or_default()
}

/// The constraints of one kind.
pub(super) fn read(constraints: &[TopologySpreadConstraint], pod: &Pod, kind: &str) -> Vec<Constraint> {
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

/// Upstream's own defaults.
pub(super) fn system_defaults() -> Vec<TopologySpreadConstraint> {
    let soft = |key: &str, max_skew| TopologySpreadConstraint {
        topology_key: key.to_owned(),
        when_unsatisfiable: SOFT.to_owned(),
        max_skew,
        ..TopologySpreadConstraint::default()
    };
    vec![soft(HOSTNAME, 3), soft(ZONE, 5)]
}

/// Whether default constraints make sense.
pub(super) fn check_defaults(args: &Args) -> Result<(), String> {
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
