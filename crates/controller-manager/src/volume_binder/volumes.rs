//! What becomes of a volume: free, bound, or released, and then what its reclaim
//! policy says.

use api::types::core::v1::{PersistentVolume, PersistentVolumeStatus};
use client::events::reference;
use reconcile::{Action, Plan};
use serde_json::json;

use super::ObservedVolume;
use super::claims::BY_CONTROLLER;
use super::matching::{self, annotation};
use crate::{owners, status};

/// Who made a volume, and is to delete it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// The write that tells a volume's phase; `None` where it is told.
pub(super) fn phase(volume: &PersistentVolume, phase: &str) -> Option<Action> {
    let before = volume.status.clone().unwrap_or_default();
    if before.phase.as_deref() == Some(phase) {
        return None;
    }
    let told = PersistentVolumeStatus { phase: Some(phase.to_owned()), message: None, ..before };
    status::write(volume, volume.status.as_ref(), &told)
}

pub(super) fn plan(observed: &ObservedVolume) -> Plan {
    let volume = &*observed.volume;
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let uid = reference.and_then(|reference| reference.uid.as_deref()).unwrap_or_default();
    if uid.is_empty() {
        // Free, or meant for a claim that is yet to come.
        return Plan::of(phase(volume, "Available").into_iter().collect());
    }
    let Some(claim) = &observed.claim else { return Plan::of(reclaim(volume)) };
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if named.is_empty() {
        return Plan::of(mismatch(observed));
    }
    if named == owners::name(volume) {
        return Plan::of(phase(volume, "Bound").into_iter().collect());
    }
    // The claim has another volume.
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    if annotation(&volume.metadata, PROVISIONED_BY).is_some() && policy == Some("Delete") {
        return Plan::of(reclaim(volume));
    }
    Plan::of(unbind(volume))
}

/// The claim is about to be bound by its own loop, unless it cannot be.
fn mismatch(observed: &ObservedVolume) -> Vec<Action> {
    let volume = &*observed.volume;
    let Some(claim) = observed.claim.as_deref().filter(|claim| matching::modes_differ(volume, claim)) else {
        return Vec::new();
    };
    let (claim_name, volume_name) = (owners::name(claim), owners::name(volume));
    let of_volume = format!(
        "Cannot bind PersistentVolume to requested PersistentVolumeClaim {claim_name:?} due to incompatible volumeMode."
    );
    let of_claim = format!(
        "Cannot bind PersistentVolume {volume_name:?} to requested PersistentVolumeClaim due to incompatible volumeMode."
    );
    vec![
        Action::warning(reference(volume), "VolumeMismatch", of_volume),
        Action::warning(reference(claim), "VolumeMismatch", of_claim),
    ]
}

/// Frees a volume; one that a user meant for a claim stays meant for it.
fn unbind(volume: &PersistentVolume) -> Vec<Action> {
    let patch = if annotation(&volume.metadata, BY_CONTROLLER).is_some() {
        json!({"metadata": {"annotations": {BY_CONTROLLER: null}}, "spec": {"claimRef": null}})
    } else {
        json!({"spec": {"claimRef": {"uid": null}}})
    };
    let mut actions = vec![Action::patch_unchanged(volume, patch)];
    actions.extend(phase(volume, "Available"));
    actions
}

/// Releases a volume whose claim is gone, and does what its policy says.
fn reclaim(volume: &PersistentVolume) -> Vec<Action> {
    let told = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let failed = told == Some("Failed");
    // A failure is left to be seen.
    let mut actions: Vec<Action> = phase(volume, "Released").filter(|_| !failed).into_iter().collect();
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain");
    let is_others =
        annotation(&volume.metadata, PROVISIONED_BY).is_some() || spec.is_some_and(|spec| spec.csi.is_some());
    let name = owners::name(volume);
    let (reason, text) = match policy {
        "Retain" => return actions,
        // Who made it deletes it.
        "Delete" if is_others => return actions,
        "Delete" => (
            "VolumeFailedDelete",
            format!(
                "error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched"
            ),
        ),
        "Recycle" => ("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned()),
        _ => {
            ("VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy".to_owned())
        }
    };
    if !failed {
        let told = PersistentVolumeStatus {
            phase: Some("Failed".to_owned()),
            message: Some(text.clone()),
            ..volume.status.clone().unwrap_or_default()
        };
        actions.extend(status::write(volume, volume.status.as_ref(), &told));
        actions.push(Action::warning(reference(volume), reason, text));
    }
    actions
}
