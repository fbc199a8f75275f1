//! A watch in the rhythm in which a client gets it: what happens close together
//! goes together, bookmarks come in between, and it ends in time.

use std::time::Duration;

use api::Status;
use daemon::Shutdown;
use tokio::time::Instant;

use super::{Watch, WatchBatch};

/// Time between bookmarks.
const BOOKMARK: Duration = Duration::from_secs(60);
/// A watcher gets changes at most this often; what comes between goes together.
const GATHER: Duration = Duration::from_millis(5);

/// A watch and its clockwork.
pub struct PacedWatch {
    watch: Watch,
    bookmarks: bool,
    ends: Option<Instant>,
    next_bookmark: Instant,
    /// When the last changes went out.
    delivered: Option<Instant>,
    shutdown: Shutdown,
}

/// What a client gets next.
#[derive(Debug)]
pub enum Beat {
    /// Changes, and perhaps the end of the initial state.
    Changes(WatchBatch),
    /// Nothing relevant happened up to this revision.
    Bookmark(u64),
}

impl PacedWatch {
    /// Paces a watch. Without a lifetime it ends only with the server.
    #[must_use]
    pub fn new(watch: Watch, bookmarks: bool, lifetime: Option<Duration>, shutdown: Shutdown) -> Self {
        let now = Instant::now();
        let ends = lifetime.map(|lifetime| now + lifetime);
        Self { watch, bookmarks, ends, next_bookmark: now + BOOKMARK, delivered: None, shutdown }
    }

    /// Waits for what comes next; `None` at the end.
    ///
    /// # Errors
    /// The watcher is too far behind: it has to list again.
    pub async fn next(&mut self) -> Option<Result<Beat, Status>> {
        if let Some(at) = self.delivered {
            tokio::time::sleep_until(at + GATHER).await;
        }
        loop {
            let until = self.ends.map_or(self.next_bookmark, |ends| ends.min(self.next_bookmark));
            tokio::select! {
                batch = self.watch.next() => {
                    self.delivered = Some(Instant::now());
                    match batch {
                        Ok(batch) if batch.items.is_empty() && !batch.initial_end => {}
                        batch => return Some(batch.map(Beat::Changes)),
                    }
                }
                () = self.shutdown.begun() => return None,
                () = tokio::time::sleep_until(until) => {
                    let now = Instant::now();
                    if self.ends.is_some_and(|ends| now >= ends) {
                        return None;
                    }
                    self.next_bookmark = now + BOOKMARK;
                    if self.bookmarks {
                        return Some(Ok(Beat::Bookmark(self.watch.progress())));
                    }
                }
            }
        }
    }
}
