//! Only a bound claim may grow, and only where its storage class can grow
//! volumes (upstream's `PersistentVolumeClaimResize`).

use std::sync::Arc;

use api::{Object, Quantity, Status};
use futures::future::BoxFuture;

use super::reading::find_object;
use super::{Operation, Plugin, Request};
use crate::cache::WatchCache;

const UNBOUND: &str = "Only bound persistent volume claims can be expanded";
const FIXED: &str = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
/// The annotation that named the class before there was a field.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct PersistentVolumeClaimResize {
    cache: Arc<WatchCache>,
}

impl PersistentVolumeClaimResize {
    pub(super) const fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache }
    }

    async fn judge(&self, request: &Request<'_>) -> Result<(), Status> {
        if !request.is("", "persistentvolumeclaims", "") || request.operation != Operation::Update {
            return Ok(());
        }
        let (Some(new), Some(old)) = (&request.object, &request.old) else { return Ok(()) };
        if size(new) <= size(old) {
            return Ok(());
        }
        let name = class(new);
        let found = match name {
            "" => None,
            name => find_object(&self.cache, ("storage.k8s.io", "storageclasses"), "", name).await?,
        };
        may_grow(new, old, found.as_ref()).map_err(|why| request.forbidden(why))
    }
}

impl Plugin for PersistentVolumeClaimResize {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { self.judge(request).await })
    }
}

fn size(claim: &Object) -> Quantity {
    claim.text(&["spec", "resources", "requests", "storage"]).parse().unwrap_or(Quantity::ZERO)
}

fn class(claim: &Object) -> &str {
    claim.annotation(BETA_CLASS).unwrap_or_else(|| claim.text(&["spec", "storageClassName"]))
}

/// Whether a claim may become larger; `found` is the storage class that it names.
fn may_grow(new: &Object, old: &Object, found: Option<&Object>) -> Result<(), &'static str> {
    if old.text(&["status", "phase"]) != "Bound" {
        return Err(UNBOUND);
    }
    let grows = found.and_then(|found| found.get("allowVolumeExpansion")) == Some(&true.into());
    if !grows || class(new).is_empty() || class(new) != class(old) { Err(FIXED) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn growing_needs_a_bound_claim_and_a_class_that_grows() {
        let object = |value: Value| Object::from_value(value).expect("an object");
        let claim = |class: &str, phase: &str| {
            object(json!({"spec": {"storageClassName": class}, "status": {"phase": phase}}))
        };
        let class = |grows: bool| object(json!({"allowVolumeExpansion": grows}));
        let table = [
            (claim("a", "Bound"), claim("a", "Bound"), Some(class(true)), Ok(())),
            (claim("a", "Pending"), claim("a", "Pending"), Some(class(true)), Err(UNBOUND)),
            (claim("a", "Bound"), claim("a", "Bound"), Some(class(false)), Err(FIXED)),
            (claim("a", "Bound"), claim("a", "Bound"), None, Err(FIXED)),
            (claim("b", "Bound"), claim("a", "Bound"), Some(class(true)), Err(FIXED)),
            (claim("", "Bound"), claim("", "Bound"), None, Err(FIXED)),
        ];
        for (new, old, found, expected) in table {
            assert_eq!(may_grow(&new, &old, found.as_ref()), expected, "{new:?}");
        }
    }
}
