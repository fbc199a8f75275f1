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
    sort_out(owner, |object| selector.matches(&object.metadata().labels), None, candidates)
}

/// As [`claim`], for objects that a finalizer keeps: adopted ones get it, released ones lose it.
#[must_use]
pub fn claim_tracked<O, K>(
    owner: &O,
    selector: &LabelSelector,
    finalizer: &str,
    candidates: &[Arc<K>],
) -> Claimed<K>
where
    O: Resource + Metadata<Ty = ObjectMeta>,
    K: Resource + Metadata<Ty = ObjectMeta>,
{
    sort_out(owner, |object| selector.matches(&object.metadata().labels), Some(finalizer), candidates)
}

/// As [`claim`], where it takes more than labels to be selected.
#[must_use]
pub fn claim_where<O, K>(owner: &O, selects: impl Fn(&K) -> bool, candidates: &[Arc<K>]) -> Claimed<K>
where
    O: Resource + Metadata<Ty = ObjectMeta>,
    K: Resource + Metadata<Ty = ObjectMeta>,
{
    sort_out(owner, selects, None, candidates)
}

fn sort_out<O, K>(
    owner: &O,
    selects: impl Fn(&K) -> bool,
    finalizer: Option<&str>,
    candidates: &[Arc<K>],
) -> Claimed<K>
where
    O: Resource + Metadata<Ty = ObjectMeta>,
    K: Resource + Metadata<Ty = ObjectMeta>,
{
    let mut claimed = Claimed { objects: Vec::new(), actions: Vec::new() };
    let owner_ends = owner.metadata().deletion_timestamp.is_some();
    for object in candidates {
        let metadata = object.metadata();
        let selected = selects(object);
        match controller_of(metadata) {
            Some(reference) if reference.uid != uid(owner) => {}
            Some(_) if selected => claimed.objects.push(Arc::clone(object)),
            Some(_) if owner_ends => {}
            Some(_) => claimed.actions.push(without_owner(&**object, uid(owner), finalizer)),
            None if !selected || owner_ends || metadata.deletion_timestamp.is_some() => {}
            None => {
                let mut owners = metadata.owner_references.clone().unwrap_or_default();
                owners.push(controller_reference(owner));
                let mut patch = json!({"metadata": {"ownerReferences": owners}});
                if let Some(finalizer) = finalizer {
                    patch["metadata"]["finalizers"] = json!(with_finalizer(metadata, finalizer));
                }
                claimed.actions.push(Action::patch_unchanged(&**object, patch));
                claimed.objects.push(Arc::clone(object));
            }
        }
    }
    claimed
}

fn with_finalizer(metadata: &ObjectMeta, finalizer: &str) -> Vec<String> {
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|one| one == finalizer) {
        finalizers.push(finalizer.to_owned());
    }
    finalizers
}

fn without_owner<K>(object: &K, owner: &str, finalizer: Option<&str>) -> Action
where
    K: Resource + Metadata<Ty = ObjectMeta>,
{
    let metadata = object.metadata();
    let owners = metadata.owner_references.iter().flatten().filter(|reference| reference.uid != owner);
    let rest: Vec<&OwnerReference> = owners.collect();
    let mut patch = json!({"metadata": {"ownerReferences": rest}});
    if finalizer.is_some() {
        let finalizers = metadata.finalizers.iter().flatten();
        let rest: Vec<&String> = finalizers.filter(|one| Some(one.as_str()) != finalizer).collect();
        patch["metadata"]["finalizers"] = json!(rest);
    }
    Action::patch_unchanged(object, patch)
}
