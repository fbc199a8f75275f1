//! Why a pod fits nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::objection::{Objection, Refusal};
use crate::profile::{PluginSet, Profile};

/// Why no node takes a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: usize,
    /// What each node that was asked about was refused for.
    pub refusals: Vec<(Arc<str>, Arc<Refusal>)>,
    /// What was against every node, or against those that were not asked about.
    pub general: Option<General>,
    /// What came of making room.
    pub eviction: Option<String>,
}

/// An objection that does not come from looking at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct General {
    /// Who has it; more than one where several names of nodes exclude each other.
    pub plugins: Vec<&'static str>,
    /// The objection.
    pub objection: Objection,
    /// Whether it is against all nodes; else against those that were left out.
    pub is_against_all: bool,
}

impl Diagnosis {
    /// Upstream's sentence about it.
    #[must_use]
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut message = format!("0/{} nodes are available:", self.nodes);
        match &self.general {
            Some(general) if general.is_against_all => {
                let reasons: Vec<&str> = general.objection.reasons.iter().map(|one| &*one.text).collect();
                message.push_str(&format!(" {}.", reasons.join(", ")));
            }
            _ => message.push_str(&self.histogram()),
        }
        if let Some(eviction) = &self.eviction {
            message.push_str(&format!(" {eviction}"));
        }
        message
    }

    fn histogram(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.refusals.iter().flat_map(|(_, refusal)| &refusal.objection.reasons) {
            *counts.entry(&reason.text).or_default() += 1;
        }
        let left_out = self.nodes.saturating_sub(self.refusals.len());
        if let Some(general) = self.general.as_ref().filter(|_| left_out > 0) {
            for reason in &general.objection.reasons {
                *counts.entry(&reason.text).or_default() += left_out;
            }
        }
        if counts.is_empty() {
            return String::new();
        }
        let mut parts: Vec<String> =
            counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort();
        format!(" {}.", parts.join(", "))
    }

    /// The plugins that refused a node.
    #[must_use]
    pub fn refused_by(&self, profile: &Profile) -> PluginSet {
        let mut plugins = PluginSet::default();
        let names = self.refusals.iter().map(|(_, refusal)| refusal.plugin);
        let general = self.general.iter().flat_map(|general| general.plugins.iter().copied());
        for name in names.chain(general) {
            if let Some(place) = profile.place_of(name) {
                plugins.insert(place);
            }
        }
        plugins
    }

    /// What a node was refused for.
    #[must_use]
    pub fn of(&self, node: &str) -> Option<&Objection> {
        let own = self.refusals.iter().find(|(name, _)| **name == *node);
        own.map(|(_, refusal)| &refusal.objection)
            .or_else(|| self.general.as_ref().map(|general| &general.objection))
    }
}
