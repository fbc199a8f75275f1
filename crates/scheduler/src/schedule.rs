//! The decision: pure, and the only path that schedules.

use std::sync::Arc;

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::checks::Checks;
use crate::diagnosis::Diagnosis;
use crate::memory::{Answers, Memory, Verdict};
use crate::pod::PodInfo;
use crate::preemption::Attempt;
use crate::profile::Profile;
use crate::snapshot::{NodeInfo, Snapshot};

/// Below this many nodes all are looked at.
const ALWAYS_LOOK_AT: usize = 100;
/// At least this share of nodes is looked at, percent.
const SMALLEST_SHARE: usize = 5;

/// Where to send a pod.
#[derive(Clone, Debug)]
pub enum Decision {
    /// To this node.
    Node(Arc<str>),
    /// Nowhere, for now: why, and what came of looking for room to make.
    Nowhere(Diagnosis, Attempt),
}

impl Decision {
    /// The node; `None`: there is none.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Node(node) => Some(node),
            Self::Nowhere(..) => None,
        }
    }
}

/// What a decision takes besides its inputs: where to begin looking, so that
/// all nodes get their turn where not all are looked at, chance among equals, and
/// answers that need not be asked for again.
#[derive(Debug)]
pub struct Search {
    start: usize,
    memory: Memory,
    /// Chance among equals.
    pub chance: StdRng,
}

impl Search {
    /// A search with its own source of chance.
    #[must_use]
    pub fn new(chance: StdRng) -> Self {
        Self { start: 0, memory: Memory::default(), chance }
    }
}

/// The nodes that may take a pod, and what is against the others.
pub struct Fitting<'a> {
    /// The nodes; perhaps not all of them, if there are many.
    pub nodes: Vec<&'a NodeInfo>,
    /// What is against the others; not told where a node fits.
    pub diagnosis: Diagnosis,
    /// The filters with their facts; `None`: they need not be asked.
    pub checks: Option<Checks>,
    /// Scores of the nodes from elsewhere; those that are missing are zero.
    pub extra: Vec<i64>,
}

impl<'a> Fitting<'a> {
    const fn new(nodes: Vec<&'a NodeInfo>, diagnosis: Diagnosis, checks: Option<Checks>) -> Self {
        Self { nodes, diagnosis, checks, extra: Vec::new() }
    }
}

/// Decides where a pod goes.
pub fn schedule(pod: &PodInfo, snapshot: &Snapshot, profile: &Profile, search: &mut Search) -> Decision {
    let found = fitting(pod, snapshot, profile, search);
    conclude(pod, snapshot, profile, found, search)
}

/// Decides between the nodes that were found, or, if there are none, whether
/// room can be made somewhere.
pub fn conclude(
    pod: &PodInfo,
    snapshot: &Snapshot,
    profile: &Profile,
    found: Fitting<'_>,
    search: &mut Search,
) -> Decision {
    let Fitting { nodes, mut diagnosis, checks, extra } = found;
    if let Some(node) = choose(pod, snapshot, profile, &nodes, &extra, search) {
        return Decision::Node(Arc::clone(&node.name));
    }
    let attempt = match &profile.preemption {
        Some(preemption) => preemption.attempt(pod, snapshot, checks.as_ref(), &diagnosis, search),
        None => Attempt::NotMade(""),
    };
    diagnosis.eviction = attempt.message();
    Decision::Nowhere(diagnosis, attempt)
}

/// Finds the nodes that may take a pod.
pub fn fitting<'a>(
    pod: &PodInfo,
    snapshot: &'a Snapshot,
    profile: &Profile,
    search: &mut Search,
) -> Fitting<'a> {
    let mut diagnosis = Diagnosis { nodes: snapshot.len(), ..Diagnosis::default() };
    if snapshot.is_empty() {
        return Fitting::new(Vec::new(), diagnosis, None);
    }
    let checks = match Checks::prepare(pod, snapshot, profile) {
        Ok(checks) => checks,
        Err(general) => {
            diagnosis.general = Some(general);
            return Fitting::new(Vec::new(), diagnosis, None);
        }
    };
    let nominated = pod.nominated().and_then(|name| snapshot.node(name));
    if let Some(node) = nominated.filter(|node| checks.ask(pod, snapshot, node).is_ok()) {
        return Fitting::new(vec![node], diagnosis, Some(checks));
    }
    diagnosis.general = checks.left_out();
    let nodes = match &checks.only {
        Some((names, _)) => {
            let slots = names.iter().filter_map(|name| Some(snapshot.node(name)?.slot));
            let ask = |slot| checks.ask(pod, snapshot, snapshot.node_in(slot)).map_err(Arc::new);
            look(slots, names.len(), profile, &mut diagnosis, snapshot, ask).0
        }
        None => {
            let start = search.start % snapshot.len();
            let around = (0..snapshot.len()).map(|place| snapshot.slot_at(start + place));
            let answers = search.memory.of(&pod.shape, &profile.name);
            let ask = |slot| remembering(pod, snapshot, &checks, answers, slot);
            let (nodes, seen) = look(around, snapshot.len(), profile, &mut diagnosis, snapshot, ask);
            search.start = start + seen;
            nodes
        }
    };
    Fitting::new(nodes, diagnosis, Some(checks))
}

/// Asks about nodes until enough of them fit. Returns those, and how many were
/// asked about.
fn look<'a>(
    slots: impl Iterator<Item = usize>,
    count: usize,
    profile: &Profile,
    diagnosis: &mut Diagnosis,
    snapshot: &'a Snapshot,
    mut ask: impl FnMut(usize) -> Verdict,
) -> (Vec<&'a NodeInfo>, usize) {
    let wanted = enough(count, profile);
    let (mut fitting, mut seen) = (Vec::new(), 0);
    for slot in slots {
        seen += 1;
        match ask(slot) {
            Ok(()) => fitting.push(snapshot.node_in(slot)),
            // Refusals matter only if nobody accepts.
            Err(refusal) if fitting.is_empty() || profile.has_extenders => {
                diagnosis.refusals.push((Arc::clone(&snapshot.node_in(slot).name), refusal));
            }
            Err(_) => {}
        }
        if fitting.len() >= wanted {
            break;
        }
    }
    (fitting, seen)
}

/// Asks about a node what is not remembered.
fn remembering(
    pod: &PodInfo,
    snapshot: &Snapshot,
    checks: &Checks,
    answers: &mut Answers,
    slot: usize,
) -> Verdict {
    let node = snapshot.node_in(slot);
    if snapshot.has_nominated() && !snapshot.nominated(&node.name).is_empty() {
        return checks.ask(pod, snapshot, node).map_err(Arc::new);
    }
    answers.verdict(slot, snapshot.generation(slot), || checks.ask_local(node))?;
    checks.ask_others(node).map_err(Arc::new)
}

/// How many fitting nodes are enough, as upstream's adaptive share has it.
fn enough(nodes: usize, profile: &Profile) -> usize {
    if profile.scores.is_empty() {
        return 1;
    }
    if nodes < ALWAYS_LOOK_AT {
        return nodes;
    }
    let adaptive = || 50_usize.saturating_sub(nodes / 125).max(SMALLEST_SHARE);
    let percent = if profile.percentage == 0 { adaptive() } else { profile.percentage };
    (nodes * percent / 100).max(ALWAYS_LOOK_AT)
}

/// Chooses the best of the nodes that may take a pod; chance decides among equals.
fn choose<'a>(
    pod: &PodInfo,
    snapshot: &Snapshot,
    profile: &Profile,
    nodes: &[&'a NodeInfo],
    extra: &[i64],
    search: &mut Search,
) -> Option<&'a NodeInfo> {
    if nodes.len() < 2 {
        return nodes.first().copied();
    }
    let answers = search.memory.of(&pod.shape, &profile.name);
    let mut scores = scores(pod, snapshot, profile, nodes, answers);
    for (score, extra) in scores.iter_mut().zip(extra) {
        *score += extra;
    }
    let best = scores.iter().copied().max()?;
    let equals: Vec<&NodeInfo> =
        nodes.iter().zip(&scores).filter(|(_, score)| **score == best).map(|(node, _)| *node).collect();
    Some(equals[search.chance.random_range(0..equals.len())])
}

/// The weighted scores of nodes.
pub fn scores(
    pod: &PodInfo,
    snapshot: &Snapshot,
    profile: &Profile,
    nodes: &[&NodeInfo],
    answers: &mut Answers,
) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    let mut scores = Vec::with_capacity(nodes.len());
    for (place, entry) in profile.scores.iter().enumerate() {
        let Some(rate) = entry.score.prepare(pod, snapshot, nodes) else { continue };
        scores.clear();
        if entry.score.is_local() {
            let remembered = |node: &&NodeInfo| {
                let generation = snapshot.generation(node.slot);
                answers.score(place, node.slot, generation, || rate.score(node))
            };
            scores.extend(nodes.iter().map(remembered));
        } else {
            scores.extend(nodes.iter().map(|node| rate.score(node)));
        }
        rate.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += score * entry.weight;
        }
    }
    totals
}
