//! What a claim needs: a volume, or somebody who makes one; its phase told.

use api::types::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
};
use client::events::reference;
use reconcile::{Action, Plan};
use serde_json::json;

use super::matching::{self, annotation};
use super::{ObservedClaim, volumes};
use crate::{owners, status};

/// Says of a claim that its binding was completed once.
pub(super) const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Says of a volume or a claim that we chose the other.
pub(super) const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// The node that the scheduler chose for the first pod.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who is to make a volume.
const PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];

pub(super) fn plan(observed: &ObservedClaim) -> Plan {
    let mut sync = Sync { claim: &observed.claim, plan: Plan::default() };
    let is_completed = annotation(&observed.claim.metadata, COMPLETED).is_some();
    let named = observed.claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    let named = named.filter(|name| !name.is_empty());
    match (is_completed, named) {
        (false, None) => sync.find(observed),
        (false, Some(name)) => sync.take(name, observed.volumes.first().map(|volume| &**volume)),
        (true, None) => {
            let text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
            sync.lose("ClaimLost", text);
        }
        (true, Some(_)) => sync.keep(observed.volumes.first().map(|volume| &**volume)),
    }
    sync.plan
}

struct Sync<'a> {
    claim: &'a PersistentVolumeClaim,
    plan: Plan,
}

impl Sync<'_> {
    fn inform(&mut self, reason: &str, text: impl Into<String>) {
        self.plan.actions.push(Action::normal(reference(self.claim), reason, text));
    }

    fn warn(&mut self, reason: &str, text: impl Into<String>) {
        self.plan.actions.push(Action::warning(reference(self.claim), reason, text));
    }

    /// Any volume will do.
    fn find(&mut self, observed: &ObservedClaim) {
        let mode = observed.class.as_ref().and_then(|class| class.volume_binding_mode.as_deref());
        let has_node = annotation(&self.claim.metadata, SELECTED_NODE).is_some();
        let waits = mode == Some("WaitForFirstConsumer");
        if let Some(volume) = matching::find(self.claim, &observed.volumes, waits) {
            return self.bind(volume);
        }
        if let (true, Some(class)) = (matching::leaves_class_open(self.claim), &observed.default_class) {
            let patch = json!({"spec": {"storageClassName": owners::name(&**class)}});
            self.plan.actions.push(Action::patch_unchanged(self.claim, patch));
            return;
        }
        if waits && !has_node {
            self.say_who_waits(&observed.waiting_pods);
        } else if !matching::class_of_claim(self.claim).is_empty() {
            return self.ask_for_one(observed);
        } else {
            let text = "no persistent volumes available for this claim and no storage class is set";
            self.inform("FailedBinding", text);
        }
        self.tell("Pending", None);
    }

    fn say_who_waits(&mut self, pods: &[String]) {
        match pods {
            [] => {
                let text = "waiting for first consumer to be created before binding";
                self.inform("WaitForFirstConsumer", text);
            }
            [pod] => self.inform("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
            pods => {
                let text = format!("waiting for pods {} to be scheduled", pods.join(","));
                self.inform("WaitForPodScheduled", text);
            }
        }
    }

    /// Names the provisioner that is to make a volume.
    fn ask_for_one(&mut self, observed: &ObservedClaim) {
        let Some(class) = &observed.class else {
            let name = matching::class_of_claim(self.claim);
            let text = format!("storageclass.storage.k8s.io {name:?} not found");
            return self.warn("ProvisioningFailed", text);
        };
        let provisioner = class.provisioner.as_str();
        if provisioner == "kubernetes.io/no-provisioner" {
            return;
        }
        if annotation(&self.claim.metadata, PROVISIONER[0]) != Some(provisioner) {
            let annotations = PROVISIONER.map(|name| (name, provisioner));
            let patch = json!({"metadata": {"annotations": std::collections::BTreeMap::from(annotations)}});
            self.plan.actions.push(Action::patch_unchanged(self.claim, patch));
        }
        let text = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        self.inform("ExternalProvisioning", text);
    }

    /// The claim names a volume and is not bound yet.
    fn take(&mut self, name: &str, volume: Option<&PersistentVolume>) {
        let Some(volume) = volume else { return self.tell("Pending", None) };
        if matching::claim_key(volume).is_none() {
            if let Some(why) = matching::objection(volume, self.claim) {
                let text = format!("Cannot bind to requested volume {name:?}: {why}");
                self.warn("VolumeMismatch", text);
                return self.tell("Pending", None);
            }
        } else if !matching::is_bound_to(volume, self.claim) {
            let text = format!("volume {name:?} already bound to a different claim.");
            self.warn("FailedBinding", text);
            return self.tell("Pending", None);
        }
        self.bind(volume);
    }

    /// The claim was bound before.
    fn keep(&mut self, volume: Option<&PersistentVolume>) {
        let Some(volume) = volume else {
            let text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            return self.lose("ClaimLost", text);
        };
        let claimed = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if claimed.is_none_or(|claimed| claimed.uid == self.claim.metadata.uid) {
            return self.bind(volume);
        }
        let text = "Two claims are bound to the same volume, this one is bound incorrectly";
        self.lose("ClaimMisbound", text);
    }

    fn lose(&mut self, reason: &str, text: &str) {
        let phase = self.claim.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase != Some("Lost") {
            self.tell("Lost", None);
            self.warn(reason, text);
        }
    }

    /// Writes what is missing of a binding: the volume first, so that no other claim gets it.
    fn bind(&mut self, volume: &PersistentVolume) {
        let claim = self.claim;
        let claimed = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if claimed.is_none_or(|claimed| claimed.uid != claim.metadata.uid) {
            let target = ObjectReference { field_path: None, ..reference(claim) };
            let mut patch = json!({"spec": {"claimRef": target}});
            if !matching::is_bound_to(volume, claim) {
                patch["metadata"]["annotations"] = json!({BY_CONTROLLER: "yes"});
            }
            self.plan.actions.push(Action::patch_unchanged(volume, patch));
        }
        self.plan.actions.extend(volumes::phase(volume, "Bound"));
        let name = owners::name(volume);
        let mut patch = json!({});
        if claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()) != Some(name) {
            patch["spec"]["volumeName"] = name.into();
            patch["metadata"]["annotations"][BY_CONTROLLER] = "yes".into();
        }
        if annotation(&claim.metadata, COMPLETED).is_none() {
            patch["metadata"]["annotations"][COMPLETED] = "yes".into();
        }
        if patch != json!({}) {
            self.plan.actions.push(Action::patch_unchanged(claim, patch));
        }
        self.tell("Bound", Some(volume));
    }

    fn tell(&mut self, phase: &str, volume: Option<&PersistentVolume>) {
        let before = self.claim.status.clone().unwrap_or_default();
        let becomes_bound = phase == "Bound" && before.phase.as_deref() != Some("Bound");
        let spec = volume.and_then(|volume| volume.spec.as_ref());
        let mut told = PersistentVolumeClaimStatus {
            phase: Some(phase.to_owned()),
            access_modes: spec.and_then(|spec| spec.access_modes.clone()),
            ..before
        };
        match spec {
            None => told.capacity = None,
            // What is bound already may be about to grow.
            Some(spec) if becomes_bound => {
                told.capacity.clone_from(&spec.capacity);
                told.current_volume_attributes_class_name.clone_from(&spec.volume_attributes_class_name);
            }
            Some(_) => {}
        }
        self.plan.actions.extend(status::write(self.claim, self.claim.status.as_ref(), &told));
    }
}
