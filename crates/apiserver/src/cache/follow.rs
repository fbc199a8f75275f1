//! Fills the watch cache from the store and keeps it up with the store's log.

use std::sync::Arc;
use std::time::Duration;

use daemon::{Shutdown, tasks};
use futures::StreamExt as _;
use store::{EventKind, RangeRequest, Store, StoreError, WatchBatch, WatchRequest};

use super::{ROOT, WatchCache, split};
use crate::stored::Stored;

/// Revisions of the past that are read back at start, so that watchers of an
/// earlier life of this server can resume.
const REPLAYED: u64 = 8_192;
/// Keys read at once while loading.
const PAGE: usize = 4_096;

/// Loads the cache and follows the store until shutdown.
///
/// # Errors
/// The store cannot be read.
pub async fn start(store: Arc<dyn Store>, shutdown: Shutdown) -> Result<Arc<WatchCache>, StoreError> {
    let now = store.read_revision().await?;
    let from = now.saturating_sub(REPLAYED).max(store.compacted_revision()).max(1);
    let cache = Arc::new(WatchCache::new(Arc::clone(&store)));
    cache.revision.send_replace(from);
    load(&cache, from).await?;
    let follower = Arc::clone(&cache);
    tasks::spawn("watch-cache", async move {
        tokio::select! {
            () = shutdown.begun() => {}
            () = follow(&follower) => {}
        }
    });
    cache.reached(now).await;
    Ok(cache)
}

async fn load(cache: &WatchCache, revision: u64) -> Result<(), StoreError> {
    let mut request = RangeRequest::prefix(ROOT);
    request.limit = PAGE;
    request.revision = revision;
    loop {
        let page = cache.store.range(request.clone()).await?;
        let Some(last) = page.kvs.last() else { return Ok(()) };
        let mut after = last.key.to_vec();
        after.push(0);
        request.start = after.into();
        for kv in &page.kvs {
            let Some((prefix, rest)) = std::str::from_utf8(&kv.key).ok().and_then(split) else { continue };
            match Stored::read(&kv.key, &kv.value, kv.mod_revision) {
                Ok(object) => cache.by_prefix(prefix).load(rest, object),
                Err(error) => tracing::error!(%error, "an object is left out"),
            }
        }
        if !page.more {
            return Ok(());
        }
    }
}

async fn follow(cache: &WatchCache) {
    loop {
        let request = WatchRequest::prefix(ROOT, cache.revision() + 1);
        match cache.store.watch(request).await {
            Ok(mut batches) => {
                while let Some(batch) = batches.next().await {
                    match batch {
                        Ok(batch) => apply(cache, &batch),
                        Err(error) => {
                            tracing::error!(%error, "the store's log broke off");
                            break;
                        }
                    }
                }
            }
            Err(StoreError::Closed) => return,
            Err(error) => tracing::error!(%error, "cannot follow the store's log"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn apply(cache: &WatchCache, batch: &WatchBatch) {
    let mut touched: Vec<(Arc<super::Resource>, u64)> = Vec::new();
    for event in &batch.events {
        let Some((prefix, rest)) = std::str::from_utf8(&event.kv.key).ok().and_then(split) else { continue };
        let resource = cache.by_prefix(prefix);
        let revision = event.kv.mod_revision;
        match event.kind {
            EventKind::Delete => resource.delete(rest, revision),
            EventKind::Put => match Stored::read(&event.kv.key, &event.kv.value, revision) {
                Ok(object) => resource.put(rest, object),
                Err(error) => {
                    tracing::error!(%error, "a change is left out");
                    continue;
                }
            },
        }
        match touched.iter_mut().find(|(one, _)| Arc::ptr_eq(one, &resource)) {
            Some((_, last)) => *last = revision,
            None => touched.push((resource, revision)),
        }
    }
    // First the revision, then the wake-ups: who wakes finds the cache complete.
    cache.revision.send_if_modified(|now| {
        let newer = batch.revision > *now;
        *now = batch.revision.max(*now);
        newer
    });
    for (resource, revision) in touched {
        resource.notify(revision);
    }
}
