//! Carries a plan for volumes out: says on volumes and claims what was decided,
//! and waits until others have done their part.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use api::ObjectKey;
use api::types::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use client::Client;
use tokio::time::Instant;

use super::{Plan, SELECTED_NODE, annotation, is_complete, matching};
use crate::snapshot::Volumes;

/// Set on a volume whose claim was found for it, not by people.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Time between looks at claims.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A plan as objects to write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes {
    volumes: Vec<Arc<PersistentVolume>>,
    claims: Vec<Arc<PersistentVolumeClaim>>,
    /// Claims that must become bound.
    awaited: Vec<ObjectKey>,
    node: String,
}

impl Writes {
    /// What is to be written for a plan on a node.
    pub(crate) fn new(plan: &Plan, node: &str) -> Self {
        let awaited = plan.bindings.iter().map(|(_, claim)| claim).chain(&plan.provisions);
        Self {
            awaited: awaited.map(|claim| ObjectKey::of(&**claim)).collect(),
            volumes: plan.bindings.iter().map(|(volume, claim)| Arc::new(claimed(volume, claim))).collect(),
            claims: plan.provisions.iter().map(|claim| Arc::new(selected(claim, node))).collect(),
            node: node.to_owned(),
        }
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Makes the decision count for the next ones.
    pub(crate) fn assume(&self, volumes: &mut Volumes) {
        for volume in &self.volumes {
            volumes.assume_volume(Arc::clone(volume));
        }
        for claim in &self.claims {
            volumes.assume_claim(Arc::clone(claim));
        }
    }

    /// Takes the decision back.
    pub(crate) fn forget(&self, volumes: &mut Volumes) {
        for volume in &self.volumes {
            volumes.forget_volume(volume.metadata.name.as_deref().unwrap_or_default());
        }
        for claim in &self.claims {
            volumes.forget_claim(&ObjectKey::of(&**claim));
        }
    }

    /// Writes, and waits until all claims are bound.
    ///
    /// # Errors
    /// A write was refused, volumes could not be made, or it took too long.
    pub(crate) async fn carry_out(&self, client: &Client, patience: Duration) -> anyhow::Result<()> {
        for volume in &self.volumes {
            client.update(&**volume).await.context("bind a persistent volume")?;
        }
        for claim in &self.claims {
            client.update(&**claim).await.context("select a node for a persistent volume claim")?;
        }
        let deadline = Instant::now() + patience;
        for key in &self.awaited {
            while !self.is_bound(client, key).await? {
                ensure!(Instant::now() < deadline, "binding volumes: context deadline exceeded");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    async fn is_bound(&self, client: &Client, key: &ObjectKey) -> anyhow::Result<bool> {
        let claim = client.get::<PersistentVolumeClaim>(&key.namespace, &key.name).await;
        let claim = claim.context("look at a persistent volume claim")?;
        let is_to_be_made = self.claims.iter().any(|one| ObjectKey::of(&**one) == *key);
        // Whoever cannot make the volume takes the node away again.
        if is_to_be_made && annotation(&claim, SELECTED_NODE) != Some(&self.node) {
            bail!("provisioning failed for PVC {:?}", key.name);
        }
        Ok(is_complete(&claim))
    }
}

/// A volume that names a claim as its own.
fn claimed(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolume {
    let mut volume = volume.clone();
    let was_meant = matching::is_meant_for(&volume, claim);
    volume.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        field_path: None,
    });
    if !was_meant {
        let annotations = volume.metadata.annotations.get_or_insert_default();
        annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    volume
}

/// A claim whose volume is to be made for a node.
fn selected(claim: &PersistentVolumeClaim, node: &str) -> PersistentVolumeClaim {
    let mut claim = claim.clone();
    let annotations = claim.metadata.annotations.get_or_insert_default();
    annotations.insert(SELECTED_NODE.to_owned(), node.to_owned());
    claim
}
