//! What plugins read from the watch cache.

use std::sync::Arc;

use api::{Object, Status};

use crate::cache::WatchCache;
use crate::stored::Stored;

/// An object that may have been made a moment ago: before it counts as absent,
/// the cache catches up with the store.
pub(super) async fn find(
    cache: &WatchCache,
    (group, resource): (&str, &str),
    namespace: &str,
    name: &str,
) -> Result<Option<Arc<Stored>>, Status> {
    let all = cache.resource(group, resource);
    let found = all.get(namespace, name);
    if found.is_some() {
        return Ok(found);
    }
    cache.refreshed().await.map_err(|error| crate::registry::store_failed(&error))?;
    Ok(all.get(namespace, name))
}

/// The namespace of a request.
pub(super) async fn namespace(cache: &WatchCache, name: &str) -> Result<Arc<Stored>, Status> {
    let found = find(cache, ("", "namespaces"), "", name).await?;
    found.ok_or_else(|| Status::not_found("", "namespaces", name))
}

/// [`namespace`], decoded.
pub(super) async fn namespace_object(cache: &WatchCache, name: &str) -> Result<Object, Status> {
    namespace(cache, name).await?.object().map_err(Status::internal)
}

/// [`find`], decoded.
pub(super) async fn find_object(
    cache: &WatchCache,
    kind: (&str, &str),
    namespace: &str,
    name: &str,
) -> Result<Option<Object>, Status> {
    let found = find(cache, kind, namespace, name).await?;
    found.map(|stored| stored.object().map_err(Status::internal)).transpose()
}
