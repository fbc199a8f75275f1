//! Keys in many versions: one revision counter, the newest state indexed in memory, the past on
//! disk.
//!
//! A change is written once, under its revision ([`record`]), with a pointer to the key's change
//! before. The index knows each key's newest change; [`recent`] holds the newest changes
//! themselves, in memory, until the engine has them and as long as there is room. Reads take the
//! lock for moments only: what they need from disk they read after they released it, and the
//! chain of pointers still gives them the state at their revision.
//!
//! This module knows neither raft nor when something becomes durable. Changes come in through
//! [`Writer`] from one thread; reads come from anywhere.

mod checkpoint;
mod index;
mod read;
mod recent;
mod record;
#[cfg(test)]
mod tests;
mod write;

use crate::engine::Engine;
use crate::{LeaseId, StoreError};
use bytes::Bytes;
pub(crate) use checkpoint::PendingIndex;
use index::{Index, KeyMeta};
use parking_lot::RwLock;
pub(crate) use read::Events;
pub(crate) use recent::Changes;
use recent::Recent;
pub(crate) use record::{Change, META_KEY, Meta, Pointer};
use std::path::PathBuf;
use tokio::sync::watch;
pub(crate) use write::Leases;

/// The multi-version state of this member.
pub(crate) struct Mvcc {
    engine: Engine,
    file: PathBuf,
    state: RwLock<State>,
    /// The newest revision, for those who wait for the next.
    newest: watch::Sender<u64>,
}

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The engine's directory, for errors.
    pub(crate) engine: PathBuf,
    /// The index file; empty for none.
    pub(crate) index: PathBuf,
}

#[derive(Debug)]
struct State {
    index: Index,
    recent: Recent,
    revision: u64,
    compacted: u64,
    /// The engine holds everything up to this revision.
    saved: u64,
}

impl Mvcc {
    /// Loads the state that the engine holds. Gives, beside it, the keys that hold a lease.
    pub(crate) fn load(
        engine: Engine,
        meta: Meta,
        recent_limit: usize,
        files: Files,
    ) -> Result<(Self, Vec<(LeaseId, Bytes)>), StoreError> {
        let state = load_state(&engine, meta, recent_limit, &files)?;
        let file = files.engine;
        let leased = state
            .index
            .range(b"", b"")
            .filter(|(_, meta)| meta.lease != 0 && !meta.is_deleted())
            .map(|(key, meta)| (meta.lease, key.clone()))
            .collect();
        let newest = watch::Sender::new(state.revision);
        Ok((Self { engine, file, state: RwLock::new(state), newest }, leased))
    }

    /// Takes over what the engine holds now, after a snapshot replaced it.
    pub(crate) fn reload(&self, meta: Meta) -> Result<Vec<(LeaseId, Bytes)>, StoreError> {
        let limit = self.state.read().recent.limit();
        let files = Files { engine: self.file.clone(), index: PathBuf::new() };
        let state = load_state(&self.engine, meta, limit, &files)?;
        let leased = state
            .index
            .range(b"", b"")
            .filter(|(_, meta)| meta.lease != 0 && !meta.is_deleted())
            .map(|(key, meta)| (meta.lease, key.clone()))
            .collect();
        let revision = state.revision;
        *self.state.write() = state;
        self.newest.send_replace(revision);
        Ok(leased)
    }

    /// The newest revision.
    pub(crate) fn revision(&self) -> u64 {
        self.state.read().revision
    }

    /// The revision of the last compaction.
    pub(crate) fn compacted(&self) -> u64 {
        self.state.read().compacted
    }

    /// How many keys exist.
    pub(crate) fn live_keys(&self) -> u64 {
        self.state.read().index.live()
    }

    /// Tells of every new revision.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The engine now holds everything up to `revision`.
    pub(crate) fn saved(&self, revision: u64) {
        let mut state = self.state.write();
        state.saved = state.saved.max(revision);
        let saved = state.saved;
        state.recent.evict(saved, 256);
    }
}

/// Reads records once, oldest first, so that the newest of each key wins: all of them, or those
/// that the index file does not know.
fn load_state(engine: &Engine, meta: Meta, recent_limit: usize, files: &Files) -> Result<State, StoreError> {
    let (mut index, complete) =
        checkpoint::read_index(&files.index, meta).unwrap_or_else(|| (Index::default(), 0));
    let start = Pointer::first_of(complete + 1).engine_key();
    let end = Pointer::first_of(u64::MAX).engine_key();
    for item in engine.scan(&start, &end) {
        let (key, value) = item?;
        let at = Pointer::from_engine_key(&key)
            .ok_or_else(|| StoreError::corrupt(&files.engine, "a record's key has the wrong length"))?;
        let change = Change::decode(at, value, &files.engine)?;
        index.set(&change.kv.key, KeyMeta::of(&change, at.sub));
    }
    index.sort_deleted();
    index.compact(meta.compacted);
    Ok(State {
        index,
        recent: Recent::new(meta.revision + 1, recent_limit),
        revision: meta.revision,
        compacted: meta.compacted,
        saved: meta.revision,
    })
}
