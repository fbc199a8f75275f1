//! Brings changes into the engine, behind the answers: the only writer of the engine.
//!
//! In every batch goes the raft index that it leads to. From time to time it makes the engine
//! durable (a checkpoint), which allows the raft log to be cut; between batches it removes what
//! compaction has given up, and takes the snapshots that lagging members need.

use crate::StoreError;
use crate::engine::{Batch, Engine};
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::mvcc::{Change, Changes, META_KEY, Meta, PendingIndex, Pointer};
use crate::snapshot;
use crate::status::Status;
use daemon::Clock;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::Shared;

/// The most that one engine batch takes.
const MOST_BATCH: usize = 4 << 20;
/// How long changes may gather before they are written, so that many go in one batch ...
const GATHER: Duration = Duration::from_millis(20);
/// ... unless this much has gathered.
const GATHERED: usize = 1 << 20;
/// The least time between two index files: each is a burst of writing.
const INDEX_PAUSE: Duration = Duration::from_secs(15);
/// How many records one step of the clean-up looks at.
const SCRUB_STEP: usize = 512;

/// One change for the engine.
#[derive(Debug)]
pub(crate) enum Saved {
    /// The changes of one revision.
    Changes(Changes),
    /// Another record.
    Put(Vec<u8>, Vec<u8>),
    /// Another record is gone.
    Delete(Vec<u8>),
}

/// What one entry changed, and where it leads.
#[derive(Debug)]
pub(crate) struct SaveBatch {
    saved: Vec<Saved>,
    meta: Meta,
}

impl SaveBatch {
    pub(crate) fn new(saved: Vec<Saved>, meta: Meta) -> Self {
        Self { saved, meta }
    }

    /// The bytes that wait with it, roughly.
    pub(crate) fn weight(&self) -> usize {
        let changes = self.saved.iter().map(|saved| match saved {
            Saved::Changes(changes) => changes.iter().map(Change::weight).sum::<usize>(),
            Saved::Put(key, value) => key.len() + value.len(),
            Saved::Delete(key) => key.len(),
        });
        64 + changes.sum::<usize>()
    }
}

/// The clean-up after a compaction: from where on, and up to which revision.
#[derive(Clone, Copy, Debug)]
struct Scrub {
    next: Pointer,
    to: u64,
}

/// What the saver works on, in this order.
#[derive(Debug)]
pub(crate) enum Save {
    /// Write this.
    Batch(SaveBatch),
    /// Read everything, for a member that lags.
    Snapshot { done: mpsc::Sender<snapshot::Dumped> },
    /// Replace everything with the snapshot in this file.
    Restore { file: PathBuf, done: mpsc::Sender<Result<Meta, StoreError>> },
}

/// The saver thread's own.
pub(crate) struct Saver {
    pub(crate) engine: Engine,
    pub(crate) inbox: Arc<Inbox<Save>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) status: Arc<Status>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) checkpoint_interval: Duration,
    /// Where the engine stands.
    pub(crate) meta: Meta,
    pub(crate) file: PathBuf,
    pub(crate) index_file: PathBuf,
    /// Up to where the index file of this run is complete.
    pub(crate) index_complete: u64,
    /// One that waits until the engine has caught up with it.
    pub(crate) pending_index: Option<PendingIndex>,
    pub(crate) last_index: Instant,
}

impl Saver {
    /// Works until the inbox is closed and empty; then makes a last checkpoint.
    pub(crate) fn run(mut self) -> Result<(), StoreError> {
        let result = self.work_until_closed();
        self.inbox.close();
        result
    }

    fn work_until_closed(&mut self) -> Result<(), StoreError> {
        let mut items = Vec::new();
        let mut last_checkpoint = self.clock.monotonic();
        let mut scrub = self.next_scrub();
        let mut is_dirty = false;
        loop {
            let timeout = if scrub.is_some() {
                Some(Duration::ZERO)
            } else if is_dirty {
                Some(self.until_checkpoint(last_checkpoint))
            } else {
                None
            };
            if scrub.is_none() && timeout.is_none_or(|timeout| timeout > GATHER) {
                self.inbox.gather(timeout, GATHER, GATHERED);
            }
            if !self.inbox.take(&mut items, timeout) {
                break;
            }
            is_dirty |= !items.is_empty();
            self.work(&mut items)?;
            scrub = match scrub.or_else(|| self.next_scrub()) {
                Some(from) => self.scrub_step(from)?,
                None => None,
            };
            if is_dirty && self.until_checkpoint(last_checkpoint).is_zero() {
                self.checkpoint()?;
                self.keep_index();
                last_checkpoint = self.clock.monotonic();
                is_dirty = false;
            }
        }
        self.checkpoint()?;
        if self.index_complete != self.meta.revision {
            let written = self.shared.mvcc.write_index(&self.index_file);
            warn_of_index(written.and_then(PendingIndex::publish));
        }
        Ok(())
    }

    /// Writes the index when a start would have to read much without it.
    fn keep_index(&mut self) {
        if let Some(pending) = self.pending_index.take() {
            if pending.newest <= self.meta.revision {
                self.index_complete = pending.complete;
                warn_of_index(pending.publish());
            } else {
                self.pending_index = Some(pending);
            }
            return;
        }
        let now = self.clock.monotonic();
        let is_due =
            now - self.last_index >= INDEX_PAUSE && self.shared.mvcc.is_index_due(self.index_complete);
        if is_due {
            self.last_index = now;
            match self.shared.mvcc.write_index(&self.index_file) {
                Ok(pending) => self.pending_index = Some(pending),
                Err(error) => warn_of_index(Err(error)),
            }
        }
    }

    fn until_checkpoint(&self, last: Instant) -> Duration {
        self.checkpoint_interval.saturating_sub(self.clock.monotonic() - last)
    }

    fn checkpoint(&mut self) -> Result<(), StoreError> {
        let start = self.clock.monotonic();
        self.engine.checkpoint()?;
        self.metrics.checkpoint_seconds.observe((self.clock.monotonic() - start).as_secs_f64());
        self.status.set_durable(self.meta.applied);
        self.status.set_size(self.engine.size_on_disk());
        Ok(())
    }

    fn work(&mut self, items: &mut Vec<Save>) -> Result<(), StoreError> {
        let mut open = Vec::new();
        let mut weight = 0;
        for item in items.drain(..) {
            match item {
                Save::Batch(batch) => {
                    weight += batch.weight();
                    open.push(batch);
                    if weight >= MOST_BATCH {
                        self.save(&mut open)?;
                        weight = 0;
                    }
                }
                Save::Snapshot { done } => {
                    self.save(&mut open)?;
                    weight = 0;
                    let data = snapshot::dump(&self.engine);
                    // Whoever asked may be gone.
                    let _ = done.send(data.map(|data| (self.meta, data)));
                }
                Save::Restore { file, done } => {
                    self.save(&mut open)?;
                    weight = 0;
                    let meta = snapshot::restore(&self.engine, &file)?;
                    self.meta = meta;
                    self.checkpoint()?;
                    // A file that stays behind is removed at the next start.
                    let _ = std::fs::remove_file(&file);
                    let _ = done.send(Ok(meta));
                }
            }
        }
        self.save(&mut open)
    }

    /// Writes several entries' changes as one engine batch.
    fn save(&mut self, batches: &mut Vec<SaveBatch>) -> Result<(), StoreError> {
        let Some(last) = batches.last() else { return Ok(()) };
        let meta = Meta { scrubbed: self.meta.scrubbed, ..last.meta };
        let mut engine_batch = Batch::default();
        let mut weight = 0;
        for batch in batches.iter() {
            weight += batch.weight();
            for saved in &batch.saved {
                match saved {
                    Saved::Changes(changes) => {
                        for (sub, change) in changes.iter().enumerate() {
                            let revision = change.kv.mod_revision;
                            let at = Pointer { revision, sub: sub as u32 };
                            engine_batch.put(&at.engine_key(), change.encode());
                        }
                    }
                    Saved::Put(key, value) => engine_batch.put(key, value.clone()),
                    Saved::Delete(key) => engine_batch.delete(key),
                }
            }
        }
        engine_batch.put(META_KEY, meta.encode());
        self.engine.apply(engine_batch)?;
        self.meta = meta;
        self.shared.mvcc.saved(meta.revision);
        self.inbox.finished(weight);
        batches.clear();
        Ok(())
    }

    /// What the last compaction gave up and is still there.
    fn next_scrub(&self) -> Option<Scrub> {
        let (scrubbed, to) = (self.meta.scrubbed, self.meta.compacted);
        (scrubbed < to).then(|| Scrub { next: Pointer::first_of(scrubbed), to })
    }

    /// Removes what was replaced, or deleted before, the compaction revision: each record from
    /// the last compaction to this one points at the record that it replaced.
    fn scrub_step(&mut self, scrub: Scrub) -> Result<Option<Scrub>, StoreError> {
        let to = scrub.to;
        let mut batch = Batch::default();
        let mut next = None;
        let end = Pointer::first_of(to + 1).engine_key();
        for (seen, item) in self.engine.scan(&scrub.next.engine_key(), &end).enumerate() {
            let (key, value) = item?;
            let at = Pointer::from_engine_key(&key)
                .ok_or_else(|| StoreError::corrupt(&self.file, "a record's key is cut short"))?;
            if seen == SCRUB_STEP {
                next = Some(Scrub { next: at, to });
                break;
            }
            let change = Change::decode(at, value, &self.file)?;
            if let Some(previous) = change.previous {
                batch.delete_whole(&self.engine, &previous.engine_key())?;
            }
            if change.is_delete() && at.revision < to {
                batch.delete(&key);
            }
        }
        if next.is_none() {
            self.meta.scrubbed = to;
            batch.put(META_KEY, self.meta.encode());
        }
        self.engine.apply(batch)?;
        Ok(next)
    }
}

/// Without the index a start takes longer; nothing else depends on it.
fn warn_of_index(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot write the index");
    }
}
