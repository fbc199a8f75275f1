//! Reads: keys at a revision, and changes from a revision on.

use super::index::KeyMeta;
use super::record::{Change, Pointer};
use super::{Mvcc, State};
use crate::types::in_range;
use crate::{Event, EventKind, KeyValue, RangeRequest, RangeResponse, StoreError};
use bytes::Bytes;
use std::path::Path;

/// How many keys are looked at before the lock is released for a moment.
const CHUNK: usize = 1024;
/// How much history one step of a watch reads at most.
const MOST_EVENTS: usize = 1000;
const MOST_BYTES: usize = 1 << 20;
const MOST_SEEN: usize = 20_000;

/// A step of a watch.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) events: Vec<Event>,
    /// Everything up to here has been looked at.
    pub(crate) revision: u64,
}

/// What the index says about a key at a revision.
enum Found {
    Here(KeyValue),
    /// It exists; its value is where this points.
    Saved(Pointer),
    /// It changed since; the chain from here tells.
    Changed(Pointer),
}

impl Mvcc {
    /// Reads a range. May read from disk.
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
        loop {
            let at = {
                let state = self.state.read();
                state.check(request.revision)?
            };
            match self.range_at(request, at) {
                // Compaction passed the revision that this read had picked by itself: pick again.
                Err(StoreError::Compacted { .. }) if request.revision == 0 => {}
                result => return result,
            }
        }
    }

    /// The answer, if it can be given without the disk: a single key's newest state in memory.
    pub(crate) fn range_in_memory(&self, request: &RangeRequest) -> Option<RangeResponse> {
        if request.revision != 0 || !request.is_single_key() {
            return None;
        }
        let state = self.state.read();
        let mut response = RangeResponse { revision: state.revision, ..RangeResponse::default() };
        let Some(meta) = state.index.get(&request.start).filter(|meta| !meta.is_deleted()) else {
            return Some(response);
        };
        let change = state.recent.get(meta.at)?;
        response.kvs.push(change.kv.clone());
        response.count = 1;
        drop(state);
        if request.keys_only {
            response.kvs[0].value = Bytes::new();
        }
        Some(response)
    }

    fn range_at(&self, request: &RangeRequest, at: u64) -> Result<RangeResponse, StoreError> {
        let mut response = RangeResponse { revision: at, ..RangeResponse::default() };
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let mut cursor = request.start.clone();
        loop {
            let (found, next) = {
                let state = self.state.read();
                if at < state.compacted {
                    return Err(state.was_compacted(at));
                }
                state.look(&cursor, &request.end, at, request.keys_only)
            };
            for found in found {
                let wanted = response.kvs.len() < limit;
                let kv = match found {
                    Found::Here(kv) => Some(kv),
                    Found::Saved(_) if !wanted => Some(KeyValue::default()),
                    Found::Saved(pointer) | Found::Changed(pointer) => self.chain(pointer, at)?,
                };
                let Some(mut kv) = kv else { continue };
                response.count += 1;
                if wanted {
                    if request.keys_only {
                        kv.value = Bytes::new();
                    }
                    response.kvs.push(kv);
                }
            }
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        response.more = response.count > response.kvs.len() as u64;
        Ok(response)
    }

    /// The key as of revision `at`, following its chain back from `pointer`.
    fn chain(&self, pointer: Pointer, at: u64) -> Result<Option<KeyValue>, StoreError> {
        let mut next = Some(pointer);
        while let Some(pointer) = next {
            let Some(change) = self.change(pointer)? else {
                return self.state.read().was_removed(pointer, at, &self.file).map(|()| None);
            };
            if pointer.revision <= at {
                return Ok((!change.is_delete()).then_some(change.kv));
            }
            next = change.previous;
        }
        Ok(None)
    }

    /// The change at `pointer`, unless compaction removed it.
    pub(super) fn change(&self, pointer: Pointer) -> Result<Option<Change>, StoreError> {
        if let Some(change) = self.state.read().recent.get(pointer) {
            return Ok(Some(change.clone()));
        }
        self.saved_change(pointer)
    }

    /// The change at `pointer` in the engine.
    pub(super) fn saved_change(&self, pointer: Pointer) -> Result<Option<Change>, StoreError> {
        self.engine
            .get(&pointer.engine_key())?
            .map(|data| Change::decode(pointer, data, &self.file))
            .transpose()
    }

    /// Whether changes from `revision` on are all in memory.
    pub(crate) fn is_recent(&self, revision: u64) -> bool {
        revision >= self.state.read().recent.first()
    }

    /// Changes in `start..end` from `from` on, as many as one step takes. May read from disk.
    pub(crate) fn events(
        &self,
        start: &[u8],
        end: &[u8],
        from: u64,
        previous: bool,
    ) -> Result<Events, StoreError> {
        let (mut found, revision) = match self.recent_changes(start, end, from)? {
            Ok(recent) => recent,
            Err(held) => self.saved_changes(start, end, from, held)?,
        };
        let mut events = Vec::with_capacity(found.len());
        for (change, pointer) in found.drain(..) {
            let before = match pointer.filter(|_| previous) {
                Some(pointer) => self.change(pointer)?.filter(|change| !change.is_delete()),
                None => None,
            };
            events.push(event(change, before));
        }
        Ok(Events { events, revision })
    }

    /// Changes from memory, or the first revision that memory holds.
    fn recent_changes(
        &self,
        start: &[u8],
        end: &[u8],
        from: u64,
    ) -> Result<Result<(Vec<(Change, Option<Pointer>)>, u64), u64>, StoreError> {
        let state = self.state.read();
        if from < state.compacted {
            return Err(state.was_compacted(from));
        }
        if from < state.recent.first() {
            return Ok(Err(state.recent.first()));
        }
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut last = state.revision;
        for (revision, changes) in state.recent.from(from) {
            for change in changes.iter().filter(|change| in_range(&change.kv.key, start, end)) {
                bytes += change.weight();
                found.push((change.clone(), change.previous));
            }
            if found.len() >= MOST_EVENTS || bytes >= MOST_BYTES {
                last = revision;
                break;
            }
        }
        Ok(Ok((found, last)))
    }

    /// Changes from the engine, before the first revision that memory holds.
    fn saved_changes(
        &self,
        start: &[u8],
        end: &[u8],
        from: u64,
        held: u64,
    ) -> Result<(Vec<(Change, Option<Pointer>)>, u64), StoreError> {
        let first = Pointer::first_of(from).engine_key();
        let last = Pointer::first_of(held).engine_key();
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut reached = held - 1;
        let mut current = from;
        for (seen, item) in self.engine.scan(&first, &last).enumerate() {
            let (key, value) = item?;
            let at = Pointer::from_engine_key(&key)
                .ok_or_else(|| StoreError::corrupt(&self.file, "a record's key is cut short"))?;
            let is_enough = found.len() >= MOST_EVENTS || bytes >= MOST_BYTES || seen >= MOST_SEEN;
            if at.revision != current && is_enough {
                reached = at.revision - 1;
                break;
            }
            current = at.revision;
            let change = Change::decode(at, value, &self.file)?;
            if in_range(&change.kv.key, start, end) {
                bytes += change.weight();
                let previous = change.previous;
                found.push((change, previous));
            }
        }
        // Compaction may have removed changes under the scan: then the scan does not count.
        let state = self.state.read();
        if from < state.compacted {
            return Err(state.was_compacted(from));
        }
        Ok((found, reached))
    }
}

fn event(change: Change, before: Option<Change>) -> Event {
    let previous = before.map(|change| change.kv);
    match change.kind {
        EventKind::Put => Event { kind: EventKind::Put, kv: change.kv, previous },
        EventKind::Delete => Event {
            kind: EventKind::Delete,
            kv: KeyValue { key: change.kv.key, mod_revision: change.kv.mod_revision, ..KeyValue::default() },
            previous,
        },
    }
}

impl State {
    /// The revision that a read at `requested` sees, if it may.
    pub(super) fn check(&self, requested: u64) -> Result<u64, StoreError> {
        if requested == 0 {
            return Ok(self.revision);
        }
        if requested > self.revision {
            return Err(StoreError::FutureRevision { requested, current: self.revision });
        }
        if requested < self.compacted {
            return Err(self.was_compacted(requested));
        }
        Ok(requested)
    }

    pub(super) fn was_compacted(&self, requested: u64) -> StoreError {
        StoreError::Compacted { requested, compacted: self.compacted }
    }

    /// What it means that the change at `pointer` is gone, for a read at `at`: compaction removed
    /// it. If that did not pass `at`, the change was a deletion; the key did not exist then.
    pub(super) fn was_removed(&self, pointer: Pointer, at: u64, file: &Path) -> Result<(), StoreError> {
        if at < self.compacted {
            return Err(self.was_compacted(at));
        }
        if pointer.revision >= self.compacted {
            let what = format!("the record of revision {} is missing", pointer.revision);
            return Err(StoreError::corrupt(file, what));
        }
        Ok(())
    }

    /// Looks at up to [`CHUNK`] keys; gives the key to go on from, if there are more.
    fn look(&self, start: &[u8], end: &[u8], at: u64, keys_only: bool) -> (Vec<Found>, Option<Bytes>) {
        let mut found = Vec::new();
        for (seen, (key, meta)) in self.index.range(start, end).enumerate() {
            if seen == CHUNK {
                return (found, Some(key.clone()));
            }
            if meta.at.revision > at {
                found.push(Found::Changed(meta.at));
            } else if !meta.is_deleted() {
                found.push(self.find(key, meta, keys_only));
            }
        }
        (found, None)
    }

    fn find(&self, key: &Bytes, meta: &KeyMeta, keys_only: bool) -> Found {
        if keys_only {
            return Found::Here(key_without_value(key, meta));
        }
        match self.recent.get(meta.at) {
            Some(change) => Found::Here(change.kv.clone()),
            None => Found::Saved(meta.at),
        }
    }
}

/// A key's counters as the index has them.
pub(super) fn key_without_value(key: &Bytes, meta: &KeyMeta) -> KeyValue {
    KeyValue {
        key: key.clone(),
        value: Bytes::new(),
        create_revision: meta.create_revision,
        mod_revision: meta.at.revision,
        version: meta.version,
        lease: meta.lease,
    }
}
