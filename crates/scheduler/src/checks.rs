//! The filters of a profile, asked about one pod.

use std::collections::BTreeSet;

use crate::diagnosis::General;
use crate::objection::{Objection, Refusal};
use crate::plugins::{Check, Prepared, Shift};
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::snapshot::{NodeInfo, Snapshot};

/// Filters with their facts about a pod.
pub struct Checks {
    all: Vec<(&'static str, Box<dyn Check>)>,
    /// How many of them, from the first, are local.
    local: usize,
    /// The nodes that need be asked about, and who says so; `None`: all.
    pub only: Option<(BTreeSet<String>, Vec<&'static str>)>,
}

impl Checks {
    /// Prepares the filters of a profile for a pod.
    ///
    /// # Errors
    /// What is against every node.
    pub fn prepare(pod: &PodInfo, snapshot: &Snapshot, profile: &Profile) -> Result<Self, General> {
        let mut checks = Self { all: Vec::new(), local: 0, only: None };
        let mut refused = None;
        for entry in &profile.filters {
            let are_all_local = checks.local == checks.all.len();
            match entry.filter.prepare(pod, snapshot) {
                Prepared::Indifferent => {}
                Prepared::Facts(check) => checks.all.push((entry.name, check)),
                Prepared::Only(names, check) => {
                    checks.all.push((entry.name, check));
                    checks.narrow(names, entry.name)?;
                }
                Prepared::Refused(objection) => {
                    let can_be_evicted_away = objection.can_be_evicted_away;
                    let general = General { plugins: vec![entry.name], objection, is_against_all: true };
                    if !can_be_evicted_away {
                        return Err(general);
                    }
                    // What another filter says may be final.
                    refused = Some(general);
                }
            }
            if are_all_local && entry.filter.is_local() {
                checks.local = checks.all.len();
            }
        }
        refused.map_or(Ok(checks), Err)
    }

    fn narrow(&mut self, names: BTreeSet<String>, plugin: &'static str) -> Result<(), General> {
        let (names, plugins) = match self.only.take() {
            None => (names, vec![plugin]),
            Some((known, mut plugins)) => {
                plugins.push(plugin);
                (known.intersection(&names).cloned().collect(), plugins)
            }
        };
        if names.is_empty() {
            let text = match plugins.as_slice() {
                [one] => format!("node(s) didn't satisfy plugin {one}"),
                many => format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", sorted(many)),
            };
            return Err(General { plugins, objection: lasting(text), is_against_all: true });
        }
        self.only = Some((names, plugins));
        Ok(())
    }

    /// What is against the nodes that need not be asked about.
    #[must_use]
    pub fn left_out(&self) -> Option<General> {
        let (_, plugins) = self.only.as_ref()?;
        let text = format!("node(s) didn't satisfy plugin(s) [{}]", sorted(plugins));
        Some(General { plugins: plugins.clone(), objection: lasting(text), is_against_all: false })
    }

    /// What is against a node for a pod. Pods for which room is being made on the
    /// node, and which are not less important, count as if they were there; and
    /// the pod must fit without them too, as they may go elsewhere.
    ///
    /// # Errors
    /// The first objection.
    pub fn ask(&self, pod: &PodInfo, snapshot: &Snapshot, node: &NodeInfo) -> Result<(), Refusal> {
        let nominated = snapshot.nominated(&node.name);
        if !nominated.is_empty() {
            let goes_first =
                |other: &&std::sync::Arc<PodInfo>| other.priority >= pod.priority && other.uid != pod.uid;
            let mut with = self.copy();
            let mut full = node.clone();
            let mut came = false;
            for other in nominated.iter().filter(goes_first) {
                full.add(std::sync::Arc::clone(other));
                with.shift(&Shift { pod: other, node, by: 1 });
                came = true;
            }
            if came {
                ask_all(&with.all, &full)?;
            }
        }
        ask_all(&self.all, node)
    }

    /// What local filters have against a node, by itself.
    ///
    /// # Errors
    /// The first objection.
    pub fn ask_local(&self, node: &NodeInfo) -> Result<(), Refusal> {
        ask_all(&self.all[..self.local], node)
    }

    /// What the other filters have against a node, by itself.
    ///
    /// # Errors
    /// The first objection.
    pub fn ask_others(&self, node: &NodeInfo) -> Result<(), Refusal> {
        ask_all(&self.all[self.local..], node)
    }

    /// Leaves out the filters to which the pods of a node do not matter.
    pub fn keep_those_that_look_at_pods(&mut self) {
        self.all.retain(|(_, check)| check.looks_at_pods());
        self.local = 0;
    }

    /// Changes all facts as if a pod came to a node or left it.
    pub fn shift(&mut self, shift: &Shift<'_>) {
        for (_, check) in &mut self.all {
            check.shift(shift);
        }
    }

    /// A copy that can be shifted.
    #[must_use]
    pub fn copy(&self) -> Self {
        let all = self.all.iter().map(|(plugin, check)| (*plugin, check.copy())).collect();
        Self { all, local: self.local, only: None }
    }
}

fn ask_all(checks: &[(&'static str, Box<dyn Check>)], node: &NodeInfo) -> Result<(), Refusal> {
    for (plugin, check) in checks {
        check.check(node).map_err(|objection| Refusal { plugin, objection })?;
    }
    Ok(())
}

fn sorted(plugins: &[&'static str]) -> String {
    let mut plugins = plugins.to_vec();
    plugins.sort_unstable();
    plugins.join(" ")
}

fn lasting(text: String) -> Objection {
    Objection::lasting(crate::objection::Reason { text: text.into(), shortage: None })
}
