//! Why a pod has no node, as a record for machines: what a person or a program
//! that asks about the pod is given.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::diagnosis::{Diagnosis, General};
use crate::objection::{Objection, Refusal, Shortage};
use crate::pod::PodInfo;
use crate::preemption::Attempt;

/// Why a pod has no node. Written as JSON with the names of the API's style.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// Which scheduler tried.
    pub scheduler: String,
    /// When.
    pub at: Timestamp,
    /// The sentence that is also in the event and the condition.
    pub message: String,
    /// How many nodes there were.
    pub nodes: usize,
    /// What each node that was asked about has against the pod.
    pub refusals: Vec<NodeRefusal>,
    /// What is against all nodes, or against those that were not asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub general: Option<GeneralRefusal>,
    /// Room that is being made for the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction: Option<Eviction>,
}

/// What one node has against a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRefusal {
    /// The node.
    pub node: String,
    /// The plugin that refused it first.
    pub plugin: String,
    /// The reasons.
    pub reasons: Vec<Told>,
    /// Whether they may be gone when pods of the node are.
    pub can_be_evicted_away: bool,
}

/// What is against many nodes at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GeneralRefusal {
    /// The plugins that say so.
    pub plugins: Vec<String>,
    /// The reasons.
    pub reasons: Vec<Told>,
    /// Whether it is against all nodes; else against those that are not listed.
    pub is_against_all: bool,
}

/// A reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// In words.
    pub text: Cow<'static, str>,
    /// By how much something is short, where that can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortage: Option<Shortage>,
}

/// Room that is being made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eviction {
    /// Where.
    pub node: String,
    /// The pods that go, as `namespace/name`.
    pub victims: Vec<String>,
}

impl Explanation {
    /// The record of a decision.
    #[must_use]
    pub fn new(pod: &PodInfo, diagnosis: &Diagnosis, eviction: Option<Eviction>, at: Timestamp) -> Self {
        Self {
            namespace: pod.key.namespace.clone(),
            name: pod.key.name.clone(),
            uid: pod.uid.clone(),
            scheduler: pod.scheduler().to_owned(),
            at,
            message: diagnosis.message(),
            nodes: diagnosis.nodes,
            refusals: diagnosis
                .refusals
                .iter()
                .map(|(node, refusal)| NodeRefusal::new(node, refusal))
                .collect(),
            general: diagnosis.general.as_ref().map(GeneralRefusal::new),
            eviction,
        }
    }
}

impl Eviction {
    /// The room that an attempt found.
    #[must_use]
    pub fn of(attempt: &Attempt) -> Option<Self> {
        let Attempt::Found(candidates) = attempt else { return None };
        let best = candidates.first()?;
        let victims = best.victims.iter().map(|victim| victim.key.to_string()).collect();
        Some(Self { node: best.node.to_string(), victims })
    }
}

impl NodeRefusal {
    fn new(node: &str, Refusal { plugin, objection }: &Refusal) -> Self {
        Self {
            node: node.to_owned(),
            plugin: (*plugin).to_owned(),
            reasons: told(objection),
            can_be_evicted_away: objection.can_be_evicted_away,
        }
    }
}

impl GeneralRefusal {
    fn new(general: &General) -> Self {
        Self {
            plugins: general.plugins.iter().map(|plugin| (*plugin).to_owned()).collect(),
            reasons: told(&general.objection),
            is_against_all: general.is_against_all,
        }
    }
}

fn told(objection: &Objection) -> Vec<Told> {
    let reasons = objection.reasons.iter();
    reasons.map(|one| Told { text: one.text.clone(), shortage: one.shortage.clone() }).collect()
}
