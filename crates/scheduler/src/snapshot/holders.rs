//! Which terms of affinity the pods on nodes have, and where those pods are:
//! what an arriving pod has to respect of others. Pods of one origin have equal
//! terms, so there are few of them, and a decision looks at terms, not at pods.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::selector::Test;

use super::census::move_count;
use super::topology::{Topologies, Topology};
use crate::pod::PodInfo;
use crate::terms::{Labels, Term};

/// How a pod holds a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// It must be near.
    Required,
    /// It must not be near.
    Forbidden,
    /// It wants to be near; the weight says how much.
    Preferred(i64),
    /// It wants to be away; the weight says how much.
    Avoided(i64),
}

/// A term that pods on nodes hold.
#[derive(Clone, Debug)]
pub struct Holder {
    /// How they hold it.
    pub bond: Bond,
    /// The term.
    pub term: Term,
    /// How many of them each domain of the term's topology has.
    pub by_domain: Arc<Vec<u32>>,
    by_slot: HashMap<usize, u32>,
}

/// All terms that pods on nodes hold. Holders have numbers.
#[derive(Debug, Default)]
pub(super) struct Holders {
    all: HashMap<u64, Holder>,
    by_identity: HashMap<String, u64>,
    /// Those that ask for a value of a label: by each value that will do. Looking
    /// up the labels of a pod finds them, however many others there are.
    by_label: HashMap<String, HashMap<String, Vec<u64>>>,
    /// The others.
    unlabelled: Vec<u64>,
    last: u64,
}

impl Holders {
    /// Counts a pod in that is on the node in a slot. The topologies of its terms
    /// must have been asked for.
    pub(super) fn add(&mut self, pod: &PodInfo, slot: usize, topologies: &Topologies) {
        for (bond, term) in bonds(pod) {
            let number = self.number(bond, term);
            let Some(holder) = self.all.get_mut(&number) else { continue };
            *holder.by_slot.entry(slot).or_default() += 1;
            holder.shift(slot, 1, topologies.known(&term.topology_key));
        }
    }

    /// Counts a pod out that was counted in for a slot.
    pub(super) fn remove(&mut self, pod: &PodInfo, slot: usize, topologies: &Topologies) {
        for (bond, term) in bonds(pod) {
            let identity = identity(bond, term);
            let Some(number) = self.by_identity.get(&identity).copied() else { continue };
            let Some(holder) = self.all.get_mut(&number) else { continue };
            holder.shift(slot, -1, topologies.known(&term.topology_key));
            if let Some(count) = holder.by_slot.get_mut(&slot) {
                *count -= 1;
                if *count == 0 {
                    holder.by_slot.remove(&slot);
                }
            }
            if holder.by_slot.is_empty() {
                self.forget(number, &identity);
            }
        }
    }

    /// The terms that mean a pod of a namespace with these labels.
    pub(super) fn meaning<'a>(
        &'a self,
        pod: &'a PodInfo,
        namespace: &'a Labels,
    ) -> impl Iterator<Item = &'a Holder> {
        let labels = pod.pod.metadata.labels.iter().flatten();
        let asking = labels.filter_map(|(key, value)| self.by_label.get(key)?.get(value)).flatten();
        let holders = asking.chain(&self.unlabelled).filter_map(|number| self.all.get(number));
        holders.filter(move |holder| holder.term.matches(pod, namespace))
    }

    fn number(&mut self, bond: Bond, term: &Term) -> u64 {
        let identity = identity(bond, term);
        if let Some(known) = self.by_identity.get(&identity) {
            return *known;
        }
        self.last += 1;
        let number = self.last;
        match asked(term) {
            Some((key, values)) => {
                let by_value = self.by_label.entry(key.clone()).or_default();
                for value in values {
                    by_value.entry(value.clone()).or_default().push(number);
                }
            }
            None => self.unlabelled.push(number),
        }
        self.by_identity.insert(identity, number);
        let holder = Holder { bond, term: term.clone(), by_domain: Arc::default(), by_slot: HashMap::new() };
        self.all.insert(number, holder);
        number
    }

    fn forget(&mut self, number: u64, identity: &str) {
        self.by_identity.remove(identity);
        let Some(holder) = self.all.remove(&number) else { return };
        let Some((key, values)) = asked(&holder.term) else {
            self.unlabelled.retain(|one| *one != number);
            return;
        };
        let Some(by_value) = self.by_label.get_mut(key) else { return };
        for value in values {
            if let Some(numbers) = by_value.get_mut(value) {
                numbers.retain(|one| *one != number);
                if numbers.is_empty() {
                    by_value.remove(value);
                }
            }
        }
        if by_value.is_empty() {
            self.by_label.remove(key);
        }
    }
}

impl Holder {
    fn shift(&mut self, slot: usize, by: i64, topology: Option<&Topology>) {
        if let Some(domain) = topology.and_then(|topology| topology.domain(slot)) {
            move_count(Arc::make_mut(&mut self.by_domain), domain, by);
        }
    }
}

/// The terms of a pod, with how it holds them.
pub fn bonds(pod: &PodInfo) -> impl Iterator<Item = (Bond, &Term)> {
    let terms = &pod.terms;
    let required = terms.required.iter().map(|term| (Bond::Required, term));
    let forbidden = terms.forbidden.iter().map(|term| (Bond::Forbidden, term));
    let preferred = terms.preferred.iter().map(|(weight, term)| (Bond::Preferred(*weight), term));
    let avoided = terms.avoided.iter().map(|(weight, term)| (Bond::Avoided(*weight), term));
    required.chain(forbidden).chain(preferred).chain(avoided)
}

fn identity(bond: Bond, term: &Term) -> String {
    format!("{bond:?} {term:?}")
}

/// A label that every pod has that a term means, and its possible values.
fn asked(term: &Term) -> Option<(&String, BTreeSet<&String>)> {
    term.selector.requirements().iter().find_map(|requirement| match &requirement.test {
        Test::In(values) => Some((&requirement.key, values.iter().collect())),
        _ => None,
    })
}
