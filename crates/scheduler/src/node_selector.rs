//! Selectors of nodes, by their labels and names.

use std::collections::BTreeSet;

use api::LabelSelector;
use api::selector::{Requirement, Test};
use api::types::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod};

use crate::snapshot::NodeInfo;

/// A term: all of its requirements must hold. A term that asks for nothing, or
/// for what cannot be understood, matches no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    labels: LabelSelector,
    /// Tests of the node's name.
    names: Vec<Test>,
}

/// Terms of which one must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms(Vec<Term>);

/// What a pod requires of nodes: its node selector and its required affinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    selector: LabelSelector,
    /// `None`: no affinity.
    terms: Option<Terms>,
}

impl Term {
    /// Reads a term.
    #[must_use]
    pub fn new(term: &NodeSelectorTerm) -> Self {
        understand(term).unwrap_or(Self { labels: LabelSelector::nothing(), names: Vec::new() })
    }

    /// Whether a node meets it.
    #[must_use]
    pub fn matches(&self, node: &NodeInfo) -> bool {
        let name = |test: &Test| match test {
            Test::In(names) => names.iter().any(|name| **name == *node.name),
            Test::NotIn(names) => names.iter().all(|name| **name != *node.name),
            _ => false,
        };
        self.labels.matches(&node.node.metadata.labels) && self.names.iter().all(name)
    }

    /// The names that a node must have one of; `None`: any name.
    fn names(&self) -> Option<BTreeSet<String>> {
        let lists = self.names.iter().filter_map(|test| match test {
            Test::In(names) => Some(names.iter().cloned().collect::<BTreeSet<_>>()),
            _ => None,
        });
        lists.reduce(|all, more| all.intersection(&more).cloned().collect())
    }
}

impl Terms {
    /// Reads a selector.
    #[must_use]
    pub fn new(selector: &NodeSelector) -> Self {
        Self(selector.node_selector_terms.iter().map(Term::new).collect())
    }

    /// Whether a node meets one of the terms.
    #[must_use]
    pub fn matches(&self, node: &NodeInfo) -> bool {
        self.0.iter().any(|term| term.matches(node))
    }

    /// The names that a node must have one of; `None`: any name.
    #[must_use]
    pub fn names(&self) -> Option<BTreeSet<String>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.iter().map(Term::names).try_fold(BTreeSet::new(), |mut all, names| {
            all.extend(names?);
            Some(all)
        })
    }
}

impl Required {
    /// What a pod requires; `None`: nothing.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let selector = LabelSelector::from_map(spec.node_selector.iter().flatten());
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let terms = affinity
            .and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref())
            .map(Terms::new);
        (!selector.is_everything() || terms.is_some()).then_some(Self { selector, terms })
    }

    /// Whether a node meets it.
    #[must_use]
    pub fn matches(&self, node: &NodeInfo) -> bool {
        self.selector.matches(&node.node.metadata.labels)
            && self.terms.as_ref().is_none_or(|terms| terms.matches(node))
    }

    /// The names that a node must have one of; `None`: any name.
    #[must_use]
    pub fn names(&self) -> Option<BTreeSet<String>> {
        self.terms.as_ref()?.names()
    }
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
