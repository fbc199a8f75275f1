//! Volumes that not everybody can use at the same time.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Pod, Volume};

use super::uses;
use crate::events::{Event, Kinds};
use crate::objection::{Objection, Reason};
use crate::plugins::{Filter, NoArgs, Plugin, Prepared, Roles, Shift};
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

/// Only nodes where nobody has a disk that the pod wants for itself, and nobody
/// anywhere has a claim that only one pod may use.
pub(in crate::plugins) struct VolumeRestrictions;

/// What the filter knows.
#[derive(Clone)]
pub(in crate::plugins) struct Facts {
    disks: Arc<Vec<Volume>>,
    /// Claims that only one pod may use.
    exclusive: Arc<BTreeSet<String>>,
    namespace: Arc<str>,
    /// How many pods have one of them.
    users: i64,
}

impl Plugin for VolumeRestrictions {
    const NAME: &'static str = "VolumeRestrictions";
    const HEEDS: Kinds = Kinds::NODE_ADDED.with(Kinds::POD_REMOVED).with(Kinds::CLAIM);
    type Args = NoArgs;

    fn new(_: NoArgs) -> Result<Self, String> {
        Ok(Self)
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().filtering(&self)
    }

    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::Claim { key, is_new } => *is_new && uses(pod, key),
            Event::PodRemoved(gone) if gone.namespace() == pod.namespace() => {
                let same = gone.claims().any(|(name, _)| pod.claims().any(|(own, _)| own == name));
                same || disks(&pod.pod).any(|disk| conflicts(disk, &gone.pod))
            }
            _ => false,
        }
    }
}

impl Filter for VolumeRestrictions {
    type Facts = Facts;
    const IS_LOCAL: bool = false;
    const LOOKS_AT_PODS: bool = true;

    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Prepared<Facts> {
        let mut exclusive = BTreeSet::new();
        for (name, _) in pod.claims().filter(|(_, is_ephemeral)| !is_ephemeral) {
            let Some(claim) = snapshot.volumes.claim(&ObjectKey::new(pod.namespace(), name.as_str())) else {
                let text = format!("persistentvolumeclaim {name:?} not found").into();
                return Prepared::Refused(Objection::lasting(Reason { text, shortage: None }));
            };
            let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
            if modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteOncePod")) {
                exclusive.insert(name);
            }
        }
        let is_used =
            |name: &&String| snapshot.volumes.is_used(&ObjectKey::new(pod.namespace(), name.as_str()));
        let users = i64::try_from(exclusive.iter().filter(is_used).count()).unwrap_or(i64::MAX);
        let disks: Vec<Volume> = disks(&pod.pod).cloned().collect();
        if disks.is_empty() && users == 0 {
            return Prepared::Indifferent;
        }
        let namespace = pod.namespace().into();
        Prepared::Facts(Facts { disks: Arc::new(disks), exclusive: Arc::new(exclusive), namespace, users })
    }

    fn check(&self, facts: &Facts, node: &NodeInfo) -> Result<(), Objection> {
        if facts.disks.iter().any(|disk| node.pods.iter().any(|pod| conflicts(disk, &pod.pod))) {
            return Err(Objection::passing("node(s) had no available disk"));
        }
        if facts.users > 0 {
            return Err(Objection::passing(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode \
                 already in-use by another pod",
            ));
        }
        Ok(())
    }

    fn shift(&self, facts: &mut Facts, shift: &Shift<'_>) {
        if shift.pod.namespace() == &*facts.namespace {
            let own = shift.pod.claims().filter(|(name, _)| facts.exclusive.contains(name)).count();
            facts.users += shift.by * i64::try_from(own).unwrap_or(i64::MAX);
        }
    }
}

/// The volumes of a pod that may conflict with those of others on the node.
fn disks(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter(|volume| {
        volume.gce_persistent_disk.is_some()
            || volume.aws_elastic_block_store.is_some()
            || volume.rbd.is_some()
            || volume.iscsi.is_some()
    })
}

/// Whether a pod has a disk that another cannot have too. Reading together is
/// possible, but for disks of AWS.
fn conflicts(disk: &Volume, pod: &Pod) -> bool {
    let both_read = |one: Option<bool>, other: Option<bool>| one == Some(true) && other == Some(true);
    disks(pod).any(|other| {
        let gce = disk.gce_persistent_disk.as_ref().zip(other.gce_persistent_disk.as_ref());
        let aws = disk.aws_elastic_block_store.as_ref().zip(other.aws_elastic_block_store.as_ref());
        let iscsi = disk.iscsi.as_ref().zip(other.iscsi.as_ref());
        let rbd = disk.rbd.as_ref().zip(other.rbd.as_ref());
        gce.is_some_and(|(a, b)| a.pd_name == b.pd_name && !both_read(a.read_only, b.read_only))
            || aws.is_some_and(|(a, b)| a.volume_id == b.volume_id)
            || iscsi.is_some_and(|(a, b)| a.iqn == b.iqn && !both_read(a.read_only, b.read_only))
            || rbd.is_some_and(|(a, b)| {
                a.monitors.iter().any(|monitor| b.monitors.contains(monitor))
                    && a.pool == b.pool
                    && a.image == b.image
                    && !both_read(a.read_only, b.read_only)
            })
    })
}
