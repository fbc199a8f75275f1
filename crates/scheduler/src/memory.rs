//! What is remembered between decisions: how nodes answered to pods of the same
//! shape, as long as the nodes have not changed.
//!
//! Pods of one origin arrive in numbers, and between two of them few nodes
//! change: mostly the one that got the last. What a filter or score says of a
//! node that depends on nothing but the pod's shape and the node
//! ([`crate::plugins::Filter::IS_LOCAL`]) is asked once for each state of the
//! node, so that many equal pods are decided at the price of a few, and the
//! answer is the same as without.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use api::types::core::v1::{NodeAffinity, Pod, Toleration};

use crate::objection::Refusal;
use crate::pod::HostPort;
use crate::resources::{Amounts, Requests};

/// Shapes that are remembered.
const KEPT: usize = 16;

/// What local filters and scores look at in a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    asked: Amounts,
    scored: Amounts,
    ports: Vec<HostPort>,
    node: Option<String>,
    selector: Option<BTreeMap<String, String>>,
    affinity: Option<NodeAffinity>,
    tolerations: Option<Vec<Toleration>>,
}

impl Shape {
    /// The shape of a pod that asks for so much.
    #[must_use]
    pub fn of(pod: &Pod, asked: &Amounts, ports: &[HostPort]) -> Self {
        let spec = pod.spec.as_ref();
        Self {
            asked: asked.clone(),
            scored: Requests::scored(pod),
            ports: ports.to_vec(),
            node: spec.and_then(|spec| spec.node_name.clone()),
            selector: spec.and_then(|spec| spec.node_selector.clone()),
            affinity: spec.and_then(|spec| spec.affinity.as_ref()?.node_affinity.clone()),
            tolerations: spec.and_then(|spec| spec.tolerations.clone()),
        }
    }

    /// What scores count the pod with while it looks for a node.
    #[must_use]
    pub const fn scored(&self) -> &Amounts {
        &self.scored
    }
}

/// Answers about nodes, for the shapes that came last.
#[derive(Debug, Default)]
pub struct Memory(VecDeque<Answers>);

/// What local filters say of a node.
pub type Verdict = Result<(), Arc<Refusal>>;

/// Answers about nodes for one shape and profile.
#[derive(Debug)]
pub struct Answers {
    shape: Arc<Shape>,
    profile: String,
    /// By slot: the generation of the node, and what is against it, if anything.
    verdicts: Vec<(u64, Verdict)>,
    /// By score and slot: the generation of the node, and its score.
    scores: Vec<Vec<(u64, i64)>>,
}

impl Memory {
    /// The answers for a shape and a profile.
    pub fn of(&mut self, shape: &Arc<Shape>, profile: &str) -> &mut Answers {
        let is_it =
            |one: &Answers| (Arc::ptr_eq(&one.shape, shape) || one.shape == *shape) && one.profile == profile;
        let known = self.0.iter().position(is_it).and_then(|place| self.0.remove(place));
        let answers = known.unwrap_or_else(|| Answers {
            shape: Arc::clone(shape),
            profile: profile.to_owned(),
            verdicts: Vec::new(),
            scores: Vec::new(),
        });
        self.0.truncate(KEPT - 1);
        self.0.push_front(answers);
        &mut self.0[0]
    }
}

impl Answers {
    /// What is against a node, asked for only if it is not remembered.
    ///
    /// # Errors
    /// The refusal.
    pub fn verdict(
        &mut self,
        slot: usize,
        generation: u64,
        ask: impl FnOnce() -> Result<(), Refusal>,
    ) -> Verdict {
        if self.verdicts.len() <= slot {
            self.verdicts.resize(slot + 1, (0, Ok(())));
        }
        let (known, verdict) = &mut self.verdicts[slot];
        if *known != generation {
            (*known, *verdict) = (generation, ask().map_err(Arc::new));
        }
        verdict.clone()
    }

    /// The score of a node, asked for only if it is not remembered.
    pub fn score(&mut self, place: usize, slot: usize, generation: u64, ask: impl FnOnce() -> i64) -> i64 {
        if self.scores.len() <= place {
            self.scores.resize_with(place + 1, Vec::new);
        }
        let scores = &mut self.scores[place];
        if scores.len() <= slot {
            scores.resize(slot + 1, (0, 0));
        }
        let (known, score) = &mut scores[slot];
        if *known != generation {
            (*known, *score) = (generation, ask());
        }
        *score
    }
}
