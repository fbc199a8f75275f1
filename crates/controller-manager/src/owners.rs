//! Who controls what: owner references, adoption and release, as upstream's
//! controller reference manager decides them. Pure.

use std::sync::Arc;

use api::metav1::{ObjectMeta, OwnerReference};
use api::{LabelSelector, Metadata, Resource};
use reconcile::Action;
use reconcile::wiring::controller_of;
use serde_json::json;

/// The reference by which `owner` controls an object.
#[must_use]
pub fn controller_reference<K: Resource + Metadata<Ty = ObjectMeta>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.metadata().name.clone().unwrap_or_default(),
        uid: uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// `metadata.uid`.
#[must_use]
pub fn uid<K: Metadata<Ty = ObjectMeta>>(object: &K) -> &str {
    object.metadata().uid.as_deref().unwrap_or_default()
}

/// `metadata.name`.
#[must_use]
pub fn name<K: Metadata<Ty = ObjectMeta>>(object: &K) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}

/// `metadata.namespace`.
#[must_use]
pub fn namespace<K: Metadata<Ty = ObjectMeta>>(object: &K) -> &str {
    object.metadata().namespace.as_deref().unwrap_or_default()
}

/// Whether `object` is controlled by `owner`.
#[must_use]
pub fn is_controlled_by<K: Metadata<Ty = ObjectMeta>, O: Metadata<Ty = ObjectMeta>>(
    object: &K,
    owner: &O,
) -> bool {
    controller_of(object.metadata()).is_some_and(|reference| reference.uid == uid(owner))
}

/// The objects of a controller, and what must be written for them to be so.
pub struct Claimed<K> {
    /// Controlled, or about to be.
    pub objects: Vec<Arc<K>>,
    /// Adoptions and releases.
    pub actions: Vec<Action>,
}

/// Sorts out candidates: those that `owner` controls and selects are its own;
/// controlled but not selected ones are released; selected ones without a
/// controller are adopted, unless owner or object is being deleted.
#[must_use]
pub fn claim<O, K>(owner: &O, selector: &LabelSelector, candidates: &[Arc<K>]) -> Claimed<K>
where
    O: Resource + Metadata<Ty = ObjectMeta>,
    K: Resource + Metadata<Ty = ObjectMeta>,
{
    let mut claimed = Claimed { objects: Vec::new(), actions: Vec::new() };
    let owner_ends = owner.metadata().deletion_timestamp.is_some();
    for object in candidates {
        let metadata = object.metadata();
        let selected = selector.matches(&metadata.labels);
        match controller_of(metadata) {
            Some(reference) if reference.uid != uid(owner) => {}
            Some(_) if selected => claimed.objects.push(Arc::clone(object)),
            Some(_) if owner_ends => {}
            Some(_) => claimed.actions.push(without_owner(&**object, uid(owner))),
            None if !selected || owner_ends || metadata.deletion_timestamp.is_some() => {}
            None => {
                let mut owners = metadata.owner_references.clone().unwrap_or_default();
                owners.push(controller_reference(owner));
                let patch = json!({"metadata": {"ownerReferences": owners}});
                claimed.actions.push(Action::patch_unchanged(&**object, patch));
                claimed.objects.push(Arc::clone(object));
            }
        }
    }
    claimed
}

fn without_owner<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K, owner: &str) -> Action {
    let owners =
        object.metadata().owner_references.iter().flatten().filter(|reference| reference.uid != owner);
    let rest: Vec<&OwnerReference> = owners.collect();
    Action::patch_unchanged(object, json!({"metadata": {"ownerReferences": rest}}))
}
