//! Taints of nodes and tolerations of pods.

use api::types::core::v1::{Pod, Taint, Toleration};

use super::{ClusterEvent, Filter, Reasons, Score, stretch};
use crate::snapshot::NodeState;

pub(super) const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";
const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";

/// Keeps pods from nodes whose taints they do not tolerate.
pub(super) struct TaintToleration;

impl Filter for TaintToleration {
    const NAME: &'static str = "TaintToleration";
    const UNBLOCKED_BY: &'static [ClusterEvent] = &[ClusterEvent::NodeAdded, ClusterEvent::NodeTaints];
    type Facts = Vec<Toleration>;

    fn facts(pod: &Pod) -> Option<Vec<Toleration>> {
        Some(tolerations(pod).to_vec())
    }

    fn check(tolerations: &Vec<Toleration>, node: &NodeState) -> Reasons {
        let forbids = |taint: &&Taint| matches!(taint.effect.as_str(), NO_SCHEDULE | NO_EXECUTE);
        if taints(node).filter(forbids).all(|taint| is_tolerated(taint, tolerations)) {
            Vec::new()
        } else {
            vec!["node(s) had untolerated taint(s)".into()]
        }
    }
}

impl Score for TaintToleration {
    const NAME: &'static str = "TaintToleration";
    type Facts = Vec<Toleration>;

    fn facts(pod: &Pod) -> Option<Vec<Toleration>> {
        let matters = |toleration: &&Toleration| {
            matches!(toleration.effect.as_deref().unwrap_or_default(), "" | PREFER_NO_SCHEDULE)
        };
        Some(tolerations(pod).iter().filter(matters).cloned().collect())
    }

    fn score(tolerations: &Vec<Toleration>, node: &NodeState) -> i64 {
        let prefers_not =
            |taint: &&Taint| taint.effect == PREFER_NO_SCHEDULE && !is_tolerated(taint, tolerations);
        i64::try_from(taints(node).filter(prefers_not).count()).unwrap_or(i64::MAX)
    }

    fn normalize(scores: &mut [i64]) {
        stretch(scores, true);
    }
}

fn taints(node: &NodeState) -> impl Iterator<Item = &Taint> {
    node.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten())
}

pub(super) fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

pub(super) fn is_tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if set(&toleration.effect).is_some_and(|effect| effect != taint.effect)
        || set(&toleration.key).is_some_and(|key| key != taint.key)
    {
        return false;
    }
    let (asked, has) =
        (toleration.value.as_deref().unwrap_or_default(), taint.value.as_deref().unwrap_or_default());
    let numbers = || Some((has.parse::<i64>().ok()?, asked.parse::<i64>().ok()?));
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => asked == has,
        "Exists" => true,
        "Lt" => numbers().is_some_and(|(has, asked)| has < asked),
        "Gt" => numbers().is_some_and(|(has, asked)| has > asked),
        _ => false,
    }
}
