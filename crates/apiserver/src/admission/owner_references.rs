//! Who makes an object depend on another could also delete it, and who blocks the
//! deletion of an owner could also change its finalizers (upstream's
//! `OwnerReferencesPermissionEnforcement`; off unless it is asked for).

use std::sync::Arc;

use api::{Object, Status};
use futures::future::BoxFuture;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::authz::{Attributes, Authorizer};
use crate::registry::Kinds;

pub(super) struct OwnerReferences {
    authorizer: Arc<Authorizer>,
    kinds: Arc<Kinds>,
}

impl OwnerReferences {
    pub(super) const fn new(authorizer: Arc<Authorizer>, kinds: Arc<Kinds>) -> Self {
        Self { authorizer, kinds }
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Status> {
        let changes = matches!(request.operation, Operation::Create | Operation::Update);
        // The registry keeps the owners of a pod as they are when its status is written.
        let Some(new) = request.object.as_ref().filter(|_| changes && !request.is("", "pods", "status"))
        else {
            return Ok(());
        };
        let before = request.old.as_ref().map(references).unwrap_or_default();
        let after = references(new);
        if before == after {
            return Ok(());
        }
        // Who makes an object could as well not have made it.
        if request.operation == Operation::Update {
            self.may_delete(request)?;
        }
        let blocking: Vec<&Value> = after.iter().filter(|one| is_new_block(one, before)).collect();
        if blocking.is_empty() || self.may(request, finalizers("*", "*", "*", "*")).is_ok() {
            return Ok(());
        }
        blocking.into_iter().try_for_each(|reference| self.may_block(request, reference))
    }

    fn may(&self, request: &Request<'_>, ask: Attributes) -> Result<(), String> {
        self.authorizer.allows(&request.caller.user, &ask).map(drop)
    }

    fn may_delete(&self, request: &Request<'_>) -> Result<(), Status> {
        let ask = Attributes {
            verb: "delete".to_owned(),
            group: request.kind.group.clone(),
            version: request.kind.version.clone(),
            resource: request.kind.resource.clone(),
            subresource: request.subresource.to_owned(),
            namespace: request.namespace.to_owned(),
            name: request.name.to_owned(),
            ..Attributes::default()
        };
        self.may(request, ask).map_err(|why| {
            request.forbidden(&format!("cannot set an ownerRef on a resource you can't delete: {why}, <nil>"))
        })
    }

    /// Whether the caller may change the finalizers of what a reference names.
    fn may_block(&self, request: &Request<'_>, reference: &Value) -> Result<(), Status> {
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let all = self.kinds.all();
        let mut owners = all
            .iter()
            .filter(|one| {
                (one.group.as_str(), one.version.as_str(), one.kind.as_str()) == (group, version, kind)
            })
            .peekable();
        if owners.peek().is_none() {
            return Err(request.forbidden(&format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion \
                 {api_version} Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
            )));
        }
        owners.try_for_each(|owner| {
            let mut ask = finalizers(&owner.group, &owner.version, &owner.resource, text("name"));
            if owner.namespaced {
                ask.namespace = request.namespace.to_owned();
            }
            self.may(request, ask).map_err(|why| {
                request.forbidden(&format!(
                    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set \
                     finalizers on: {why}, <nil>"
                ))
            })
        })
    }
}

impl Plugin for OwnerReferences {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { self.check(request) })
    }
}

fn references(object: &Object) -> &[Value] {
    object.at(&["metadata", "ownerReferences"]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether a reference blocks its owner's deletion, and did not before.
fn is_new_block(reference: &Value, before: &[Value]) -> bool {
    let blocks = |one: &Value| one["blockOwnerDeletion"] == true;
    blocks(reference) && !before.iter().any(|old| old["uid"] == reference["uid"] && blocks(old))
}

fn finalizers(group: &str, version: &str, resource: &str, name: &str) -> Attributes {
    Attributes {
        verb: "update".to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        resource: resource.to_owned(),
        subresource: "finalizers".to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_new_blocks_are_asked_for() {
        let blocks = |uid: &str, blocks: bool| json!({"uid": uid, "blockOwnerDeletion": blocks});
        assert!(is_new_block(&blocks("a", true), &[]));
        assert!(!is_new_block(&blocks("a", false), &[]));
        assert!(!is_new_block(&blocks("a", true), &[blocks("a", true)]));
        assert!(is_new_block(&blocks("a", true), &[blocks("a", false), blocks("b", true)]));
    }
}
