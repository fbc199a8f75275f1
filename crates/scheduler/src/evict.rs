//! Carries out what [`crate::preemption`] decided: less important claims to the
//! node are withdrawn, victims are told why and deleted.

use std::sync::Arc;

use api::Reason;
use api::types::core::v1::Pod;
use client::{Client, DeleteOptions, Recorder};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::pod::PodInfo;
use crate::writes::{condition, patch_status};

/// Whose room is to be made, and how.
pub(crate) struct MakingRoom {
    /// For whom.
    pub(crate) pod: Arc<PodInfo>,
    /// Where.
    pub(crate) node: Arc<str>,
    /// Who has to go.
    pub(crate) victims: Vec<Arc<PodInfo>>,
    /// Whose claims to the node are withdrawn.
    pub(crate) claims: Vec<Arc<PodInfo>>,
}

impl MakingRoom {
    /// Whether there is nothing to do but to wait: all victims are leaving.
    pub(crate) fn is_under_way(&self) -> bool {
        self.victims.iter().all(|victim| victim.is_leaving)
    }

    /// Makes room. Returns whether every victim is on its way.
    pub(crate) async fn carry_out(&self, client: &Client, recorder: &Recorder, now: Timestamp) -> bool {
        for claim in self.claims.iter().filter(|claim| claim.nominated().is_some()) {
            let patch = json!({"metadata": {"uid": claim.uid}, "status": {"nominatedNodeName": null}});
            patch_status(client, claim, patch).await;
        }
        let staying = self.victims.iter().filter(|victim| !victim.is_leaving);
        let gone = join_all(staying.map(|victim| self.evict(client, recorder, victim, now))).await;
        gone.into_iter().all(|gone| gone)
    }

    async fn evict(&self, client: &Client, recorder: &Recorder, victim: &PodInfo, now: Timestamp) -> bool {
        if let Some(patch) = target_patch(victim, self.pod.scheduler(), now)
            && !patch_status(client, victim, patch).await
        {
            return false;
        }
        let options = DeleteOptions::of_uid(victim.uid.clone());
        match client.delete::<Pod>(victim.namespace(), &victim.key.name, &options).await {
            Ok(_) => {
                let message = format!("Preempted by pod {} on node {}", self.pod.uid, self.node);
                recorder.normal(client::events::reference(&*victim.pod), "Preempted", message);
                true
            }
            // Gone already, or replaced by another of its name.
            Err(status) if matches!(status.reason, Reason::NotFound | Reason::Conflict) => true,
            Err(status) => {
                let (namespace, name) = (victim.namespace(), victim.key.name.as_str());
                tracing::warn!(kind = "Pod", namespace, name, error = %status, "cannot delete a victim");
                false
            }
        }
    }
}

/// The condition that says why a victim goes; `None`: it says so already.
fn target_patch(victim: &PodInfo, scheduler: &str, now: Timestamp) -> Option<Value> {
    const REASON: &str = "PreemptionByScheduler";
    let message = format!("{scheduler}: preempting to accommodate a higher priority pod");
    let says_so = condition(&victim.pod, "DisruptionTarget").is_some_and(|one| {
        one.status == "True"
            && one.reason.as_deref() == Some(REASON)
            && one.message.as_deref() == Some(&message)
    });
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "observedGeneration": victim.pod.metadata.generation,
        "reason": REASON,
        "message": message,
        "lastProbeTime": null,
        "lastTransitionTime": api::time::format(now),
    });
    (!says_so).then(|| json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{info, pod_json};

    #[test]
    fn victims_are_told_once() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut pod = pod_json("v", json!({}));
        let patch = target_patch(&info(pod.clone()), "s", now).expect("a patch");
        let told = &patch["status"]["conditions"][0];
        assert_eq!((&told["reason"], &told["status"]), (&json!("PreemptionByScheduler"), &json!("True")));
        assert_eq!(told["message"], "s: preempting to accommodate a higher priority pod");
        pod.status = serde_json::from_value(patch["status"].clone()).expect("a status");
        assert_eq!(target_patch(&info(pod), "s", now), None);
    }
}
