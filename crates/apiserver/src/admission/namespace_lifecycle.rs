//! Nothing is created in a namespace that does not exist or is going away, and
//! the namespaces that the cluster cannot do without stay.

use std::sync::Arc;

use api::status::{Cause, Details};
use api::{Reason, Status};
use futures::future::BoxFuture;

use super::{Operation, Plugin, Request, reading};
use crate::cache::WatchCache;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle {
    cache: Arc<WatchCache>,
}

impl NamespaceLifecycle {
    pub(super) const fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache }
    }

    async fn check(&self, request: &Request<'_>) -> Result<(), Status> {
        let is_namespace = request.kind.group.is_empty() && request.kind.resource == "namespaces";
        if is_namespace && request.operation == Operation::Delete && IMMORTAL.contains(&request.name) {
            return Err(request.forbidden("this namespace may not be deleted"));
        }
        if is_namespace || request.operation != Operation::Create || !request.kind.namespaced {
            return Ok(());
        }
        // Reviews are answered, not stored.
        if request.kind.group == "authorization.k8s.io" {
            return Ok(());
        }
        let namespace = reading::namespace(&self.cache, request.namespace).await?;
        if namespace.field("status.phase") != Some("Terminating") {
            return Ok(());
        }
        let namespace = request.namespace;
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = request.forbidden(&why);
        let details = status.details.get_or_insert_with(|| Box::new(Details::default()));
        details.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        });
        debug_assert_eq!(status.reason, Reason::Forbidden, "clients retry on this reason");
        Err(status)
    }
}

impl Plugin for NamespaceLifecycle {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { self.check(request).await })
    }
}
