//! What a stateful set's pods store on: the claims made from its templates, and
//! who owns them, which decides when the garbage collector takes them.

use api::Metadata;
use api::Resource;
use api::metav1::{ObjectMeta, OwnerReference};
use api::types::apps::v1::StatefulSet;
use api::types::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};

use super::identity;
use crate::owners;

/// The templates of claims.
pub(super) fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// The names of a template's claims, but for the ordinal.
pub(super) fn prefix(set: &StatefulSet, template: &PersistentVolumeClaim) -> String {
    format!("{}-{}", owners::name(template), owners::name(set))
}

/// The name of a template's claim for the pod with an ordinal.
pub(super) fn name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{ordinal}", prefix(set, template))
}

/// A template's claim for the pod with an ordinal.
pub(super) fn claim(
    set: &StatefulSet,
    template: &PersistentVolumeClaim,
    ordinal: i32,
) -> PersistentVolumeClaim {
    let mut claim = template.clone();
    claim.metadata.name = Some(name(set, template, ordinal));
    claim.metadata.namespace.clone_from(&set.metadata.namespace);
    let selected = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone());
    claim.metadata.labels.get_or_insert_default().extend(selected.unwrap_or_default());
    claim
}

/// A pod's volumes with those of its claims, which take the place of others of
/// the same names.
pub(super) fn volumes(set: &StatefulSet, present: &[Volume], ordinal: i32) -> Vec<Volume> {
    let claimed = templates(set).iter().map(|template| Volume {
        name: owners::name(template).to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: name(set, template, ordinal),
            read_only: None,
        }),
        ..Volume::default()
    });
    let is_claimed = |volume: &&Volume| templates(set).iter().any(|one| owners::name(one) == volume.name);
    claimed.chain(present.iter().filter(|volume| !is_claimed(volume)).cloned()).collect()
}

/// Whether volumes are those of the claims.
pub(super) fn are_mounted(set: &StatefulSet, volumes: &[Volume], ordinal: i32) -> bool {
    templates(set).iter().all(|template| {
        let volume = volumes.iter().find(|volume| volume.name == owners::name(template));
        let source = volume.and_then(|volume| volume.persistent_volume_claim.as_ref());
        source.is_some_and(|source| source.claim_name == name(set, template, ordinal))
    })
}

/// Whether claims go when a set is deleted, and when it is scaled down.
fn goes(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
    policy.map_or((false, false), |policy| {
        (deletes(policy.when_deleted.as_ref()), deletes(policy.when_scaled.as_ref()))
    })
}

/// Whether a reference names an object, of whatever uid.
fn names<K: Resource + Metadata<Ty = ObjectMeta>>(reference: &OwnerReference, name: &str) -> bool {
    reference.api_version == K::API_VERSION && reference.kind == K::KIND && reference.name == name
}

/// Whether a claim still belongs to an earlier pod of the same name, so that a
/// new one must wait until the garbage collector has taken it.
pub(super) fn is_stale(set: &StatefulSet, claim: &PersistentVolumeClaim, pod: &str) -> bool {
    let (_, when_scaled) = goes(set);
    let references = claim.metadata.owner_references.iter().flatten();
    when_scaled && references.into_iter().any(|reference| names::<Pod>(reference, pod))
}

/// The parties of a claim.
pub(super) struct Parties<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) pod: &'a Pod,
    pub(super) ordinal: i32,
}

impl Parties<'_> {
    fn is_set(&self, reference: &OwnerReference) -> bool {
        names::<StatefulSet>(reference, owners::name(self.set))
    }

    fn is_pod(&self, reference: &OwnerReference) -> bool {
        names::<Pod>(reference, owners::name(self.pod))
    }

    /// Whether a reference is to an earlier set or pod of the same name.
    fn is_outdated(&self, reference: &OwnerReference) -> bool {
        (self.is_set(reference) && reference.uid != owners::uid(self.set))
            || (self.is_pod(reference) && reference.uid != owners::uid(self.pod))
    }

    /// Whether somebody else controls a claim that the set's policy would take.
    pub(super) fn are_disputed(&self, claim: &PersistentVolumeClaim) -> bool {
        let (when_deleted, when_scaled) = goes(self.set);
        let mut references = claim.metadata.owner_references.iter().flatten();
        (when_deleted || when_scaled)
            && references.any(|one| {
                let is_ours = self.is_set(one) || self.is_pod(one);
                self.is_outdated(one) || (!is_ours && one.controller == Some(true))
            })
    }

    /// The owners that a claim should have instead; `None` where it has the right ones, or is none
    /// of ours to touch.
    pub(super) fn owners_for(&self, claim: &PersistentVolumeClaim) -> Option<Vec<OwnerReference>> {
        let present = claim.metadata.owner_references.clone().unwrap_or_default();
        if present.iter().any(|reference| self.is_outdated(reference)) {
            return None;
        }
        let mut wanted: Vec<OwnerReference> =
            present.iter().filter(|one| !self.is_set(one) && !self.is_pod(one)).cloned().collect();
        if !self.are_disputed(claim) {
            wanted.extend(self.owner());
        }
        let same = present.len() == wanted.len()
            && wanted.iter().all(|one| {
                present.iter().any(|other| (&other.uid, other.controller) == (&one.uid, one.controller))
            });
        (!same).then_some(wanted)
    }

    /// With whom a claim is to go: a pod that is scaled away, or the set.
    fn owner(&self) -> Option<OwnerReference> {
        let (when_deleted, when_scaled) = goes(self.set);
        let scaled_away = !identity::ordinals(self.set).contains(&self.ordinal);
        if when_scaled && scaled_away {
            return Some(owners::controller_reference(self.pod));
        }
        when_deleted.then(|| owners::controller_reference(self.set))
    }
}
