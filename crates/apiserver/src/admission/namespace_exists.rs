//! Nothing is written, or deleted, in a namespace that does not exist (upstream's
//! `NamespaceExists`; off unless it is asked for, and wider than
//! `NamespaceLifecycle` only in that it looks at updates and deletes too).

use std::sync::Arc;

use api::Status;
use futures::future::BoxFuture;

use super::{Operation, Plugin, Request, reading};
use crate::cache::WatchCache;

pub(super) struct NamespaceExists(Arc<WatchCache>);

impl NamespaceExists {
    pub(super) const fn new(cache: Arc<WatchCache>) -> Self {
        Self(cache)
    }
}

impl Plugin for NamespaceExists {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let name = request.namespace;
            if request.operation == Operation::Connect
                || name.is_empty()
                || request.kind.resource == "namespaces"
            {
                return Ok(());
            }
            reading::namespace(&self.0, name).await.map(drop)
        })
    }
}
