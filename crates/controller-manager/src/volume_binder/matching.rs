//! Which volume a claim gets (upstream: `FindMatchingVolume`).

use std::sync::Arc;

use api::metav1::ObjectMeta;
use api::types::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::types::storage::v1::StorageClass;
use api::{LabelSelector, ObjectKey, Quantity};

use crate::owners;

/// The old annotation for storage classes.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// An annotation.
pub(super) fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The claim that a volume refers to.
pub(super) fn claim_key(volume: &PersistentVolume) -> Option<ObjectKey> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let text = |part: Option<&String>| part.cloned().unwrap_or_default();
    Some(ObjectKey::new(text(reference.namespace.as_ref()), text(reference.name.as_ref())))
}

/// The storage class of a claim; empty where it names none.
pub(super) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&claim.metadata, BETA_CLASS).or(spec).unwrap_or_default()
}

/// Whether a claim leaves its storage class open.
pub(super) fn leaves_class_open(claim: &PersistentVolumeClaim) -> bool {
    let spec = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    spec.is_none() && annotation(&claim.metadata, BETA_CLASS).is_none()
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&volume.metadata, BETA_CLASS).or(spec).unwrap_or_default()
}

/// The class of claims that name none: the newest of those that say so.
pub(super) fn default_class(classes: &[Arc<StorageClass>]) -> Option<Arc<StorageClass>> {
    let is_default = |class: &&Arc<StorageClass>| {
        DEFAULT.iter().any(|name| annotation(&class.metadata, name) == Some("true"))
    };
    let created = |class: &StorageClass| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let order =
        |class: &&Arc<StorageClass>| (created(class), std::cmp::Reverse(owners::name(&***class).to_owned()));
    classes.iter().filter(is_default).max_by_key(order).cloned()
}

/// Whether a volume refers to a claim: by name, and by uid where it has one.
pub(super) fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let uid = reference.and_then(|reference| reference.uid.as_deref()).unwrap_or_default();
    claim_key(volume).is_some_and(|key| key == ObjectKey::of(claim))
        && (uid.is_empty() || uid == owners::uid(claim))
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    capacity.and_then(|one| Quantity::try_from(one).ok()).unwrap_or(Quantity::from_units(0))
}

fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let storage = requests.and_then(|requests| requests.get("storage"));
    storage.and_then(|one| Quantity::try_from(one).ok()).unwrap_or(Quantity::from_units(0))
}

/// Whether one is a file system and the other a device.
pub(super) fn modes_differ(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let of_claim = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    let of_volume = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    of_claim.unwrap_or("Filesystem") != of_volume.unwrap_or("Filesystem")
}

fn modes(volume: &PersistentVolume) -> &[String] {
    volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

fn offers_access(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    wanted.iter().all(|mode| modes(volume).contains(mode))
}

fn same_attributes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let of_claim = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let of_volume = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    of_claim.unwrap_or_default() == of_volume.unwrap_or_default()
}

/// Why a volume that a claim asks for by name does not do.
pub(super) fn objection(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let name = owners::name(volume);
    if volume.metadata.deletion_timestamp.is_some() {
        return Some(format!("the volume is marked for deletion {name:?}"));
    }
    let table = [
        (capacity(volume) < requested(claim), "requested PV is too small"),
        (class_of_volume(volume) != class_of_claim(claim), "storageClassName does not match"),
        (!same_attributes(volume, claim), "volumeAttributesClassName does not match"),
        (modes_differ(volume, claim), "incompatible volumeMode"),
        (!offers_access(volume, claim), "incompatible accessMode"),
    ];
    table.into_iter().find(|(fails, _)| *fails).map(|(_, why)| why.to_owned())
}

/// The volume for a claim that names none: one that is meant for it, else the
/// smallest that does, of those with the fewest access modes beyond the wanted.
/// With `only_meant`, the scheduler chooses among the others.
pub(super) fn find<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    only_meant: bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = match selector {
        Some(selector) => LabelSelector::from_api(Some(selector)).ok()?,
        None => LabelSelector::everything(),
    };
    let fits = |volume: &&Arc<PersistentVolume>| {
        capacity(volume) >= requested(claim)
            && !modes_differ(volume, claim)
            && same_attributes(volume, claim)
            && volume.metadata.deletion_timestamp.is_none()
            && offers_access(volume, claim)
    };
    let fitting: Vec<&Arc<PersistentVolume>> = volumes.iter().filter(fits).collect();
    if let Some(meant) = fitting.iter().find(|volume| is_bound_to(volume, claim)) {
        return Some(meant);
    }
    let is_free = |volume: &&&Arc<PersistentVolume>| {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        claim_key(volume).is_none()
            && phase == Some("Available")
            && selector.matches(&volume.metadata.labels)
            && class_of_volume(volume) == class_of_claim(claim)
    };
    let order = |volume: &&&Arc<PersistentVolume>| {
        (modes(volume).len(), capacity(volume), owners::name(&****volume).to_owned())
    };
    fitting.iter().filter(|_| !only_meant).filter(is_free).min_by_key(order).copied()
}
