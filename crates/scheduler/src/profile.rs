//! A scheduler by name: the plugins that decide for its pods.

use std::sync::Arc;
use std::time::Duration;

use crate::config::DEFAULT_SCHEDULER;
use crate::events::{Event, Kinds};
use crate::plugins::table::{self, Hints, Made};
use crate::plugins::{AnyFilter, AnyScore};
use crate::pod::PodInfo;
use crate::preemption::Preemption;

/// A set of plugins, by their places in a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginSet(u64);

/// The place of extenders, which are no plugins but refuse nodes like one.
const EXTENDERS: usize = 63;

impl PluginSet {
    /// Adds a plugin.
    pub const fn insert(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    /// Whether a plugin is in it.
    #[must_use]
    pub const fn has(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A filter of a profile.
pub struct ProfileFilter {
    /// The plugin's name.
    pub name: &'static str,
    /// The plugin's place in the profile.
    pub place: usize,
    /// The filter.
    pub filter: Arc<dyn AnyFilter>,
}

/// A score of a profile.
pub struct ProfileScore {
    /// The plugin's name.
    pub name: &'static str,
    /// How much it counts.
    pub weight: i64,
    /// The score.
    pub score: Arc<dyn AnyScore>,
}

/// The plugins of one scheduler.
pub struct Profile {
    /// The name by which pods ask for it.
    pub name: String,
    /// In the order in which they are asked; the first objection counts.
    pub filters: Vec<ProfileFilter>,
    /// All count.
    pub scores: Vec<ProfileScore>,
    /// The share of nodes to find fitting, percent, before the best of them is
    /// chosen; 0: it depends on their number.
    pub percentage: usize,
    /// How long the volumes of a pod may take; `None`: pods get none.
    pub volume_patience: Option<Duration>,
    /// How room is made; `None`: it is not.
    pub preemption: Option<Preemption>,
    /// Whether pods with scheduling gates are kept back.
    pub keeps_gates: bool,
    /// Whether extenders may refuse nodes that the filters let pass.
    pub has_extenders: bool,
    hints: Vec<(&'static str, Arc<dyn Hints>)>,
}

impl Default for Profile {
    /// What decides where nothing is configured.
    fn default() -> Self {
        let mut profile = Self::empty(DEFAULT_SCHEDULER);
        for entry in table::all() {
            let made = entry.make(None).expect("defaults make sense");
            profile.filter_by(&made);
            profile.score_by(&made, entry.weight);
            profile.preemption = profile.preemption.or(made.roles.preemption);
            profile.keeps_gates |= made.roles.keeps_gates;
        }
        profile
    }
}

impl Profile {
    /// A profile without plugins.
    #[must_use]
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            filters: Vec::new(),
            scores: Vec::new(),
            percentage: 0,
            volume_patience: None,
            preemption: None,
            keeps_gates: false,
            has_extenders: false,
            hints: Vec::new(),
        }
    }

    /// Adds a plugin's filter, if it has one.
    pub fn filter_by(&mut self, plugin: &Made) {
        if let Some(filter) = &plugin.roles.filter {
            let place = self.place(plugin);
            self.filters.push(ProfileFilter { name: plugin.name, place, filter: Arc::clone(filter) });
            self.volume_patience = self.volume_patience.or(plugin.roles.binds_volumes);
        }
    }

    /// Adds a plugin's score, if it has one.
    pub fn score_by(&mut self, plugin: &Made, weight: i64) {
        if let Some(score) = &plugin.roles.score {
            self.scores.push(ProfileScore { name: plugin.name, weight, score: Arc::clone(score) });
        }
    }

    /// The place of a plugin by name.
    #[must_use]
    pub fn place_of(&self, plugin: &str) -> Option<usize> {
        if plugin == crate::extender::NAME {
            return Some(EXTENDERS);
        }
        self.hints.iter().position(|(name, _)| *name == plugin)
    }

    /// The kinds of events after which pods that these plugins refused might pass.
    #[must_use]
    pub fn heeds(&self, refused_by: PluginSet) -> Kinds {
        if refused_by.has(EXTENDERS) {
            // Nobody knows what helps: everything may.
            return Kinds::ALL;
        }
        let refusing = self.hints.iter().enumerate().filter(|(place, _)| refused_by.has(*place));
        refusing.fold(Kinds::NONE, |all, (_, (_, hints))| all.with(hints.heeds()))
    }

    /// Whether a pod that these plugins refused might pass after an event.
    #[must_use]
    pub fn is_helped_by(&self, refused_by: PluginSet, pod: &PodInfo, event: &Event<'_>) -> bool {
        if refused_by.has(EXTENDERS) {
            return true;
        }
        let kind = event.kind();
        let refusing = self.hints.iter().enumerate().filter(|(place, _)| refused_by.has(*place));
        let mut heeding = refusing.filter(|(_, (_, hints))| hints.heeds().has(kind));
        heeding.any(|(_, (_, hints))| hints.is_helped_by(pod, event))
    }

    fn place(&mut self, plugin: &Made) -> usize {
        self.place_of(plugin.name).unwrap_or_else(|| {
            self.hints.push((plugin.name, Arc::clone(&plugin.hints)));
            self.hints.len() - 1
        })
    }
}
