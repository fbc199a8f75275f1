//! Watching: a stream that is pulled by its reader and holds no queue.
//!
//! A watcher is a position in history. When its reader asks, it takes the next changes from the
//! memory that all watchers share, or, if the reader fell behind that, from disk; when it is at
//! the end it sleeps until the next revision. So a slow reader costs nothing and loses nothing,
//! until compaction overtakes it.

use crate::apply::Shared;
use crate::{StoreError, WatchBatch, WatchRequest, WatchStream};
use futures::{StreamExt, stream};
use std::sync::{Arc, Weak};
use tokio::sync::watch;

struct Watcher {
    shared: Weak<Shared>,
    newest: watch::Receiver<u64>,
    request: WatchRequest,
    /// The next revision to deliver.
    next: u64,
}

/// Streams changes from `next` on.
pub(crate) fn watch(shared: &Arc<Shared>, request: WatchRequest, next: u64) -> WatchStream {
    let newest = shared.mvcc.subscribe();
    let watcher = Watcher { shared: Arc::downgrade(shared), newest, request, next };
    let batches = stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next_batch().await {
            Ok(batch) => Some((Ok(batch), Some(watcher))),
            Err(error) => Some((Err(error), None)),
        }
    });
    WatchStream::new(batches.boxed())
}

impl Watcher {
    async fn next_batch(&mut self) -> Result<WatchBatch, StoreError> {
        while *self.newest.borrow_and_update() < self.next {
            self.newest.changed().await.map_err(|_| StoreError::Closed)?;
        }
        let shared = self.shared.upgrade().ok_or(StoreError::Closed)?;
        let events = if shared.mvcc.is_recent(self.next) && !self.request.previous {
            read(&shared, &self.request, self.next)?
        } else {
            let (request, next) = (self.request.clone(), self.next);
            tokio::task::spawn_blocking(move || read(&shared, &request, next))
                .await
                .map_err(|_| StoreError::Closed)??
        };
        self.next = events.revision + 1;
        Ok(WatchBatch { events: events.events, revision: events.revision })
    }
}

fn read(shared: &Shared, request: &WatchRequest, next: u64) -> Result<crate::mvcc::Events, StoreError> {
    shared.mvcc.events(&request.start, &request.end, next, request.previous)
}
