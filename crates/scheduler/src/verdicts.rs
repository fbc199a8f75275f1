//! What every node said about the pods that last fitted nowhere, for whoever asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::ObjectKey;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::diagnosis::Diagnosis;
use crate::explanation::{Eviction, Explanation};
use crate::pod::PodInfo;

/// Words of nodes that are kept, about all pods together.
const KEPT: usize = 200_000;

/// The latest verdict on each pod that waits; the oldest go when there are too
/// many. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Verdicts(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    by_pod: HashMap<ObjectKey, Verdict>,
    by_age: BTreeMap<u64, ObjectKey>,
    last: u64,
    words: usize,
}

#[derive(Clone, Debug)]
struct Verdict {
    age: u64,
    pod: Arc<PodInfo>,
    diagnosis: Arc<Diagnosis>,
    eviction: Option<Eviction>,
    at: Timestamp,
}

impl Verdicts {
    /// Keeps a verdict; an older one on the same pod goes.
    pub fn keep(&self, pod: &Arc<PodInfo>, diagnosis: Diagnosis, eviction: Option<Eviction>, at: Timestamp) {
        let mut kept = self.0.lock();
        kept.remove(&pod.key);
        kept.last += 1;
        kept.words += words(&diagnosis);
        let (age, diagnosis) = (kept.last, Arc::new(diagnosis));
        kept.by_age.insert(age, pod.key.clone());
        let verdict = Verdict { age, pod: Arc::clone(pod), diagnosis, eviction, at };
        kept.by_pod.insert(pod.key.clone(), verdict);
        while kept.words > KEPT && kept.by_age.len() > 1 {
            let Some((_, oldest)) = kept.by_age.pop_first() else { break };
            kept.remove(&oldest);
        }
    }

    /// Forgets a pod that fits now, or is gone.
    pub fn forget(&self, pod: &ObjectKey) {
        self.0.lock().remove(pod);
    }

    /// Why a pod has no node; `None`: it was not refused, or too long ago.
    #[must_use]
    pub fn explain(&self, pod: &ObjectKey) -> Option<Explanation> {
        let Verdict { pod, diagnosis, eviction, at, .. } = self.0.lock().by_pod.get(pod)?.clone();
        Some(Explanation::new(&pod, &diagnosis, eviction, at))
    }
}

impl Kept {
    fn remove(&mut self, pod: &ObjectKey) {
        if let Some(verdict) = self.by_pod.remove(pod) {
            self.by_age.remove(&verdict.age);
            self.words -= words(&verdict.diagnosis);
        }
    }
}

/// How much is kept of a diagnosis.
fn words(diagnosis: &Diagnosis) -> usize {
    diagnosis.refusals.len() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objection::{Objection, Reason, Refusal, Shortage};
    use crate::testing::{asking, info};

    fn refused(nodes: usize) -> Diagnosis {
        let shortage = Some(Shortage { of: "cpu".into(), asked: 5000, left: 1000 });
        let reasons = vec![Reason { text: "Insufficient cpu".into(), shortage }];
        let objection = Objection { reasons, can_be_evicted_away: true };
        let refusal = Arc::new(Refusal { plugin: "NodeResourcesFit", objection });
        let refusals = (0..nodes).map(|number| (format!("n{number}").into(), Arc::clone(&refusal))).collect();
        Diagnosis { nodes, refusals, ..Diagnosis::default() }
    }

    #[test]
    fn the_oldest_goes_first() {
        let verdicts = Verdicts::default();
        let keep = |name: &str, nodes| {
            verdicts.keep(&info(asking(name, "1")), refused(nodes), None, Timestamp::UNIX_EPOCH);
        };
        let has = |name: &str| verdicts.explain(&ObjectKey::new("ns", name)).is_some();
        keep("a", KEPT / 2);
        keep("b", KEPT / 4);
        keep("b", KEPT / 4);
        assert!(has("a") && has("b"));
        keep("c", KEPT / 3);
        assert!(!has("a") && has("b") && has("c"));
        verdicts.forget(&ObjectKey::new("ns", "b"));
        assert!(!has("b"));
    }

    #[test]
    fn a_record_says_who_refused_where_and_by_how_much() {
        let verdicts = Verdicts::default();
        let eviction = Eviction { node: "n1".to_owned(), victims: vec!["ns/v".to_owned()] };
        verdicts.keep(&info(asking("p", "5")), refused(2), Some(eviction), Timestamp::UNIX_EPOCH);
        let record = verdicts.explain(&ObjectKey::new("ns", "p")).expect("a record");
        let json = serde_json::to_value(&record).expect("encodes");
        let refusal = |node: &str| {
            serde_json::json!({
                "node": node, "plugin": "NodeResourcesFit", "canBeEvictedAway": true,
                "reasons": [{"text": "Insufficient cpu", "shortage": {"of": "cpu", "asked": 5000, "left": 1000}}],
            })
        };
        assert_eq!(
            json,
            serde_json::json!({
                "namespace": "ns", "name": "p", "uid": "p", "scheduler": "default-scheduler",
                "at": "1970-01-01T00:00:00Z", "message": "0/2 nodes are available: 2 Insufficient cpu.",
                "nodes": 2, "refusals": [refusal("n0"), refusal("n1")],
                "eviction": {"node": "n1", "victims": ["ns/v"]},
            })
        );
        assert_eq!(serde_json::from_value::<Explanation>(json).expect("decodes"), record);
    }
}
