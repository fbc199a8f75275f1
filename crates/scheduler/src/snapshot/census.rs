//! How many pods answer to a question, on each node and in each domain.
//!
//! Pods are counted in classes of equal labels. A question is put to the classes
//! once; from then on its tally follows every pod that comes and goes, so that a
//! decision reads numbers and never looks at the pods of other nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::LabelSelector;

use super::topology::{Topologies, Topology};
use crate::pod::PodInfo;

/// Tallies that are kept; the one that was not asked for longest goes first.
const KEPT: usize = 1024;

/// Namespaces that are asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// These.
    Names(BTreeSet<String>),
}

impl Scope {
    fn has(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.contains(namespace),
        }
    }
}

/// Which pods are to be counted: those to which every part applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Namespaces and labels.
    pub parts: Vec<(Scope, LabelSelector)>,
    /// Whether pods that are being deleted are left out.
    pub only_staying: bool,
}

impl Question {
    fn applies(&self, class: &Identity) -> bool {
        let fits = |(scope, labels): &(Scope, LabelSelector)| {
            scope.has(&class.namespace) && labels.matches(&class.labels)
        };
        !(self.only_staying && class.is_leaving) && self.parts.iter().all(fits)
    }
}

/// What pods of one class have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    namespace: String,
    labels: BTreeMap<String, String>,
    is_leaving: bool,
}

impl Identity {
    fn of(pod: &PodInfo) -> Self {
        Self {
            namespace: pod.namespace().to_owned(),
            labels: pod.pod.metadata.labels.clone().unwrap_or_default(),
            is_leaving: pod.is_leaving,
        }
    }
}

#[derive(Debug)]
struct Class {
    identity: Identity,
    /// How many of its pods are in each slot.
    slots: HashMap<usize, u32>,
    /// The questions that apply to it.
    tallies: Vec<u64>,
}

/// The answer to a question.
#[derive(Debug, Default)]
struct Tally {
    /// How many pods each slot has.
    by_slot: Arc<Vec<u32>>,
    /// How many pods each domain has, for the topologies that were asked for.
    by_domain: BTreeMap<String, Arc<Vec<u32>>>,
}

/// The answer to a question about one topology.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// How many pods each slot has; slots at the end without any may be missing.
    pub by_slot: Arc<Vec<u32>>,
    /// How many pods each domain has; domains at the end without any may be missing.
    pub by_domain: Arc<Vec<u32>>,
}

impl Tally {
    fn shift(&mut self, slot: usize, by: i64, topologies: &Topologies) {
        move_count(Arc::make_mut(&mut self.by_slot), slot, by);
        for (key, totals) in &mut self.by_domain {
            if let Some(domain) = topologies.known(key).and_then(|topology| topology.domain(slot)) {
                move_count(Arc::make_mut(totals), domain, by);
            }
        }
    }

    fn totals(&mut self, key: &str, topology: &Topology) -> Arc<Vec<u32>> {
        if let Some(totals) = self.by_domain.get(key) {
            return Arc::clone(totals);
        }
        let mut totals = vec![0; topology.len()];
        for (slot, count) in self.by_slot.iter().enumerate().filter(|(_, count)| **count > 0) {
            if let Some(domain) = topology.domain(slot) {
                totals[domain] += count;
            }
        }
        let totals = Arc::new(totals);
        self.by_domain.insert(key.to_owned(), Arc::clone(&totals));
        totals
    }
}

/// Changes a count, which is made where it is not there yet.
pub(super) fn move_count(counts: &mut Vec<u32>, place: usize, by: i64) {
    if counts.len() <= place {
        counts.resize(place + 1, 0);
    }
    counts[place] = u32::try_from(i64::from(counts[place]) + by).unwrap_or(0);
}

#[derive(Debug)]
struct Kept {
    question: Question,
    key: String,
    tally: Tally,
    asked: u64,
}

/// All pods on nodes, counted. Classes and tallies have numbers.
#[derive(Debug, Default)]
pub(super) struct Census {
    classes: HashMap<u64, Class>,
    by_identity: HashMap<Identity, u64>,
    by_namespace: HashMap<String, BTreeSet<u64>>,
    tallies: HashMap<u64, Kept>,
    by_question: HashMap<String, u64>,
    last: u64,
}

impl Census {
    /// Counts a pod in that is on the node in a slot.
    pub(super) fn add(&mut self, pod: &PodInfo, slot: usize, topologies: &Topologies) {
        let number = self.class(Identity::of(pod));
        let Some(class) = self.classes.get_mut(&number) else { return };
        *class.slots.entry(slot).or_default() += 1;
        for tally in &class.tallies {
            if let Some(kept) = self.tallies.get_mut(tally) {
                kept.tally.shift(slot, 1, topologies);
            }
        }
    }

    /// Counts a pod out that was counted in for a slot.
    pub(super) fn remove(&mut self, pod: &PodInfo, slot: usize, topologies: &Topologies) {
        let identity = Identity::of(pod);
        let Some(number) = self.by_identity.get(&identity).copied() else { return };
        let Some(class) = self.classes.get_mut(&number) else { return };
        for tally in &class.tallies {
            if let Some(kept) = self.tallies.get_mut(tally) {
                kept.tally.shift(slot, -1, topologies);
            }
        }
        if let Some(count) = class.slots.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                class.slots.remove(&slot);
            }
        }
        if class.slots.is_empty() {
            self.forget_class(number, &identity);
        }
    }

    /// The answer to a question, on each node and, for the label of a topology,
    /// in each domain.
    pub(super) fn count(&mut self, question: Question, key: &str, topology: &Topology) -> Answer {
        self.last += 1;
        let asked = self.last;
        let text = format!("{question:?}");
        let number = match self.by_question.get(&text) {
            Some(number) => *number,
            None => self.ask(question, text),
        };
        let Some(kept) = self.tallies.get_mut(&number) else { return Answer::default() };
        kept.asked = asked;
        let by_domain = kept.tally.totals(key, topology);
        Answer { by_slot: Arc::clone(&kept.tally.by_slot), by_domain }
    }

    fn ask(&mut self, question: Question, key: String) -> u64 {
        if self.tallies.len() >= KEPT {
            self.forget_oldest();
        }
        self.last += 1;
        let number = self.last;
        let mut by_slot = Vec::new();
        for class in self.in_scope(&question) {
            let Some(class) = self.classes.get_mut(&class) else { continue };
            if question.applies(&class.identity) {
                class.tallies.push(number);
                for (slot, count) in &class.slots {
                    move_count(&mut by_slot, *slot, i64::from(*count));
                }
            }
        }
        let tally = Tally { by_slot: Arc::new(by_slot), by_domain: BTreeMap::new() };
        self.by_question.insert(key.clone(), number);
        self.tallies.insert(number, Kept { question, key, tally, asked: number });
        number
    }

    fn in_scope(&self, question: &Question) -> Vec<u64> {
        let names = question.parts.iter().find_map(|(scope, _)| match scope {
            Scope::All => None,
            Scope::Names(names) => Some(names),
        });
        match names {
            None => self.classes.keys().copied().collect(),
            Some(names) => {
                names.iter().filter_map(|name| self.by_namespace.get(name)).flatten().copied().collect()
            }
        }
    }

    fn class(&mut self, identity: Identity) -> u64 {
        if let Some(known) = self.by_identity.get(&identity) {
            return *known;
        }
        self.last += 1;
        let number = self.last;
        let applying = self.tallies.iter().filter(|(_, kept)| kept.question.applies(&identity));
        let tallies = applying.map(|(number, _)| *number).collect();
        self.by_identity.insert(identity.clone(), number);
        self.by_namespace.entry(identity.namespace.clone()).or_default().insert(number);
        self.classes.insert(number, Class { identity, slots: HashMap::new(), tallies });
        number
    }

    fn forget_class(&mut self, number: u64, identity: &Identity) {
        self.classes.remove(&number);
        self.by_identity.remove(identity);
        if let Some(classes) = self.by_namespace.get_mut(&identity.namespace) {
            classes.remove(&number);
            if classes.is_empty() {
                self.by_namespace.remove(&identity.namespace);
            }
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.tallies.iter().min_by_key(|(_, kept)| kept.asked).map(|(number, _)| *number);
        let Some(number) = oldest else { return };
        if let Some(kept) = self.tallies.remove(&number) {
            self.by_question.remove(&kept.key);
        }
        for class in self.classes.values_mut() {
            class.tallies.retain(|tally| *tally != number);
        }
    }
}
