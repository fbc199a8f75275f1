//! The log as raft reads it.

use super::Log;
use raft::eraftpb::{Entry, Snapshot};
use raft::util::limit_size;
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

impl Storage for Log {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let max_size = max_size.into();
        let mut entries = Vec::new();
        let cached_from = self.last() + 1 - self.cache.len() as u64;
        let mut next = low;
        let mut size = 0;
        while next < high.min(cached_from) {
            let slot = self.slots[(next - self.base.0 - 1) as usize];
            let frame = self.read_entries(slot).map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot read the raft log");
                Error::Store(StorageError::Other(Box::new(error)))
            })?;
            for entry in frame {
                if entry.index == next && next < high.min(cached_from) {
                    size += entry.data.len() as u64;
                    entries.push(entry);
                    next += 1;
                }
            }
            if max_size.is_some_and(|limit| size > limit) {
                limit_size(&mut entries, max_size);
                return Ok(entries);
            }
        }
        if next < high {
            let from = (next - cached_from) as usize;
            let to = (high - cached_from) as usize;
            entries.extend(self.cache.range(from..to).cloned());
        }
        limit_size(&mut entries, max_size);
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index < self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index > self.last() {
            return Err(Error::Store(StorageError::Unavailable));
        }
        Ok(self.term_of(index))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        self.snapshots
            .as_ref()
            .and_then(|source| source.snapshot(request_index))
            .ok_or(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
