//! The raft log and hard state: the durable truth of a member.
//!
//! Everything that one turn of the raft loop has to persist is one [`frame`] with one checksum,
//! one write and one `fdatasync`, in a [`segment`] file. Nothing is acknowledged before. The log
//! knows nothing of what entries mean; it is raft's `Storage`. On disk it holds entries from the
//! last checkpoint of the state machine on; whole segments before it are dropped.
//!
//! Start reading at [`Log::append`], then `replay` for what happens after a crash.

mod frame;
mod replay;
mod segment;
mod storage;
#[cfg(test)]
mod tests;

use crate::StoreError;
use frame::FrameBuilder;
use raft::eraftpb::{ConfState, Entry, HardState, SnapshotMetadata};
use segment::Segment;
pub(crate) use segment::{fresh_salt, sync_dir};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// Generates the snapshot that raft asks for; answers `None` until it is ready.
pub(crate) trait SnapshotSource: Send + Sync {
    /// A snapshot at or after `index`, if one is ready.
    fn snapshot(&self, index: u64) -> Option<raft::eraftpb::Snapshot>;
}

use crate::config::FreeSpace;

/// How a log is set up.
#[derive(Clone)]
pub(crate) struct LogOptions {
    pub(crate) dir: PathBuf,
    /// The members, if the log is new.
    pub(crate) members: ConfState,
    pub(crate) segment_size: u64,
    /// Bytes of recent entries to keep in memory.
    pub(crate) cache: usize,
    /// Bytes that must stay free on the disk; with fewer, nothing new is accepted.
    pub(crate) min_free: u64,
    pub(crate) free_space: FreeSpace,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
struct Slot {
    term: u64,
    segment: u64,
    frame: u64,
    position: u64,
}

/// The log of one member.
pub(crate) struct Log {
    options: LogOptions,
    /// Never empty; the last one is written to.
    segments: VecDeque<Segment>,
    /// Where the next frame goes in the last segment.
    position: u64,
    next_frame: u64,
    /// The entry just before the first one kept.
    base: (u64, u64),
    slots: VecDeque<Slot>,
    /// The newest entries.
    cache: VecDeque<Entry>,
    cached: usize,
    hard: HardState,
    conf: ConfState,
    snapshots: Option<Arc<dyn SnapshotSource>>,
    builder: FrameBuilder,
}

impl Log {
    /// Uses `source` for the snapshots that raft asks for.
    pub(crate) fn set_snapshot_source(&mut self, source: Arc<dyn SnapshotSource>) {
        self.snapshots = Some(source);
    }

    pub(crate) fn last(&self) -> u64 {
        self.base.0 + self.slots.len() as u64
    }

    /// The index just before the first entry kept.
    pub(crate) fn begins(&self) -> u64 {
        self.base.0
    }

    pub(crate) fn hard_state(&self) -> &HardState {
        &self.hard
    }

    /// Raises the commit index that is reported to raft when it starts: what the state machine has
    /// applied was committed, even if the log did not come to record it.
    pub(crate) fn raise_commit(&mut self, applied: u64) {
        self.hard.commit = self.hard.commit.max(applied).min(self.last());
    }

    pub(crate) fn members(&self) -> &ConfState {
        &self.conf
    }

    /// Makes sure that a frame with `bytes` of entries can be written without more room on the
    /// disk. Called before a proposal, so that a full disk refuses it without a trace.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), StoreError> {
        if self.position >= self.options.segment_size {
            check_free(&self.options)?;
            self.roll((self.last(), self.term_of(self.last())))?;
        }
        let need = self.position + bytes as u64 + 4096;
        let segment = self.segments.back_mut().expect("a log has a segment");
        if segment.is_reserved(need) {
            return Ok(());
        }
        check_free(&self.options)?;
        segment.reserve(need)
    }

    /// Keeps a hard state that need not be durable by itself: it goes with the next frame.
    pub(crate) fn note_hard_state(&mut self, hard: HardState) {
        self.hard = hard;
    }

    /// Keeps the commit index that the next frame will tell.
    pub(crate) fn note_commit(&mut self, commit: u64) {
        self.hard.commit = commit;
    }

    /// Writes entries and hard state durably, replacing entries from the first one's index on.
    /// After a failure nothing has changed, and the same call may be made again.
    pub(crate) fn append(
        &mut self,
        entries: &mut Vec<Entry>,
        hard: Option<&HardState>,
    ) -> Result<(), StoreError> {
        let before = entries.first().map_or(self.last(), |entry| entry.index - 1);
        if self.position >= self.options.segment_size {
            self.roll((before, self.term_of(before)))?;
        }
        self.builder.start();
        if let Some(hard) = hard {
            self.builder.hard(hard);
        }
        for entry in entries.iter() {
            self.builder.entry(entry);
        }
        if self.builder.is_empty() {
            return Ok(());
        }
        let (frame, position) = self.write_frame()?;
        if let Some(hard) = hard {
            self.hard = hard.clone();
        }
        self.remember(std::mem::take(entries), frame, position);
        Ok(())
    }

    /// Starts over behind an installed snapshot.
    pub(crate) fn install(&mut self, metadata: SnapshotMetadata, hard: HardState) -> Result<(), StoreError> {
        let base = (metadata.index, metadata.term);
        self.conf = metadata.conf_state.clone().unwrap_or_default();
        self.hard = hard;
        self.open_segment(base, Some(&metadata))?;
        self.base = base;
        self.slots.clear();
        self.cache.clear();
        self.cached = 0;
        while self.segments.len() > 1 {
            self.drop_oldest()?;
        }
        sync_dir(&self.options.dir)
    }

    /// Drops whole segments whose entries are all at or before `index`.
    pub(crate) fn compact(&mut self, index: u64) -> Result<(), StoreError> {
        let mut dropped = false;
        while self.segments.len() > 1 && self.segments[0].max_index <= index {
            let oldest = self.segments[0].sequence();
            self.drop_oldest()?;
            while self.slots.front().is_some_and(|slot| slot.segment == oldest) {
                let slot = self.slots.pop_front().expect("the front was just seen");
                self.base = (self.base.0 + 1, slot.term);
            }
            dropped = true;
        }
        if dropped { sync_dir(&self.options.dir) } else { Ok(()) }
    }

    fn drop_oldest(&mut self) -> Result<(), StoreError> {
        self.segments.pop_front().expect("there is more than one segment").remove()
    }

    fn roll(&mut self, base: (u64, u64)) -> Result<(), StoreError> {
        self.open_segment(base, None)
    }

    /// Begins a segment with a frame from which alone a log can start.
    fn open_segment(
        &mut self,
        base: (u64, u64),
        snapshot: Option<&SnapshotMetadata>,
    ) -> Result<(), StoreError> {
        let sequence = self.segments.back().map_or(1, |segment| segment.sequence() + 1);
        let segment = Segment::create(&self.options.dir, sequence, self.next_frame)?;
        self.segments.push_back(segment);
        self.position = segment::FIRST_FRAME;
        self.write_base(base, snapshot)
    }

    fn write_base(
        &mut self,
        base: (u64, u64),
        snapshot: Option<&SnapshotMetadata>,
    ) -> Result<(), StoreError> {
        self.builder.start();
        self.builder.base(base.0, base.1);
        self.builder.conf(&self.conf);
        self.builder.hard(&self.hard);
        if let Some(metadata) = snapshot {
            self.builder.snapshot(metadata);
        }
        self.write_frame().map(|_| ())
    }

    /// Writes what the builder holds; gives the frame's number and position.
    fn write_frame(&mut self) -> Result<(u64, u64), StoreError> {
        let segment = self.segments.back_mut().expect("a log has a segment");
        segment.reserve(self.position + self.builder.size())?;
        let (frame, position) = (self.next_frame, self.position);
        let bytes = self.builder.finish(segment.salt(), frame);
        segment.write(bytes, position)?;
        self.position += bytes.len() as u64;
        self.next_frame += 1;
        Ok((frame, position))
    }

    /// Takes entries that are on disk into the index and the cache.
    fn remember(&mut self, entries: Vec<Entry>, frame: u64, position: u64) {
        let Some(first) = entries.first().map(|entry| entry.index) else { return };
        self.forget_from(first);
        let segment = self.segments.back_mut().expect("a log has a segment");
        for entry in entries {
            if entry.index <= self.base.0 {
                // Written again before an earlier segment was dropped: only its term matters.
                if entry.index == self.base.0 {
                    self.base.1 = entry.term;
                }
                continue;
            }
            segment.max_index = segment.max_index.max(entry.index);
            self.slots.push_back(Slot { term: entry.term, segment: segment.sequence(), frame, position });
            self.cached += weight(&entry);
            self.cache.push_back(entry);
        }
        while self.cached > self.options.cache && self.cache.len() > 1 {
            let oldest = self.cache.pop_front().expect("the cache holds more than one entry");
            self.cached -= weight(&oldest);
        }
    }

    fn forget_from(&mut self, index: u64) {
        while self.last() >= index && !self.slots.is_empty() {
            self.slots.pop_back();
            if let Some(entry) = self.cache.pop_back() {
                self.cached -= weight(&entry);
            }
        }
    }

    fn term_of(&self, index: u64) -> u64 {
        if index == self.base.0 {
            return self.base.1;
        }
        index
            .checked_sub(self.base.0 + 1)
            .and_then(|at| self.slots.get(usize::try_from(at).ok()?))
            .map_or(0, |slot| slot.term)
    }

    /// Reads the frame of a slot back from disk.
    fn read_entries(&self, slot: Slot) -> Result<Vec<Entry>, StoreError> {
        let segment = self
            .segments
            .iter()
            .find(|segment| segment.sequence() == slot.segment)
            .expect("a slot points into a segment that is kept");
        let damaged = || StoreError::corrupt(segment.path(), "a frame cannot be read back");
        let mut head = [0u8; frame::HEADER];
        segment.read(&mut head, slot.position)?;
        let (length, _) = frame::header(&head).ok_or_else(damaged)?;
        let mut bytes = vec![0u8; frame::HEADER + length];
        segment.read(&mut bytes, slot.position)?;
        let body = frame::read(&bytes, segment.salt(), slot.frame).ok_or_else(damaged)?;
        let items = frame::items(body, segment)?;
        Ok(items
            .into_iter()
            .filter_map(|item| match item {
                frame::Item::Entry(entry) => Some(entry),
                _ => None,
            })
            .collect())
    }
}

fn weight(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 64
}

fn check_free(options: &LogOptions) -> Result<(), StoreError> {
    let free = (options.free_space)(&options.dir)
        .map_err(|source| StoreError::io("measure the free space of", &options.dir, source))?;
    if free < options.min_free {
        return Err(StoreError::DiskFull { path: options.dir.clone() });
    }
    Ok(())
}
