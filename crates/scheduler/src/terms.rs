//! Terms of affinity between pods: which pods, and how near.

use std::collections::{BTreeMap, BTreeSet};

use api::LabelSelector;
use api::types::core::v1::{Pod, PodAffinityTerm, WeightedPodAffinityTerm};

use crate::pod::PodInfo;

/// Labels of an object; `None`: it has none.
pub type Labels = Option<BTreeMap<String, String>>;

/// Pods near which a pod wants to be, or must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Namespaces of the pods that are meant.
    pub namespaces: BTreeSet<String>,
    /// Further namespaces, by their labels.
    pub namespace_selector: LabelSelector,
    /// Labels of the pods that are meant.
    pub selector: LabelSelector,
    /// The label of nodes whose value says what is near.
    pub topology_key: String,
}

impl Term {
    /// Whether a pod is meant whose namespace has these labels.
    #[must_use]
    pub fn matches(&self, pod: &PodInfo, namespace: &Labels) -> bool {
        self.selector.matches(&pod.pod.metadata.labels)
            && (self.namespaces.contains(pod.namespace()) || self.namespace_selector.matches(namespace))
    }
}

/// All terms of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// It must be near these.
    pub required: Vec<Term>,
    /// It must not be near these.
    pub forbidden: Vec<Term>,
    /// It wants to be near these; the weights say how much.
    pub preferred: Vec<(i64, Term)>,
    /// It wants to be away from these; the weights say how much.
    pub avoided: Vec<(i64, Term)>,
}

impl Terms {
    /// The terms of a pod.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let mut terms = Self::default();
        let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else { return terms };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(near) = &affinity.pod_affinity {
            terms.required =
                plain(near.required_during_scheduling_ignored_during_execution.as_ref(), namespace);
            terms.preferred =
                weighted(near.preferred_during_scheduling_ignored_during_execution.as_ref(), namespace);
        }
        if let Some(away) = &affinity.pod_anti_affinity {
            terms.forbidden =
                plain(away.required_during_scheduling_ignored_during_execution.as_ref(), namespace);
            terms.avoided =
                weighted(away.preferred_during_scheduling_ignored_during_execution.as_ref(), namespace);
        }
        terms
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.required.is_empty()
            && self.forbidden.is_empty()
            && self.preferred.is_empty()
            && self.avoided.is_empty()
    }
}

fn plain(terms: Option<&Vec<PodAffinityTerm>>, namespace: &str) -> Vec<Term> {
    terms.into_iter().flatten().map(|one| term(one, namespace)).collect()
}

fn weighted(terms: Option<&Vec<WeightedPodAffinityTerm>>, namespace: &str) -> Vec<(i64, Term)> {
    let terms = terms.into_iter().flatten();
    terms.map(|one| (i64::from(one.weight), term(&one.pod_affinity_term, namespace))).collect()
}

/// A term of a pod in a namespace. A selector that cannot be read, which the
/// API server lets pass nowhere, matches nothing.
fn term(term: &PodAffinityTerm, namespace: &str) -> Term {
    let read = |selector| LabelSelector::from_api(selector).unwrap_or_else(|_| LabelSelector::nothing());
    let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.insert(namespace.to_owned());
    }
    Term {
        namespaces,
        namespace_selector: read(term.namespace_selector.as_ref()),
        selector: read(term.label_selector.as_ref()),
        topology_key: term.topology_key.clone(),
    }
}

/// Whether a pod is meant by every term; by none, if there is none. For terms of
/// which [`Term::namespace_selector`] was resolved into names.
#[must_use]
pub fn all_match(terms: &[Term], pod: &PodInfo) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.matches(pod, &None))
}
