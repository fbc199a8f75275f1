//! Numbers of pods by domain, as one decision uses them.

use std::sync::Arc;

use super::topology::Topology;

/// How many pods are in each domain of a topology, and what would change if pods
/// came to or left one node.
#[derive(Clone, Debug)]
pub struct Counts {
    topology: Arc<Topology>,
    totals: Arc<Vec<u32>>,
    shifts: Vec<(usize, i64)>,
}

impl Counts {
    /// Counts by domain.
    #[must_use]
    pub const fn new(topology: Arc<Topology>, totals: Arc<Vec<u32>>) -> Self {
        Self { topology, totals, shifts: Vec::new() }
    }

    /// The domains.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How many pods are in the domain of a node; `None`: it is in none.
    #[must_use]
    pub fn at(&self, slot: usize) -> Option<i64> {
        self.topology.domain(slot).map(|domain| self.of(domain))
    }

    /// How many pods are in a domain.
    #[must_use]
    pub fn of(&self, domain: usize) -> i64 {
        let shifted: i64 = self.shifts.iter().filter(|(one, _)| *one == domain).map(|(_, by)| by).sum();
        i64::from(self.totals.get(domain).copied().unwrap_or(0)) + shifted
    }

    /// What the counts have shifted in a domain.
    #[must_use]
    pub fn shifts(&self) -> &[(usize, i64)] {
        &self.shifts
    }

    /// Whether there is no pod in any domain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let total: i64 = self.totals.iter().map(|count| i64::from(*count)).sum();
        total + self.shifts.iter().map(|(_, by)| by).sum::<i64>() <= 0
    }

    /// Counts pods in or out in the domain of a node.
    pub fn shift(&mut self, slot: usize, by: i64) {
        let Some(domain) = self.topology.domain(slot) else { return };
        match self.shifts.iter_mut().find(|(one, _)| *one == domain) {
            Some((_, known)) => *known += by,
            None => self.shifts.push((domain, by)),
        }
    }
}
