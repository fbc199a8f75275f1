//! Finalizers that keep an object for as long as it is used: the part that the
//! protections of volumes, claims and classes of attributes have in common.

use api::metav1::ObjectMeta;
use api::openapi::{Metadata, Resource};
use reconcile::{Action, Plan};
use serde_json::json;

/// Lets a deleted object go when nobody uses it, once `certain` holds on the
/// server too; gives the finalizer to one that was made without it.
pub(crate) fn settle<K>(object: &K, finalizer: &str, is_used: bool, certain: Option<Action>) -> Plan
where
    K: Resource + Metadata<Ty = ObjectMeta>,
{
    let metadata = object.metadata();
    let held = metadata.finalizers.clone().unwrap_or_default();
    let is_held = held.iter().any(|one| one == finalizer);
    let finalizers: Vec<String> = match (metadata.deletion_timestamp.is_some(), is_held) {
        (true, true) if !is_used => held.into_iter().filter(|one| one != finalizer).collect(),
        (false, false) => held.into_iter().chain([finalizer.to_owned()]).collect(),
        _ => return Plan::default(),
    };
    let write = Action::patch_unchanged(object, json!({"metadata": {"finalizers": finalizers}}));
    let certain = certain.filter(|_| is_held);
    Plan::of(certain.into_iter().chain([write]).collect())
}
