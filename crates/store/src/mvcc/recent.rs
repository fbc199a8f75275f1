//! The newest changes, in memory, shared by reads and all watchers.
//!
//! Each revision is one element and revisions have no gap, so a lookup is an index computation.
//! What the engine does not hold yet is never evicted.

use super::record::{Change, Pointer};
use std::collections::VecDeque;
use std::sync::Arc;

/// All changes of one revision.
pub(crate) type Changes = Arc<[Change]>;

#[derive(Debug)]
pub(crate) struct Recent {
    /// The revision of the first element.
    first: u64,
    revisions: VecDeque<Changes>,
    weight: usize,
    limit: usize,
}

impl Recent {
    /// Holds nothing yet; the next revision is `next`.
    pub(crate) fn new(next: u64, limit: usize) -> Self {
        Self { first: next, revisions: VecDeque::new(), weight: 0, limit }
    }

    /// The bytes that it may hold.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The oldest revision held, or the next one if none is.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Adds the next revision; evicts old ones up to `saved`.
    pub(crate) fn push(&mut self, changes: Changes, saved: u64) {
        self.weight += weight(&changes);
        self.revisions.push_back(changes);
        self.evict(saved, 4);
    }

    /// Evicts towards the limit what is older than or at `saved`, `most` revisions at a time: the
    /// lock is held meanwhile.
    pub(crate) fn evict(&mut self, saved: u64, most: usize) {
        for _ in 0..most {
            if self.weight <= self.limit || self.first > saved {
                return;
            }
            let Some(oldest) = self.revisions.pop_front() else { return };
            self.weight -= weight(&oldest);
            self.first += 1;
        }
    }

    /// The change at `pointer`, if it is held.
    pub(crate) fn get(&self, pointer: Pointer) -> Option<&Change> {
        let at = pointer.revision.checked_sub(self.first)?;
        self.revisions.get(usize::try_from(at).ok()?)?.get(pointer.sub as usize)
    }

    /// The revisions from `revision` on; it must be held or the next one.
    pub(crate) fn from(&self, revision: u64) -> impl Iterator<Item = (u64, &Changes)> {
        let skip = usize::try_from(revision.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let skip = skip.min(self.revisions.len());
        (self.first + skip as u64..).zip(self.revisions.range(skip..))
    }
}

fn weight(changes: &[Change]) -> usize {
    changes.iter().map(Change::weight).sum()
}
