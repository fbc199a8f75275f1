//! How many volumes of each driver a node can have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::ObjectKey;
use api::types::storage::v1::CSINode;

use super::uses;
use crate::events::{Event, Kinds};
use crate::objection::{Objection, Reason, Shortage};
use crate::plugins::{Filter, NoArgs, Plugin, Prepared, Roles};
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot, Volumes, class_of_claim};

/// Only nodes that can have all volumes of the pod beside those they have.
pub(in crate::plugins) struct NodeVolumeLimits;

/// A volume: its driver, and the driver's name for it.
type VolumeId = (String, String);

/// What the filter knows.
#[derive(Clone)]
pub(in crate::plugins) struct Facts {
    wanted: Arc<BTreeSet<VolumeId>>,
    volumes: Arc<Volumes>,
}

impl Plugin for NodeVolumeLimits {
    const NAME: &'static str = "NodeVolumeLimits";
    const HEEDS: Kinds = Kinds::CSI_NODE
        .with(Kinds::POD_REMOVED)
        .with(Kinds::CLAIM)
        .with(Kinds::ATTACHMENT)
        .with(Kinds::NODE_ADDED);
    type Args = NoArgs;

    fn new(_: NoArgs) -> Result<Self, String> {
        Ok(Self)
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().filtering(&self)
    }

    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        match event {
            Event::CsiNode { old, new } => old.is_none_or(|old| grows(old, new)),
            Event::PodRemoved(gone) => gone.claims().next().is_some(),
            Event::Claim { key, is_new } => *is_new && uses(pod, key),
            Event::Attachment | Event::NodeAdded(_) => true,
            _ => false,
        }
    }
}

impl Filter for NodeVolumeLimits {
    type Facts = Facts;
    const IS_LOCAL: bool = false;
    const LOOKS_AT_PODS: bool = true;

    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Prepared<Facts> {
        let wanted: BTreeSet<VolumeId> = volumes_of(pod, &snapshot.volumes).collect();
        if wanted.is_empty() {
            return Prepared::Indifferent;
        }
        Prepared::Facts(Facts { wanted: Arc::new(wanted), volumes: Arc::clone(&snapshot.volumes) })
    }

    fn check(&self, facts: &Facts, node: &NodeInfo) -> Result<(), Objection> {
        let volumes = &facts.volumes;
        let limits = volumes.node(&node.name).map(limits).unwrap_or_default();
        if limits.is_empty() {
            return Ok(());
        }
        let mut there: BTreeSet<VolumeId> =
            node.pods.iter().flat_map(|pod| volumes_of(pod, volumes)).collect();
        let attached = volumes.attached(&node.name);
        there.extend(attached.filter_map(|(attacher, volume)| {
            let csi = volumes.volume(volume)?.spec.as_ref()?.csi.as_ref()?;
            Some((attacher.clone(), csi.volume_handle.clone()))
        }));
        for (driver, limit) in limits {
            let count = |volumes: &mut dyn Iterator<Item = &VolumeId>| {
                i64::try_from(volumes.filter(|(of, _)| *of == driver).count()).unwrap_or(i64::MAX)
            };
            let asked = count(&mut facts.wanted.difference(&there));
            let left = limit - count(&mut there.iter());
            if asked > 0 && asked > left {
                let shortage = Some(Shortage { of: driver.into(), asked, left });
                let text = "node(s) exceed max volume count".into();
                return Err(Objection::passing(Reason { text, shortage }));
            }
        }
        Ok(())
    }
}

/// The volumes of a pod that drivers attach; those that are not made yet go by
/// their claim.
fn volumes_of<'a>(pod: &'a PodInfo, volumes: &'a Volumes) -> impl Iterator<Item = VolumeId> + 'a {
    pod.claims().filter_map(|(name, _)| {
        let claim = volumes.claim(&ObjectKey::new(pod.namespace(), name.as_str()))?;
        let volume = claim.spec.as_ref().and_then(|spec| volumes.volume(spec.volume_name.as_deref()?));
        if let Some(volume) = volume {
            let csi = volume.spec.as_ref()?.csi.as_ref()?;
            return Some((csi.driver.clone(), csi.volume_handle.clone()));
        }
        let class = volumes.class(&class_of_claim(claim))?;
        Some((class.provisioner.clone(), format!("claim {}/{name}", pod.namespace())))
    })
}

/// How many volumes of each driver a node can have.
fn limits(node: &CSINode) -> BTreeMap<String, i64> {
    let drivers = node.spec.drivers.iter();
    drivers
        .filter_map(|driver| Some((driver.name.clone(), i64::from(driver.allocatable.as_ref()?.count?))))
        .collect()
}

fn grows(old: &CSINode, new: &CSINode) -> bool {
    let old = limits(old);
    limits(new).into_iter().any(|(driver, limit)| limit > old.get(&driver).copied().unwrap_or(0))
}
