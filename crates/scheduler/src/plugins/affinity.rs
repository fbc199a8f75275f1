//! Nodes that a pod, or the administrator for all pods, asks for or prefers.

use std::sync::Arc;

use api::types::core::v1::{NodeAffinity as Affinity, Pod, PreferredSchedulingTerm};

use super::{Filter, Plugin, Prepared, Roles, Score, stretch};
use crate::events::{Event, Kinds};
use crate::node_selector::{Required, Term, Terms};
use crate::objection::Objection;
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

/// Only nodes that match the pod's node selector and required affinity; rather
/// those that match its preferred affinity.
pub(super) struct NodeAffinity {
    /// What the administrator requires of the nodes of every pod.
    added: Option<Terms>,
    /// What the administrator prefers.
    added_preferences: Vec<(i64, Term)>,
}

/// `NodeAffinityArgs`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Args {
    added_affinity: Option<Affinity>,
}

impl Plugin for NodeAffinity {
    const NAME: &'static str = "NodeAffinity";
    const HEEDS: Kinds = Kinds::NODE_MADE;
    type Args = Args;

    fn new(args: Args) -> Result<Self, String> {
        let affinity = args.added_affinity.unwrap_or_default();
        let required = affinity.required_during_scheduling_ignored_during_execution;
        if required.as_ref().is_some_and(|one| one.node_selector_terms.is_empty()) {
            return Err(
                "addedAffinity requires nothing: give it a node selector term, or leave it out".to_owned()
            );
        }
        Ok(Self {
            added: required.as_ref().map(Terms::new),
            added_preferences: weighted(
                affinity.preferred_during_scheduling_ignored_during_execution.as_deref(),
            ),
        })
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().filtering(&self).scoring(&self)
    }

    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        let required = Required::of(&pod.pod);
        let fits = |node: &NodeInfo| {
            self.added.as_ref().is_none_or(|added| added.matches(node))
                && required.as_ref().is_none_or(|required| required.matches(node))
        };
        match event {
            Event::NodeAdded(node) => fits(node),
            Event::NodeChanged { old, new } => !fits(old) && fits(new),
            _ => false,
        }
    }
}

impl Filter for NodeAffinity {
    type Facts = Option<Required>;
    const IS_LOCAL: bool = true;
    const LOOKS_AT_PODS: bool = false;

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Prepared<Option<Required>> {
        let Some(required) = Required::of(&pod.pod) else {
            return if self.added.is_none() { Prepared::Indifferent } else { Prepared::Facts(None) };
        };
        match required.names() {
            None => Prepared::Facts(Some(required)),
            Some(names) if names.is_empty() => {
                Prepared::Refused(Objection::lasting("pod affinity terms conflict"))
            }
            Some(names) => Prepared::Only(names, Some(required)),
        }
    }

    fn check(&self, required: &Option<Required>, node: &NodeInfo) -> Result<(), Objection> {
        if self.added.as_ref().is_some_and(|added| !added.matches(node)) {
            return Err(Objection::lasting("node(s) didn't match scheduler-enforced node affinity"));
        }
        if required.as_ref().is_some_and(|required| !required.matches(node)) {
            return Err(Objection::lasting("node(s) didn't match Pod's node affinity/selector"));
        }
        Ok(())
    }
}

impl Score for NodeAffinity {
    type Facts = Vec<(i64, Term)>;
    const IS_LOCAL: bool = true;

    fn prepare(&self, pod: &PodInfo, _: &Snapshot, _: &[&NodeInfo]) -> Option<Vec<(i64, Term)>> {
        let mut preferred = weighted(preferences(&pod.pod));
        preferred.extend(self.added_preferences.iter().cloned());
        (!preferred.is_empty()).then_some(preferred)
    }

    fn score(&self, preferred: &Vec<(i64, Term)>, node: &NodeInfo) -> i64 {
        preferred.iter().filter(|(_, term)| term.matches(node)).map(|(weight, _)| weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        stretch(scores, false);
    }
}

fn preferences(pod: &Pod) -> Option<&[PreferredSchedulingTerm]> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    affinity.preferred_during_scheduling_ignored_during_execution.as_deref()
}

fn weighted(terms: Option<&[PreferredSchedulingTerm]>) -> Vec<(i64, Term)> {
    terms.into_iter().flatten().map(|one| (i64::from(one.weight), Term::new(&one.preference))).collect()
}
