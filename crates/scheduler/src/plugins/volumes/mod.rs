//! Volumes: where they are, who else uses them, and how many a node can have.

pub(super) mod binding;
pub(super) mod limits;
pub(super) mod restrictions;
#[cfg(test)]
mod tests;
pub(super) mod zone;

use api::ObjectKey;

use crate::pod::PodInfo;

/// Whether a pod uses a claim.
fn uses(pod: &PodInfo, key: &ObjectKey) -> bool {
    pod.namespace() == key.namespace && pod.claims().any(|(name, _)| name == key.name)
}
