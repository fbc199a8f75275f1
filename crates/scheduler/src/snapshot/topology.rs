//! Which nodes share the value of a label: the domains of a topology.

use std::collections::HashMap;
use std::sync::Arc;

use super::NodeInfo;

/// No domain: the node has no such label.
const NOWHERE: u32 = u32::MAX;

/// The domains that one label makes. Domains are numbered; a number is used
/// again after the last node of its domain has gone.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// The domain of each slot.
    places: Vec<u32>,
    numbers: HashMap<String, u32>,
    /// How many nodes each domain has.
    populations: Vec<u32>,
    free: Vec<u32>,
    /// Nodes without the label.
    strays: usize,
}

impl Topology {
    /// The domain of the node in a slot; `None`: it has no such label.
    #[must_use]
    pub fn domain(&self, slot: usize) -> Option<usize> {
        let number = self.places.get(slot).copied().filter(|number| *number != NOWHERE)?;
        usize::try_from(number).ok()
    }

    /// A number greater than that of every domain.
    #[must_use]
    pub fn len(&self) -> usize {
        self.populations.len()
    }

    /// Whether no node has the label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The domains that have nodes.
    pub fn populated(&self) -> impl Iterator<Item = usize> {
        (0..self.populations.len()).filter(|domain| self.populations[*domain] > 0)
    }

    /// How many domains have nodes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.numbers.len()
    }

    /// How many nodes do not have the label.
    #[must_use]
    pub const fn strays(&self) -> usize {
        self.strays
    }

    fn set(&mut self, slot: usize, value: Option<&str>) {
        if self.places.len() <= slot {
            self.places.resize(slot + 1, NOWHERE);
        }
        self.places[slot] = match value {
            None => {
                self.strays += 1;
                NOWHERE
            }
            Some(value) => {
                let number = self.number(value);
                self.populations[number as usize] += 1;
                number
            }
        };
    }

    fn number(&mut self, value: &str) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.populations.push(0);
            u32::try_from(self.populations.len() - 1).unwrap_or(NOWHERE)
        });
        self.numbers.insert(value.to_owned(), number);
        number
    }

    fn clear(&mut self, slot: usize, value: Option<&str>) {
        let Some(value) = value else {
            self.strays -= 1;
            return;
        };
        let number = std::mem::replace(&mut self.places[slot], NOWHERE);
        let population = &mut self.populations[number as usize];
        *population -= 1;
        if *population == 0 {
            self.numbers.remove(value);
            self.free.push(number);
        }
    }
}

/// The topologies that somebody asked for.
#[derive(Debug, Default)]
pub(super) struct Topologies(HashMap<String, Arc<Topology>>);

impl Topologies {
    /// The topology of a label; made from the nodes where nobody asked before.
    pub(super) fn of<'a>(&mut self, key: &str, nodes: impl Iterator<Item = &'a NodeInfo>) -> Arc<Topology> {
        if let Some(known) = self.0.get(key) {
            return Arc::clone(known);
        }
        let mut topology = Topology::default();
        for node in nodes {
            topology.set(node.slot, node.label(key));
        }
        let topology = Arc::new(topology);
        self.0.insert(key.to_owned(), Arc::clone(&topology));
        topology
    }

    /// A topology that was asked for before.
    #[must_use]
    pub(super) fn known(&self, key: &str) -> Option<&Topology> {
        self.0.get(key).map(Arc::as_ref)
    }

    /// Takes a node in.
    pub(super) fn add(&mut self, node: &NodeInfo) {
        for (key, topology) in &mut self.0 {
            Arc::make_mut(topology).set(node.slot, node.label(key));
        }
    }

    /// Takes a node out, as it was when it was taken in.
    pub(super) fn remove(&mut self, node: &NodeInfo) {
        for (key, topology) in &mut self.0 {
            Arc::make_mut(topology).clear(node.slot, node.label(key));
        }
    }
}
