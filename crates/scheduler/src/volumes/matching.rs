//! Which volume suits a claim on a node.

use std::sync::Arc;

use api::types::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::types::storage::v1::{CSIStorageCapacity, StorageClass};
use api::{LabelSelector, ObjectKey, Quantity};

use crate::node_selector::Terms;
use crate::snapshot::{NodeInfo, class_of_claim, class_of_volume};

/// How much a claim asks for.
pub(super) fn asked(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Quantity::try_from(requests.get("storage")?).ok()
}

/// The volume that is meant for a claim, or else the smallest that suits it.
pub(super) fn find<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl Iterator<Item = &'a Arc<PersistentVolume>>,
    node: &NodeInfo,
) -> Option<&'a Arc<PersistentVolume>> {
    let mut smallest: Option<(&Arc<PersistentVolume>, Quantity)> = None;
    for volume in volumes {
        let is_taken = has_claim(volume);
        let is_meant = is_meant_for(volume, claim);
        let size = size(volume);
        if is_taken && !is_meant || !is_like(volume, claim) || size < asked(claim).unwrap_or_default() {
            continue;
        }
        if is_meant {
            return is_reachable(volume, node).then_some(volume);
        }
        if is_free_and_wanted(volume, claim)
            && is_reachable(volume, node)
            && smallest.as_ref().is_none_or(|(_, other)| size < *other)
        {
            smallest = Some((volume, size));
        }
    }
    smallest.map(|(volume, _)| volume)
}

/// Whether a volume can be used on a node.
pub(super) fn is_reachable(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| Terms::new(required).matches(node))
}

/// Whether volumes of a class may be made for a node.
pub(super) fn allows(class: &StorageClass, node: &NodeInfo) -> bool {
    let Some(terms) = class.allowed_topologies.as_ref().filter(|terms| !terms.is_empty()) else {
        return true;
    };
    terms.iter().any(|term| {
        let mut expressions = term.match_label_expressions.iter().flatten();
        expressions.all(|one| {
            node.label(&one.key).is_some_and(|value| one.values.iter().any(|other| other == value))
        })
    })
}

/// Whether a driver has room for a claim's volume that a node can reach.
pub(super) fn has_room(room: &CSIStorageCapacity, claim: &PersistentVolumeClaim, node: &NodeInfo) -> bool {
    let limit = room.maximum_volume_size.as_ref().or(room.capacity.as_ref());
    let limit = limit.and_then(|limit| Quantity::try_from(limit).ok());
    let is_near = room.node_topology.as_ref().is_some_and(|topology| {
        LabelSelector::from_api(Some(topology)).is_ok_and(|labels| labels.matches(&node.node.metadata.labels))
    });
    is_near && limit.is_some_and(|limit| limit.units() >= asked(claim).unwrap_or_default().units())
}

fn size(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    capacity.and_then(|capacity| Quantity::try_from(capacity).ok()).unwrap_or_default()
}

fn has_claim(volume: &PersistentVolume) -> bool {
    volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some())
}

/// Whether a volume names a claim as its own.
pub(super) fn is_meant_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    let key = ObjectKey::of(claim);
    reference.name.as_deref() == Some(&key.name)
        && reference.namespace.as_deref() == Some(&key.namespace)
        && reference
            .uid
            .as_deref()
            .is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
}

/// Whether volume and claim are of one kind, and the volume stays.
fn is_like(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return false };
    fn mode(mode: &Option<String>) -> &str {
        mode.as_deref().unwrap_or("Filesystem")
    }
    fn attributes(class: &Option<String>) -> &str {
        class.as_deref().unwrap_or_default()
    }
    mode(&has.volume_mode) == mode(&wants.volume_mode)
        && attributes(&has.volume_attributes_class_name) == attributes(&wants.volume_attributes_class_name)
        && volume.metadata.deletion_timestamp.is_none()
}

fn is_free_and_wanted(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return false };
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_selected = wants.selector.as_ref().is_none_or(|selector| {
        LabelSelector::from_api(Some(selector)).is_ok_and(|labels| labels.matches(&volume.metadata.labels))
    });
    let modes = has.access_modes.clone().unwrap_or_default();
    phase == Some("Available")
        && is_selected
        && class_of_volume(volume) == class_of_claim(claim)
        && wants.access_modes.iter().flatten().all(|mode| modes.contains(mode))
}
