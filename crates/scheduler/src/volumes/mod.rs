//! Which volumes a pod gets on a node: the claims that are bound, those that
//! wait for the node to be chosen, and what can be found or made for them there.
//!
//! [`Wishes`] is what a pod needs, worked out once per decision; [`Wishes::plan`]
//! is pure and says what is to be done on one node. [`bind`] does it.

pub(crate) mod bind;
mod matching;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::types::storage::v1::{CSIStorageCapacity, StorageClass};

use self::matching::{allows, find, has_room, is_reachable};
use crate::objection::{Objection, Reason};
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Volumes, class_of_claim};

/// Set by the scheduler on a claim whose volume is to be made for a node.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Set on a claim when its binding is complete.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const WAITS: &str = "WaitForFirstConsumer";
/// The provisioner of classes whose volumes nobody makes.
const NOBODY: &str = "kubernetes.io/no-provisioner";

/// What a pod needs of volumes.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// The volumes of claims that are bound; `None`: the volume does not exist.
    bound: Vec<Option<Arc<PersistentVolume>>>,
    /// Claims that wait for the node to be chosen.
    waiting: Vec<Waiting>,
}

/// A claim that waits.
#[derive(Clone, Debug)]
struct Waiting {
    claim: Arc<PersistentVolumeClaim>,
    class: Arc<StorageClass>,
    volumes: Vec<Arc<PersistentVolume>>,
    /// The room that the driver tells of; `None`: it does not tell.
    capacities: Option<Vec<Arc<CSIStorageCapacity>>>,
}

/// What is to be done for the volumes of a pod.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Volumes that become those of claims.
    pub bindings: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    /// Claims for which volumes are to be made.
    pub provisions: Vec<Arc<PersistentVolumeClaim>>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }
}

impl Wishes {
    /// What a pod needs; `None`: nothing.
    ///
    /// # Errors
    /// Why the pod cannot run anywhere yet.
    pub fn of(pod: &PodInfo, volumes: &Volumes) -> Result<Option<Self>, Objection> {
        let mut wishes = Self::default();
        for (name, is_ephemeral) in pod.claims() {
            let claim = usable(pod, &name, is_ephemeral, volumes)?;
            let spec = claim.spec.clone().unwrap_or_default();
            let volume = spec.volume_name.filter(|volume| !volume.is_empty());
            if let Some(volume) = volume.as_ref().filter(|_| is_complete(claim)) {
                wishes.bound.push(volumes.volume(volume).cloned());
                continue;
            }
            let class = class_of_claim(claim);
            let waits = |class: &&Arc<StorageClass>| class.volume_binding_mode.as_deref() == Some(WAITS);
            let Some(class) = volumes.class(&class).filter(waits).filter(|_| volume.is_none()) else {
                return Err(lasting("pod has unbound immediate PersistentVolumeClaims"));
            };
            wishes.waiting.push(Waiting::new(claim, class, volumes));
        }
        let is_empty = wishes.bound.is_empty() && wishes.waiting.is_empty();
        Ok((!is_empty).then_some(wishes))
    }

    /// What is to be done for the pod on a node.
    ///
    /// # Errors
    /// Why the volumes cannot be had there.
    pub fn plan(&self, node: &NodeInfo) -> Result<Plan, Objection> {
        let mut reasons = Vec::new();
        if self.bound.iter().flatten().any(|volume| !is_reachable(volume, node)) {
            reasons.push(Reason::from("node(s) didn't match PersistentVolume's node affinity"));
        }
        let outcome = self.plan_waiting(node);
        if let Err(reason) = &outcome {
            reasons.push(Reason::from(*reason));
        }
        if self.bound.iter().any(Option::is_none) {
            reasons.push(Reason::from(
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            ));
        }
        match outcome {
            Ok(plan) if reasons.is_empty() => Ok(plan),
            _ => Err(Objection { reasons, can_be_evicted_away: false }),
        }
    }

    fn plan_waiting(&self, node: &NodeInfo) -> Result<Plan, &'static str> {
        const NOTHING_FOUND: &str = "node(s) didn't find available persistent volumes to bind";
        let mut plan = Plan::default();
        let mut to_make: Vec<&Waiting> = Vec::new();
        let mut to_find: Vec<&Waiting> = Vec::new();
        for waiting in &self.waiting {
            match annotation(&waiting.claim, SELECTED_NODE) {
                Some(selected) if *selected != *node.name => return Err(NOTHING_FOUND),
                Some(_) => to_make.push(waiting),
                None => to_find.push(waiting),
            }
        }
        to_find.sort_by_key(|waiting| matching::asked(&waiting.claim));
        for waiting in to_find {
            let is_free = |volume: &&Arc<PersistentVolume>| {
                plan.bindings.iter().all(|(taken, _)| taken.metadata.name != volume.metadata.name)
            };
            match find(&waiting.claim, waiting.volumes.iter().filter(is_free), node) {
                Some(volume) => plan.bindings.push((Arc::clone(volume), Arc::clone(&waiting.claim))),
                None => to_make.push(waiting),
            }
        }
        for waiting in to_make {
            let provisioner = waiting.class.provisioner.as_str();
            if provisioner.is_empty() || provisioner == NOBODY || !allows(&waiting.class, node) {
                return Err(NOTHING_FOUND);
            }
            let room = waiting.capacities.as_ref();
            if room.is_some_and(|room| !room.iter().any(|room| has_room(room, &waiting.claim, node))) {
                return Err("node(s) did not have enough free storage");
            }
            plan.provisions.push(Arc::clone(&waiting.claim));
        }
        Ok(plan)
    }
}

impl Waiting {
    fn new(claim: &Arc<PersistentVolumeClaim>, class: &Arc<StorageClass>, volumes: &Volumes) -> Self {
        let name = class.metadata.name.as_deref().unwrap_or_default();
        let tells = volumes.tells_capacity(&class.provisioner) && matching::asked(claim).is_some();
        Self {
            claim: Arc::clone(claim),
            class: Arc::clone(class),
            volumes: volumes.of_class(name).cloned().collect(),
            capacities: tells.then(|| volumes.capacities(name).cloned().collect()),
        }
    }
}

/// A claim that the pod can use, one day.
fn usable<'a>(
    pod: &PodInfo,
    name: &str,
    is_ephemeral: bool,
    volumes: &'a Volumes,
) -> Result<&'a Arc<PersistentVolumeClaim>, Objection> {
    let Some(claim) = volumes.claim(&ObjectKey::new(pod.namespace(), name)) else {
        return Err(lasting(if is_ephemeral {
            format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
        } else {
            format!("persistentvolumeclaim {name:?} not found")
        }));
    };
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Lost") {
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        let text =
            format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}");
        return Err(lasting(text));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(lasting(format!("persistentvolumeclaim {name:?} is being deleted")));
    }
    let owners = claim.metadata.owner_references.iter().flatten();
    let is_owner =
        |owner: &api::metav1::OwnerReference| owner.controller == Some(true) && owner.uid == pod.uid;
    if is_ephemeral && !owners.into_iter().any(is_owner) {
        let text =
            format!("PVC {}/{name} was not created for pod {} (pod is not owner)", pod.namespace(), pod.key);
        return Err(lasting(text));
    }
    Ok(claim)
}

/// Whether a claim is bound for good.
fn is_complete(claim: &PersistentVolumeClaim) -> bool {
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    volume.is_some_and(|volume| !volume.is_empty()) && annotation(claim, BIND_COMPLETED).is_some()
}

fn annotation<'a>(claim: &'a PersistentVolumeClaim, key: &str) -> Option<&'a str> {
    claim.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn lasting(text: impl Into<std::borrow::Cow<'static, str>>) -> Objection {
    Objection::lasting(Reason { text: text.into(), shortage: None })
}
