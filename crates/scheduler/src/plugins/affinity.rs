//! Nodes that a pod asks for or prefers by their labels.

use api::LabelSelector;
use api::selector::{Requirement, Test};
use api::types::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};

use super::{ClusterEvent, Filter, Reasons, Score, stretch};
use crate::snapshot::NodeState;

/// Only nodes that match the pod's node selector and required affinity; rather
/// those that match its preferred affinity.
pub(super) struct NodeAffinity;

/// A term: all of its requirements must hold. A term that asks for nothing, or
/// for what cannot be understood, matches no node.
pub(super) struct Term {
    labels: LabelSelector,
    /// Tests of the node's name.
    names: Vec<Test>,
}

/// What a pod requires.
pub(super) struct Required {
    selector: LabelSelector,
    /// One of these must match; `None`: no affinity.
    terms: Option<Vec<Term>>,
}

impl Filter for NodeAffinity {
    const NAME: &'static str = "NodeAffinity";
    const UNBLOCKED_BY: &'static [ClusterEvent] = &[ClusterEvent::NodeAdded, ClusterEvent::NodeLabels];
    type Facts = Required;

    fn facts(pod: &Pod) -> Option<Required> {
        let spec = pod.spec.as_ref()?;
        let selector = LabelSelector::from_map(spec.node_selector.iter().flatten());
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required =
            affinity.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref());
        let terms = required.map(|required| required.node_selector_terms.iter().map(term).collect());
        (!selector.is_everything() || terms.is_some()).then_some(Required { selector, terms })
    }

    fn check(required: &Required, node: &NodeState) -> Reasons {
        let selected = required.selector.matches(&node.node.metadata.labels);
        let any = |terms: &Vec<Term>| terms.iter().any(|term| term.matches(node));
        if selected && required.terms.as_ref().is_none_or(any) {
            Vec::new()
        } else {
            vec!["node(s) didn't match Pod's node affinity/selector".into()]
        }
    }
}

impl Score for NodeAffinity {
    const NAME: &'static str = "NodeAffinity";
    type Facts = Vec<(i64, Term)>;

    fn facts(pod: &Pod) -> Option<Vec<(i64, Term)>> {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.as_ref()?;
        Some(preferred.iter().map(|one| (i64::from(one.weight), term(&one.preference))).collect())
    }

    fn score(preferred: &Vec<(i64, Term)>, node: &NodeState) -> i64 {
        preferred.iter().filter(|(_, term)| term.matches(node)).map(|(weight, _)| weight).sum()
    }

    fn normalize(scores: &mut [i64]) {
        stretch(scores, false);
    }
}

impl Term {
    fn matches(&self, node: &NodeState) -> bool {
        let name = |test: &Test| match test {
            Test::In(names) => names.contains(&node.name),
            Test::NotIn(names) => !names.contains(&node.name),
            _ => false,
        };
        self.labels.matches(&node.node.metadata.labels) && self.names.iter().all(name)
    }
}

fn term(term: &NodeSelectorTerm) -> Term {
    understand(term).unwrap_or(Term { labels: LabelSelector::nothing(), names: Vec::new() })
}

fn understand(term: &NodeSelectorTerm) -> Option<Term> {
    let labels = term.match_expressions.iter().flatten();
    let labels: Vec<Requirement> = labels
        .map(|one| Some(Requirement { key: one.key.clone(), test: test(one)? }))
        .collect::<Option<_>>()?;
    let fields = term.match_fields.iter().flatten();
    let names: Vec<Test> =
        fields.map(|one| test(one).filter(|_| one.key == "metadata.name")).collect::<Option<_>>()?;
    if labels.is_empty() && names.is_empty() {
        return None;
    }
    Some(Term { labels: LabelSelector::from_requirements(labels), names })
}

fn test(requirement: &NodeSelectorRequirement) -> Option<Test> {
    let values = requirement.values.clone().unwrap_or_default();
    let number = || values.first()?.parse().ok();
    Some(match requirement.operator.as_str() {
        "In" => Test::In(values),
        "NotIn" => Test::NotIn(values),
        "Exists" => Test::Exists,
        "DoesNotExist" => Test::DoesNotExist,
        "Gt" => Test::Greater(number()?),
        "Lt" => Test::Less(number()?),
        _ => return None,
    })
}
