//! Taints of nodes and tolerations of pods.

use std::sync::Arc;

use api::types::core::v1::{Pod, Taint, Toleration};

use super::{Filter, NoArgs, Plugin, Prepared, Roles, Score, stretch};
use crate::events::{Event, Kinds};
use crate::objection::Objection;
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";
const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";

/// Keeps pods from nodes whose taints they do not tolerate.
pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    const NAME: &'static str = "TaintToleration";
    const HEEDS: Kinds = Kinds::NODE_MADE.with(Kinds::WAITING);
    type Args = NoArgs;

    fn new(_: NoArgs) -> Result<Self, String> {
        Ok(Self)
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().filtering(&self).scoring(&self)
    }

    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        let keeps_out = |node: &NodeInfo| is_kept_out(node, tolerations(&pod.pod));
        match event {
            Event::NodeAdded(node) => !keeps_out(node),
            Event::NodeChanged { old, new } => keeps_out(old) && !keeps_out(new),
            Event::Waiting { old, new } => tolerations(&old.pod).len() != tolerations(&new.pod).len(),
            _ => false,
        }
    }
}

impl Filter for TaintToleration {
    type Facts = Vec<Toleration>;
    const IS_LOCAL: bool = true;
    const LOOKS_AT_PODS: bool = false;

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Prepared<Vec<Toleration>> {
        Prepared::Facts(tolerations(&pod.pod).to_vec())
    }

    fn check(&self, tolerations: &Vec<Toleration>, node: &NodeInfo) -> Result<(), Objection> {
        if is_kept_out(node, tolerations) {
            return Err(Objection::lasting("node(s) had untolerated taint(s)"));
        }
        Ok(())
    }
}

impl Score for TaintToleration {
    type Facts = Vec<Toleration>;
    const IS_LOCAL: bool = true;

    fn prepare(&self, pod: &PodInfo, _: &Snapshot, _: &[&NodeInfo]) -> Option<Vec<Toleration>> {
        let matters = |toleration: &&Toleration| {
            matches!(toleration.effect.as_deref().unwrap_or_default(), "" | PREFER_NO_SCHEDULE)
        };
        Some(tolerations(&pod.pod).iter().filter(matters).cloned().collect())
    }

    fn score(&self, tolerations: &Vec<Toleration>, node: &NodeInfo) -> i64 {
        let prefers_not =
            |taint: &&Taint| taint.effect == PREFER_NO_SCHEDULE && !is_tolerated(taint, tolerations);
        i64::try_from(node.taints.iter().filter(prefers_not).count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        stretch(scores, true);
    }
}

/// Whether a taint of a node forbids it to a pod with these tolerations.
pub(super) fn is_kept_out(node: &NodeInfo, tolerations: &[Toleration]) -> bool {
    let forbids = |taint: &&Taint| matches!(taint.effect.as_str(), NO_SCHEDULE | NO_EXECUTE);
    node.taints.iter().filter(forbids).any(|taint| !is_tolerated(taint, tolerations))
}

pub(super) fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

pub(super) fn is_tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let differs = |asked: &Option<String>, has: &str| {
        asked.as_deref().is_some_and(|asked| !asked.is_empty() && asked != has)
    };
    if differs(&toleration.effect, &taint.effect) || differs(&toleration.key, &taint.key) {
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
