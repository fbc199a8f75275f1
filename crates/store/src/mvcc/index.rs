//! Every key with the counters and the place of its newest change, in memory.

use super::record::{Change, Pointer};
use crate::{EventKind, LeaseId};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// The newest change of a key, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyMeta {
    pub(crate) at: Pointer,
    pub(crate) create_revision: u64,
    /// 0 means that the newest change deleted the key.
    pub(crate) version: u64,
    pub(crate) lease: LeaseId,
}

impl KeyMeta {
    pub(crate) fn is_deleted(&self) -> bool {
        self.version == 0
    }

    pub(crate) fn of(change: &Change, sub: u32) -> Self {
        Self {
            at: Pointer { revision: change.kv.mod_revision, sub },
            create_revision: change.kv.create_revision,
            version: if change.kind == EventKind::Delete { 0 } else { change.kv.version },
            lease: change.kv.lease,
        }
    }
}

/// All keys, deleted ones too until compaction passes their deletion.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Bytes, KeyMeta>,
    /// Deleted keys in the order of their deletion.
    deleted: VecDeque<(u64, Bytes)>,
    live: u64,
}

impl Index {
    /// An index of keys in ascending order; [`Index::sort_deleted`] has to follow.
    pub(crate) fn from_sorted(keys: Vec<(Bytes, KeyMeta)>) -> Self {
        let live = keys.iter().filter(|(_, meta)| !meta.is_deleted()).count() as u64;
        Self { keys: keys.into_iter().collect(), deleted: VecDeque::new(), live }
    }

    /// Finds the deleted keys again, after changes came out of order.
    pub(crate) fn sort_deleted(&mut self) {
        let deleted = self.keys.iter().filter(|(_, meta)| meta.is_deleted());
        let mut deleted: Vec<(u64, Bytes)> =
            deleted.map(|(key, meta)| (meta.at.revision, key.clone())).collect();
        deleted.sort_unstable();
        self.deleted = deleted.into();
    }

    /// The newest change of a key, a deletion too.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&KeyMeta> {
        self.keys.get(key)
    }

    /// How many keys exist.
    pub(crate) fn live(&self) -> u64 {
        self.live
    }

    /// Records a change; changes come in the order of their revisions.
    pub(crate) fn set(&mut self, key: &Bytes, meta: KeyMeta) {
        let was_live = match self.keys.get_mut(key) {
            Some(slot) => {
                let was_live = !slot.is_deleted();
                *slot = meta;
                was_live
            }
            None => {
                // A copy of its own: the caller's bytes may be a slice of a whole network frame.
                self.keys.insert(Bytes::copy_from_slice(key), meta);
                false
            }
        };
        self.live = self.live + u64::from(!meta.is_deleted()) - u64::from(was_live);
        if meta.is_deleted() {
            self.deleted.push_back((meta.at.revision, Bytes::copy_from_slice(key)));
        }
    }

    /// Keys in `start..end`, ascending; an empty end means none.
    pub(crate) fn range<'a>(
        &'a self,
        start: &[u8],
        end: &[u8],
    ) -> impl Iterator<Item = (&'a Bytes, &'a KeyMeta)> + use<'a> {
        let is_empty = !end.is_empty() && start >= end;
        let upper = match end {
            _ if is_empty => Bound::Excluded(start),
            [] => Bound::Unbounded,
            end => Bound::Excluded(end),
        };
        self.keys.range::<[u8], _>((Bound::Included(start), upper))
    }

    /// Forgets keys that were deleted before `revision`.
    pub(crate) fn compact(&mut self, revision: u64) {
        while self.deleted.front().is_some_and(|(at, _)| *at < revision) {
            let Some((at, key)) = self.deleted.pop_front() else { return };
            if self.keys.get(&key).is_some_and(|meta| meta.is_deleted() && meta.at.revision == at) {
                self.keys.remove(&key);
            }
        }
    }
}
