//! A node looks after itself and its pods, and after nothing else, whatever its
//! roles allow (upstream's `NodeRestriction`).
//!
//! Start in [`NodeRestriction::judge`], which has a line for each resource.

mod mirror_pods;
mod node_labels;
mod tokens;

use std::sync::Arc;

use api::{Object, Status};
use futures::future::BoxFuture;
use serde_json::Value;

use super::certificates::subject;
use super::reading::{find, find_object};
use super::{Operation, Plugin, Request};
use crate::authz::Authorizer;
use crate::cache::WatchCache;

const LEASES: &str = "kube-node-lease";
const KUBELET_SIGNERS: [&str; 2] =
    ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

pub(super) struct NodeRestriction {
    cache: Arc<WatchCache>,
    authorizer: Arc<Authorizer>,
}

/// Why a node may not do it.
type Judged = Result<(), String>;

impl NodeRestriction {
    pub(super) const fn new(cache: Arc<WatchCache>, authorizer: Arc<Authorizer>) -> Self {
        Self { cache, authorizer }
    }

    async fn judge(&self, request: &Request<'_>) -> Result<(), Status> {
        let Some(node) = request.caller.user.node() else { return Ok(()) };
        if node.is_empty() {
            let why = format!("could not determine node from user {:?}", request.caller.user.name);
            return Err(request.forbidden(&why));
        }
        let judged = match (request.kind.group.as_str(), request.kind.resource.as_str()) {
            ("", "pods") => self.judge_pod(node, request).await?,
            ("", "nodes") => node_itself(node, request),
            ("", "persistentvolumeclaims") => claim(node, request),
            ("", "serviceaccounts") => self.judge_token(node, request).await?,
            ("certificates.k8s.io", "podcertificaterequests") => {
                Err("PodCertificateRequest feature gate is disabled".to_owned())
            }
            ("certificates.k8s.io", "certificatesigningrequests") => signing(node, request),
            ("coordination.k8s.io", "leases") if request.namespace != LEASES => {
                Err(format!("can only access leases in the {LEASES:?} system namespace"))
            }
            ("coordination.k8s.io", "leases") => own_name(node, request, "node lease"),
            ("storage.k8s.io", "csinodes") => own_name(node, request, "CSINode"),
            ("resource.k8s.io", "resourceslices") => slice(node, request),
            _ => Ok(()),
        };
        judged.map_err(|why| request.forbidden(&why))
    }

    async fn judge_pod(&self, node: &str, request: &Request<'_>) -> Result<Judged, Status> {
        Ok(match (request.subresource, request.operation) {
            ("", Operation::Create) => {
                let uid = find(&self.cache, ("", "nodes"), "", node).await?;
                let Some(pod) = &request.object else { return Ok(Ok(())) };
                mirror_pods::judge(pod, node, uid.as_ref().map(|one| one.uid()))
            }
            ("", Operation::Delete) => is_bound(request.old.as_ref(), node).then_some(()).ok_or_else(|| {
                format!("node {node:?} can only delete pods with spec.nodeName set to itself")
            }),
            ("status", Operation::Update) => status(node, request),
            ("eviction", Operation::Create) => {
                let pod = find_object(&self.cache, ("", "pods"), request.namespace, request.name).await?;
                let pod = pod.ok_or_else(|| Status::not_found("", "pods", request.name))?;
                is_bound(Some(&pod), node).then_some(()).ok_or_else(|| {
                    format!("node {node} can only evict pods with spec.nodeName set to itself")
                })
            }
            ("", operation) => Err(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                name_of(operation)
            )),
            ("status" | "eviction", operation) => {
                Err(format!("unexpected operation {:?}", name_of(operation)))
            }
            (other, _) => {
                Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
            }
        })
    }

    async fn judge_token(&self, node: &str, request: &Request<'_>) -> Result<Judged, Status> {
        let Some(asked) = request
            .object
            .as_ref()
            .filter(|_| request.subresource == "token" && request.operation == Operation::Create)
        else {
            return Ok(Ok(()));
        };
        let name = match tokens::bound_pod(asked) {
            Ok(name) => name,
            Err(why) => return Ok(Err(why)),
        };
        let pod = find_object(&self.cache, ("", "pods"), request.namespace, name).await?;
        let pod = pod.ok_or_else(|| Status::not_found("", "pods", name))?;
        Ok(tokens::judge(asked, &pod, node).and_then(|()| {
            tokens::judge_audience(asked, &pod, &self.cache, |ask| {
                self.authorizer.allows(&request.caller.user, ask).is_ok()
            })
        }))
    }
}

impl Plugin for NodeRestriction {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { self.judge(request).await })
    }
}

const fn name_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn is_bound(pod: Option<&Object>, node: &str) -> bool {
    pod.is_some_and(|pod| pod.text(&["spec", "nodeName"]) == node)
}

/// A field of the new and of the old object; what is empty is as good as absent.
fn both<'a>(request: &'a Request<'_>, path: &[&str]) -> (Option<&'a Value>, Option<&'a Value>) {
    let is_filled = |value: &&Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    let of =
        |object: &'a Option<Object>| object.as_ref().and_then(|object| object.at(path)).filter(is_filled);
    (of(&request.object), of(&request.old))
}

fn differs(request: &Request<'_>, path: &[&str]) -> bool {
    let (new, old) = both(request, path);
    new != old
}

fn status(node: &str, request: &Request<'_>) -> Judged {
    if !is_bound(request.old.as_ref(), node) {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if differs(request, &["metadata", "labels"]) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    if differs(request, &["status", "resourceClaimStatuses"]) {
        return Err(format!("node {node:?} cannot update resource claim statues"));
    }
    if differs(request, &["status", "extendedResourceClaimStatus"]) {
        return Err(format!("node {node:?} cannot update extended resource claim status"));
    }
    Ok(())
}

fn node_itself(node: &str, request: &Request<'_>) -> Judged {
    if request.name != node {
        return Err(format!("node {node:?} is not allowed to modify node {:?}", request.name));
    }
    let (config, old_config) = both(request, &["spec", "configSource"]);
    let labels = |object: &Option<Object>| object.as_ref().and_then(|one| one.labels().cloned());
    let (new, old) = (labels(&request.object), labels(&request.old));
    match request.operation {
        Operation::Create => {
            if config.is_some() {
                return Err(format!(
                    "node {node:?} is not allowed to create pods with a non-nil configSource"
                ));
            }
            let set = node_labels::forbidden(new.as_ref(), None);
            if !set.is_empty() {
                let set = set.join(", ");
                return Err(format!("node {node:?} is not allowed to set the following labels: {set}"));
            }
        }
        Operation::Update => {
            if config.is_some() && config != old_config {
                return Err(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if differs(request, &["spec", "taints"]) {
                return Err(format!("node {node:?} is not allowed to modify taints"));
            }
            if differs(request, &["metadata", "ownerReferences"]) {
                return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            let changed = node_labels::forbidden(new.as_ref(), old.as_ref());
            if !changed.is_empty() {
                return Err(format!("is not allowed to modify labels: {}", changed.join(", ")));
            }
        }
        Operation::Delete | Operation::Connect => {}
    }
    Ok(())
}

/// Only how large a claim's volume is, and what is being done about it.
fn claim(node: &str, request: &Request<'_>) -> Judged {
    const REPORTED: [&str; 4] = ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"];
    if request.subresource != "status" {
        return Err("may only update PVC status".to_owned());
    }
    if request.operation != Operation::Update {
        return Err(format!("unexpected operation {:?}", name_of(request.operation)));
    }
    let rest = |object: &Option<Object>| {
        let mut object = object.clone().unwrap_or_default();
        for field in REPORTED {
            object.remove_at(&["status", field]);
        }
        for field in ["resourceVersion", "managedFields"] {
            object.remove_at(&["metadata", field]);
        }
        object
    };
    if rest(&request.object) == rest(&request.old) {
        return Ok(());
    }
    Err(format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
    ))
}

fn own_name(node: &str, request: &Request<'_>, what: &str) -> Judged {
    if request.name == node {
        return Ok(());
    }
    Err(format!("can only access {what} with the same name as the requesting node"))
}

fn slice(node: &str, request: &Request<'_>) -> Judged {
    let (object, verb) = match request.operation {
        Operation::Create => (&request.object, "create"),
        Operation::Delete => (&request.old, "delete"),
        Operation::Update | Operation::Connect => return Ok(()),
    };
    if is_bound(object.as_ref(), node) {
        return Ok(());
    }
    Err(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
}

fn signing(node: &str, request: &Request<'_>) -> Judged {
    let Some(asked) = request.object.as_ref().filter(|_| request.operation == Operation::Create) else {
        return Ok(());
    };
    if !KUBELET_SIGNERS.contains(&asked.text(&["spec", "signerName"])) {
        return Ok(());
    }
    let subject = subject(asked).ok_or("unable to parse csr: it is no PEM certificate request")?;
    if subject.common_name == format!("system:node:{node}") {
        return Ok(());
    }
    Err(format!("can only create a node CSR with CN=system:node:{node}"))
}

#[cfg(test)]
mod tests;
