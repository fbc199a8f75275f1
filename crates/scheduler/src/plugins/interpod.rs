//! Affinity between pods, both ways: what a pod wants of the pods around it, and
//! what those want of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::LabelSelector;

use super::{Filter, MAX_SCORE, Plugin, Prepared, Roles, Score, Shift};
use crate::events::{Event, Kinds};
use crate::objection::Objection;
use crate::pod::PodInfo;
use crate::snapshot::{Bond, Counts, NodeInfo, Question, Scope, Snapshot};
use crate::terms::{Labels, Term, all_match};

/// Only nodes that keep the required terms; rather those that keep the preferred.
pub(super) struct InterPodAffinity {
    /// What a term that another pod requires counts as a preference.
    required_weight: i64,
    /// Whether preferences of others are ignored for pods that have none.
    ignores_preferences_of_others: bool,
}

/// `InterPodAffinityArgs`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Args {
    hard_pod_affinity_weight: Option<i64>,
    ignore_preferred_terms_of_existing_pods: bool,
}

impl Plugin for InterPodAffinity {
    const NAME: &'static str = "InterPodAffinity";
    const HEEDS: Kinds = Kinds::NODE_MADE
        .with(Kinds::POD_ADDED)
        .with(Kinds::POD_CHANGED)
        .with(Kinds::POD_REMOVED)
        .with(Kinds::WAITING);
    type Args = Args;

    fn new(args: Args) -> Result<Self, String> {
        let required_weight = args.hard_pod_affinity_weight.unwrap_or(1);
        if !(0..=100).contains(&required_weight) {
            return Err(format!("hardPodAffinityWeight: {required_weight} is not in 0 to 100"));
        }
        let ignores_preferences_of_others = args.ignore_preferred_terms_of_existing_pods;
        Ok(Self { required_weight, ignores_preferences_of_others })
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().filtering(&self).scoring(&self)
    }

    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        let (near, away) = (&pod.terms.required, &pod.terms.forbidden);
        match event {
            Event::PodAdded(other) => all_match(near, other),
            Event::PodChanged { old, new } => {
                !all_match(near, old) && all_match(near, new) || all_match(away, old) && !all_match(away, new)
            }
            Event::PodRemoved(other) => all_match(away, other) || all_match(&other.terms.forbidden, pod),
            Event::Waiting { old, new } => old.pod.metadata.labels != new.pod.metadata.labels,
            Event::NodeAdded(node) => {
                !away.is_empty() || near.iter().any(|term| node.label(&term.topology_key).is_some())
            }
            Event::NodeChanged { old, new } => {
                let labels = |term: &Term| (old.label(&term.topology_key), new.label(&term.topology_key));
                let differ = |term: &Term| labels(term).0 != labels(term).1;
                near.iter().any(|term| labels(term).1.is_some() && differ(term))
                    || away.iter().any(|term| labels(term).0.is_some() && differ(term))
            }
            _ => false,
        }
    }
}

/// What the filter knows.
#[derive(Clone)]
pub(super) struct Facts {
    own: Arc<Own>,
    /// Pods that all required terms mean, for each of those terms.
    near: Vec<Counts>,
    /// Pods that each forbidden term means.
    away: Vec<Counts>,
    /// Pods that forbid this one to be near: for each label of their terms, the
    /// counts that add up.
    others: BTreeMap<String, Vec<Counts>>,
    /// The same, of pods that came to the node in thought, by labels that are not
    /// among those.
    arrived: i64,
}

/// The pod and its terms, with namespaces by name.
struct Own {
    pod: PodInfo,
    namespace: Labels,
    near: Vec<Term>,
    away: Vec<Term>,
}

impl Filter for InterPodAffinity {
    type Facts = Facts;
    const IS_LOCAL: bool = false;
    const LOOKS_AT_PODS: bool = true;

    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Prepared<Facts> {
        let forbidding = snapshot.terms_meaning(pod, |bond| bond == Bond::Forbidden);
        if forbidding.is_empty() && pod.terms.required.is_empty() && pod.terms.forbidden.is_empty() {
            return Prepared::Indifferent;
        }
        let named = |terms: &[Term]| terms.iter().map(|term| by_name(term, snapshot)).collect::<Vec<_>>();
        let (near, away) = (named(&pod.terms.required), named(&pod.terms.forbidden));
        let facts = Facts {
            near: near.iter().map(|term| count(&near, &term.topology_key, snapshot)).collect(),
            away: away
                .iter()
                .map(|term| count(std::slice::from_ref(term), &term.topology_key, snapshot))
                .collect(),
            others: by_label(forbidding),
            arrived: 0,
            own: Arc::new(Own {
                pod: pod.clone(),
                namespace: snapshot.namespace(pod.namespace()).clone(),
                near,
                away,
            }),
        };
        Prepared::Facts(facts)
    }

    fn check(&self, facts: &Facts, node: &NodeInfo) -> Result<(), Objection> {
        if !facts.is_near_enough(node.slot) {
            return Err(Objection::lasting("node(s) didn't match pod affinity rules"));
        }
        if facts.away.iter().any(|counts| counts.at(node.slot).is_some_and(|count| count > 0)) {
            return Err(Objection::passing("node(s) didn't match pod anti-affinity rules"));
        }
        if facts.is_forbidden(node.slot) {
            return Err(Objection::passing("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn shift(&self, facts: &mut Facts, shift: &Shift<'_>) {
        let Shift { pod, node, by } = shift;
        if all_match(&facts.own.near, pod) {
            for counts in &mut facts.near {
                counts.shift(node.slot, *by);
            }
        }
        for (term, counts) in facts.own.away.iter().zip(&mut facts.away) {
            if term.matches(pod, &None) {
                counts.shift(node.slot, *by);
            }
        }
        let forbidding = pod.terms.forbidden.iter();
        for term in forbidding.filter(|term| term.matches(&facts.own.pod, &facts.own.namespace)) {
            match facts.others.get_mut(&term.topology_key).and_then(|all| all.first_mut()) {
                Some(counts) => counts.shift(node.slot, *by),
                None if node.label(&term.topology_key).is_some() => facts.arrived += by,
                None => {}
            }
        }
    }
}

impl Facts {
    fn is_near_enough(&self, slot: usize) -> bool {
        let mut are_pods_there = true;
        for counts in &self.near {
            match counts.at(slot) {
                None => return false,
                Some(count) => are_pods_there &= count > 0,
            }
        }
        // The first of pods that want to be near each other has nobody to be near to.
        are_pods_there || self.near.iter().all(Counts::is_empty) && all_match(&self.own.near, &self.own.pod)
    }

    fn is_forbidden(&self, slot: usize) -> bool {
        let pods = |all: &Vec<Counts>| all.iter().filter_map(|counts| counts.at(slot)).sum::<i64>();
        self.arrived > 0 || self.others.values().any(|all| pods(all) > 0)
    }
}

fn by_label(forbidding: Vec<(Bond, String, Counts)>) -> BTreeMap<String, Vec<Counts>> {
    let mut others: BTreeMap<String, Vec<Counts>> = BTreeMap::new();
    for (_, key, counts) in forbidding {
        others.entry(key).or_default().push(counts);
    }
    others
}

/// A term with the namespaces that it selects by name, as they are now.
fn by_name(term: &Term, snapshot: &Snapshot) -> Term {
    match snapshot.scope(term) {
        Scope::All => term.clone(),
        Scope::Names(namespaces) => {
            Term { namespaces, namespace_selector: LabelSelector::nothing(), ..term.clone() }
        }
    }
}

/// The pods that all of these terms mean.
fn count(terms: &[Term], key: &str, snapshot: &Snapshot) -> Counts {
    let parts = terms.iter().map(|term| (snapshot.scope(term), term.selector.clone())).collect();
    let (topology, answer) = snapshot.count(Question { parts, only_staying: false }, key);
    Counts::new(topology, answer.by_domain)
}

impl Score for InterPodAffinity {
    /// Weighted counts of pods; each pod near adds its weight.
    type Facts = Vec<(i64, Counts)>;
    const IS_LOCAL: bool = false;

    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot, _: &[&NodeInfo]) -> Option<Vec<(i64, Counts)>> {
        let has_own = !pod.terms.preferred.is_empty() || !pod.terms.avoided.is_empty();
        if self.ignores_preferences_of_others && !has_own {
            return None;
        }
        let own = |sign: i64| {
            move |(weight, term): &(i64, Term)| {
                (sign * weight, count(std::slice::from_ref(term), &term.topology_key, snapshot))
            }
        };
        let mut parts: Vec<(i64, Counts)> = pod.terms.preferred.iter().map(own(1)).collect();
        parts.extend(pod.terms.avoided.iter().map(own(-1)));
        let others = snapshot.terms_meaning(pod, |bond| bond != Bond::Forbidden);
        parts.extend(others.into_iter().map(|(bond, _, counts)| (self.weight(bond), counts)));
        parts.retain(|(weight, counts)| *weight != 0 && !counts.is_empty());
        (!parts.is_empty()).then_some(parts)
    }

    fn score(&self, parts: &Vec<(i64, Counts)>, node: &NodeInfo) -> i64 {
        parts.iter().map(|(weight, counts)| weight * counts.at(node.slot).unwrap_or(0)).sum()
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a score needs few bits"
    )]
    fn normalize(&self, scores: &mut [i64]) {
        let (lowest, highest) =
            (scores.iter().min().copied().unwrap_or(0), scores.iter().max().copied().unwrap_or(0));
        for score in scores {
            *score = if highest == lowest {
                0
            } else {
                (MAX_SCORE as f64 * ((*score - lowest) as f64 / (highest - lowest) as f64)) as i64
            };
        }
    }
}

impl InterPodAffinity {
    const fn weight(&self, bond: Bond) -> i64 {
        match bond {
            Bond::Required => self.required_weight,
            Bond::Preferred(weight) => weight,
            Bond::Avoided(weight) => -weight,
            Bond::Forbidden => 0,
        }
    }
}
