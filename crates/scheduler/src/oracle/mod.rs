//! Decisions on clusters made by chance, against rules that look at everything.
//!
//! A failure names the seed; it replays with `SEED=n`.

mod chance;
mod plain;

use std::sync::Arc;

use api::types::core::v1::Pod;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::json;

use self::chance::Chance;
use self::plain::World;
use crate::checks::Checks;
use crate::cluster::Cluster;
use crate::memory::Memory;
use crate::pod::PodInfo;
use crate::preemption::{Attempt, Candidate};
use crate::profile::Profile;
use crate::schedule::{Decision, schedule, scores};
use crate::snapshot::NodeInfo;
use crate::testing::{info, search};

/// Runs a test for many seeds, or for the one in `SEED`.
fn for_seeds(count: u64, test: impl Fn(&mut Chance)) {
    let only = std::env::var("SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        let guard = Replay(seed);
        test(&mut Chance(StdRng::seed_from_u64(seed)));
        std::mem::forget(guard);
    }
}

/// Says how to replay, if it is dropped by a failure.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        eprintln!("replay with SEED={}", self.0);
    }
}

/// The same cluster twice: as the scheduler keeps it, and as a plain list.
#[derive(Default)]
struct Both {
    world: World,
    cluster: Cluster,
    arrivals: usize,
}

impl Both {
    fn new() -> Self {
        let mut both = Self::default();
        for (name, labels) in [("ns", json!({"team": "x"})), ("other", json!({"team": "y"}))] {
            let labels: std::collections::BTreeMap<String, String> =
                serde_json::from_value(labels).expect("labels");
            both.cluster.surroundings().set_namespace(name, Some(Some(labels.clone())));
            both.world.namespaces.insert(name.to_owned(), labels);
        }
        both
    }

    fn set_node(&mut self, chance: &mut Chance) {
        let name = format!("n{}", chance.below(7));
        let node = chance.node(&name);
        self.cluster.set_node(&Arc::new(node.clone()));
        self.world.nodes.insert(name, node);
    }

    fn add_pod(&mut self, mut pod: Pod, node: &str) {
        pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
        self.cluster.set_pod(&info(pod.clone()));
        self.world.pods.insert(pod.metadata.uid.clone().unwrap_or_default(), pod);
    }

    /// Something happens.
    fn step(&mut self, chance: &mut Chance) {
        let nodes: Vec<String> = self.world.nodes.keys().cloned().collect();
        match chance.below(10) {
            0 | 1 => self.set_node(chance),
            2 if nodes.len() > 2 && chance.once_in(3) => {
                let name = &nodes[chance.below(nodes.len())];
                self.cluster.remove_node(name);
                self.world.nodes.remove(name);
            }
            2 | 3 if !self.world.pods.is_empty() => {
                let uids: Vec<String> = self.world.pods.keys().cloned().collect();
                let uid = &uids[chance.below(uids.len())];
                self.cluster.remove_pod(uid);
                self.world.pods.remove(uid);
            }
            _ if !nodes.is_empty() => {
                self.arrivals += 1;
                let pod = chance.pod(&format!("p{}", self.arrivals));
                self.add_pod(pod, &nodes[chance.below(nodes.len())]);
            }
            _ => self.set_node(chance),
        }
    }
}

/// Compares every verdict and every score for one pod.
fn compare(both: &mut Both, pod: &Pod, memory: &mut Memory) {
    let (profile, pod_info) = (Profile::default(), info(pod.clone()));
    let snapshot = both.cluster.snapshot();
    let checks = Checks::prepare(&pod_info, snapshot, &profile).expect("nothing is against every node");
    let mut fitting: Vec<&NodeInfo> = Vec::new();
    for node in snapshot.nodes() {
        let verdict = checks.ask(&pod_info, snapshot, node).err().map(|refusal| refusal.plugin);
        let expected = both.world.refuses(pod, &node.name);
        assert_eq!(verdict, expected, "{} on {}: {:?}", pod_info.key, node.name, pod.spec);
        if verdict.is_none() {
            fitting.push(node);
        }
    }
    let names: Vec<String> = fitting.iter().map(|node| node.name.to_string()).collect();
    let answers = memory.of(&pod_info.shape, &profile.name);
    let scored = scores(&pod_info, snapshot, &profile, &fitting, answers);
    let expected = both.world.scores(pod, &names);
    assert_eq!(scored, expected, "{} on {names:?}: {:?}", pod_info.key, pod.spec);
}

#[test]
fn verdicts_and_scores_are_those_of_the_plain_rules() {
    for_seeds(24, |chance| {
        let (mut both, mut memory) = (Both::new(), Memory::default());
        for _ in 0..60 {
            both.step(chance);
            let pod = chance.pod("incoming");
            let mut pod = pod;
            pod.metadata.deletion_timestamp = None;
            compare(&mut both, &pod, &mut memory);
        }
    });
}

#[test]
fn a_decision_is_the_best_node_with_and_without_memory() {
    for_seeds(16, |chance| {
        let (mut both, profile, mut search) = (Both::new(), Profile::default(), search());
        for round in 0..40 {
            both.step(chance);
            let mut pod = chance.pod(&format!("d{round}"));
            pod.metadata.deletion_timestamp = None;
            let names: Vec<String> = both.world.nodes.keys().cloned().collect();
            let fitting: Vec<String> =
                names.into_iter().filter(|name| both.world.refuses(&pod, name).is_none()).collect();
            let best = both.world.scores(&pod, &fitting);
            match schedule(&info(pod.clone()), both.cluster.snapshot(), &profile, &mut search) {
                Decision::Node(node) => {
                    let place = fitting.iter().position(|name| **name == *node).expect("it fits");
                    let is_best = fitting.len() == 1 || best[place] == *best.iter().max().expect("a score");
                    assert!(is_best, "{node}: {fitting:?} {best:?}");
                    both.add_pod(pod, &node);
                }
                Decision::Nowhere(..) => assert_eq!(fitting, [""; 0]),
            }
        }
    });
}

/// A full cluster of plain pods with priorities, some under a budget that
/// allows no disruption.
fn crowded(chance: &mut Chance) -> Both {
    let mut both = Both::new();
    for number in 0..4 {
        let mut node = chance.node(&format!("n{number}"));
        node.spec = None;
        both.cluster.set_node(&Arc::new(node.clone()));
        both.world.nodes.insert(format!("n{number}"), node);
    }
    for number in 0..24 {
        let mut pod = chance.plain_pod(&format!("v{number}"));
        pod.metadata.namespace = Some("ns".to_owned());
        pod.spec.get_or_insert_default().priority = i32::try_from(chance.below(6)).ok();
        let node = format!("n{}", chance.below(4));
        if both.world.refuses(&pod, &node).is_none() {
            both.add_pod(pod, &node);
        }
    }
    let budget = json!({
        "metadata": {}, "spec": {"selector": {"matchLabels": {"app": "db"}}},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
    });
    let budget = serde_json::from_value(budget).expect("a budget");
    both.cluster.surroundings().budgets.set(&api::ObjectKey::new("ns", "db"), Some(&budget));
    both
}

fn is_guarded(pod: &Pod) -> bool {
    plain::labels(pod).get("app").is_some_and(|app| app == "db")
}

/// Whether a pod fits a node when some pods are gone.
fn fits_without(both: &mut Both, pod: &Pod, node: &str, gone: &[&str]) -> bool {
    let taken: Vec<(String, Pod)> =
        gone.iter().filter_map(|uid| both.world.pods.remove_entry(*uid)).collect();
    let fits = both.world.refuses(pod, node).is_none();
    both.world.pods.extend(taken);
    fits
}

fn check_candidate(both: &mut Both, pod: &Pod, candidate: &Candidate) {
    let victims: Vec<&str> = candidate.victims.iter().map(|victim| victim.uid.as_str()).collect();
    assert!(candidate.victims.iter().all(|victim| victim.priority < 4), "a victim is as important");
    assert!(fits_without(both, pod, &candidate.node, &victims), "it does not fit even so: {victims:?}");
    for spared in &victims {
        let others: Vec<&str> = victims.iter().copied().filter(|uid| uid != spared).collect();
        assert!(!fits_without(both, pod, &candidate.node, &others), "{spared} could have stayed");
    }
}

/// The lesser pods of a node that are not guarded.
fn unguarded(both: &Both, node: &str) -> Vec<String> {
    let is_lesser = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0) < 4;
    let here = both.world.pods.iter().filter(|(_, pod)| {
        pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
            && is_lesser(pod)
            && !is_guarded(pod)
    });
    here.map(|(uid, _)| uid.clone()).collect()
}

#[test]
fn preemption_takes_no_more_than_it_must_and_breaks_no_budget_it_need_not() {
    let found = std::sync::atomic::AtomicUsize::new(0);
    for_seeds(150, |chance| {
        let mut both = crowded(chance);
        let mut pod = chance.plain_pod("p");
        pod.metadata.namespace = Some("ns".to_owned());
        pod.spec.get_or_insert_default().priority = Some(4);
        let pod_info: Arc<PodInfo> = info(pod.clone());
        let decision = schedule(&pod_info, both.cluster.snapshot(), &Profile::default(), &mut search());
        let Decision::Nowhere(_, Attempt::Found(candidates)) = decision else { return };
        found.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        for candidate in &candidates {
            check_candidate(&mut both, &pod, candidate);
            let guarded = candidate.victims.iter().filter(|victim| is_guarded(&victim.pod)).count();
            assert_eq!(candidate.violations, guarded);
        }
        let names: Vec<String> = both.world.nodes.keys().cloned().collect();
        let avoidable = names.iter().any(|name| {
            let lesser = unguarded(&both, name);
            let gone: Vec<&str> = lesser.iter().map(String::as_str).collect();
            fits_without(&mut both, &pod, name, &gone)
        });
        assert_eq!(candidates[0].violations == 0, avoidable, "a budget is broken only where it must be");
    });
    assert!(std::env::var("SEED").is_ok() || found.into_inner() > 20, "too few clusters made it preempt");
}
