//! Zones of volumes that are bound.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::PersistentVolume;

use super::uses;
use crate::events::{Event, Kinds};
use crate::objection::{Objection, Reason};
use crate::plugins::{Filter, NoArgs, Plugin, Prepared, Roles};
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot, class_of_claim};

/// Labels of volumes and nodes that say where they are; the older name of each
/// beside the one that nodes have today.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// Only nodes in the zones of the pod's volumes.
pub(in crate::plugins) struct VolumeZone;

/// A label that a node must have, with one of some values.
type Demand = (&'static str, &'static str, BTreeSet<String>);

impl Plugin for VolumeZone {
    const NAME: &'static str = "VolumeZone";
    const HEEDS: Kinds = Kinds::NODE_MADE.with(Kinds::CLAIM).with(Kinds::STORAGE);
    type Args = NoArgs;

    fn new(_: NoArgs) -> Result<Self, String> {
        Ok(Self)
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().filtering(&self)
    }

    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        match event {
            Event::Claim { key, .. } => uses(pod, key),
            Event::NodeChanged { old, new } => old.node.metadata.labels != new.node.metadata.labels,
            Event::NodeAdded(_) | Event::Storage => true,
            _ => false,
        }
    }
}

impl Filter for VolumeZone {
    type Facts = Arc<Vec<Demand>>;
    const IS_LOCAL: bool = false;
    const LOOKS_AT_PODS: bool = false;

    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Prepared<Self::Facts> {
        match demands(pod, snapshot) {
            Ok(demands) if demands.is_empty() => Prepared::Indifferent,
            Ok(demands) => Prepared::Facts(Arc::new(demands)),
            Err(text) => Prepared::Refused(Objection::lasting(Reason { text: text.into(), shortage: None })),
        }
    }

    fn check(&self, demands: &Self::Facts, node: &NodeInfo) -> Result<(), Objection> {
        // A cluster of one zone may have no labels at all.
        if !LABELS.iter().any(|(key, _)| node.label(key).is_some()) {
            return Ok(());
        }
        let fits = |(key, today, values): &Demand| {
            node.label(key).or_else(|| node.label(today)).is_some_and(|value| values.contains(value))
        };
        if demands.iter().all(fits) {
            return Ok(());
        }
        Err(Objection::lasting("node(s) had no available volume zone"))
    }
}

fn demands(pod: &PodInfo, snapshot: &Snapshot) -> Result<Vec<Demand>, String> {
    let volumes = &snapshot.volumes;
    let mut demands = Vec::new();
    for (name, _) in pod.claims().filter(|(_, is_ephemeral)| !is_ephemeral) {
        let claim = volumes.claim(&ObjectKey::new(pod.namespace(), name.as_str()));
        let claim = claim.ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))?;
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        let Some(volume) = volume.filter(|volume| !volume.is_empty()) else {
            let class = class_of_claim(claim);
            if class.is_empty() {
                return Err("PersistentVolumeClaim had no pv name and storageClass name".to_owned());
            }
            let known = volumes.class(&class);
            let known = known.ok_or_else(|| format!("storageclass.storage.k8s.io {class:?} not found"))?;
            match known.volume_binding_mode.as_deref() {
                Some("WaitForFirstConsumer") => continue,
                Some(_) => return Err("PersistentVolume had no name".to_owned()),
                None => return Err(format!("VolumeBindingMode not set for StorageClass {class:?}")),
            }
        };
        let volume =
            volumes.volume(volume).ok_or_else(|| format!("persistentvolume {volume:?} not found"))?;
        demands.extend(demands_of(volume));
    }
    Ok(demands)
}

/// Several zones of one volume are written as one label, with two underscores between.
fn demands_of(volume: &PersistentVolume) -> impl Iterator<Item = Demand> {
    LABELS.into_iter().filter_map(|(key, today)| {
        let value = volume.metadata.labels.as_ref()?.get(key)?;
        let values = value.split("__").map(|one| one.trim().to_owned()).collect();
        Some((key, today, values))
    })
}
