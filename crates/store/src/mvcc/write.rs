//! The deterministic step: a transaction on the newest state.
//!
//! No clock, no randomness, no dependence on what is in memory or on disk: every member that
//! applies the same commands in the same order gets the same revisions and records.

use super::index::KeyMeta;
use super::read::key_without_value;
use super::record::{Change, Pointer};
use super::{Changes, Mvcc, State};
use crate::{
    Compare, EventKind, KeyValue, LeaseId, Operation, OperationResult, RangeRequest, RangeResponse, Relation,
    StoreError, Target, Txn, TxnResponse,
};
use bytes::Bytes;
use parking_lot::RwLockWriteGuard;

/// What transactions need to know of leases.
pub(crate) trait Leases {
    /// Whether the lease exists.
    fn exists(&self, lease: LeaseId) -> bool;
    /// A key changed its lease; 0 is none.
    fn moved(&mut self, key: &Bytes, from: LeaseId, to: LeaseId);
}

/// Changes the state; there is one at a time. What it changed is visible when it is dropped.
pub(crate) struct Writer<'a> {
    mvcc: &'a Mvcc,
    state: RwLockWriteGuard<'a, State>,
    revision_before: u64,
}

impl Mvcc {
    /// Begins to change the state.
    pub(crate) fn write(&self) -> Writer<'_> {
        let state = self.state.write();
        let revision_before = state.revision;
        Writer { mvcc: self, state, revision_before }
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        let revision = self.state.revision;
        if revision != self.revision_before {
            // Before the lock is released, so that revisions are announced in order; whoever is
            // woken waits for the lock a moment.
            self.mvcc.newest.send_replace(revision);
        }
    }
}

impl Writer<'_> {
    /// The newest revision.
    pub(crate) fn revision(&self) -> u64 {
        self.state.revision
    }

    /// The revision of the last compaction.
    pub(crate) fn compacted(&self) -> u64 {
        self.state.compacted
    }

    /// Runs a transaction; gives its changes if it made any.
    pub(crate) fn txn(
        &mut self,
        txn: &Txn,
        leases: &mut dyn Leases,
    ) -> (Result<TxnResponse, StoreError>, Option<Changes>) {
        let succeeded = txn
            .compare
            .iter()
            .map(|compare| self.holds(compare))
            .try_fold(true, |all, holds| holds.map(|holds| all && holds));
        let succeeded = match succeeded {
            Ok(succeeded) => succeeded,
            Err(error) => return (Err(error), None),
        };
        let operations = if succeeded { &txn.success } else { &txn.failure };
        if let Err(error) = self.may_run(operations, leases) {
            return (Err(error), None);
        }
        let mut changes = Vec::new();
        let mut results = Ok(Vec::with_capacity(operations.len()));
        for operation in operations {
            // A read that fails does not stop the changes: they are the same on every member.
            let result = self.run(operation, &mut changes, leases);
            results = results.and_then(|mut results: Vec<_>| {
                results.push(result?);
                Ok(results)
            });
        }
        let changes = self.commit(changes);
        let revision = self.state.revision;
        (results.map(|results| TxnResponse { succeeded, revision, results }), changes)
    }

    /// Deletes keys in one revision, those that exist.
    pub(crate) fn delete_keys(
        &mut self,
        keys: impl Iterator<Item = Bytes>,
        leases: &mut dyn Leases,
    ) -> Option<Changes> {
        let mut changes = Vec::new();
        for key in keys {
            if let Some(meta) = self.state.index.get(&key).copied().filter(|meta| !meta.is_deleted()) {
                self.delete(&key, meta, &mut changes, leases);
            }
        }
        self.commit(changes)
    }

    /// Moves the compaction revision up; gives the one before.
    pub(crate) fn compact(&mut self, revision: u64) -> Result<u64, StoreError> {
        let before = self.state.compacted;
        if revision <= before {
            return Err(self.state.was_compacted(revision));
        }
        self.state.check(revision)?;
        self.state.compacted = revision;
        self.state.index.compact(revision);
        Ok(before)
    }

    fn commit(&mut self, changes: Vec<Change>) -> Option<Changes> {
        if changes.is_empty() {
            return None;
        }
        let changes: Changes = changes.into();
        self.state.revision += 1;
        let saved = self.state.saved;
        self.state.recent.push(changes.clone(), saved);
        Some(changes)
    }

    /// What would make the whole transaction fail, found before anything changes.
    fn may_run(&self, operations: &[Operation], leases: &dyn Leases) -> Result<(), StoreError> {
        for operation in operations {
            match operation {
                Operation::Put { lease, .. } if *lease != 0 && !leases.exists(*lease) => {
                    return Err(StoreError::LeaseNotFound(*lease));
                }
                Operation::Range(range) => {
                    self.state.check(range.revision)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        operation: &Operation,
        changes: &mut Vec<Change>,
        leases: &mut dyn Leases,
    ) -> Result<OperationResult, StoreError> {
        match operation {
            Operation::Put { key, value, lease } => {
                self.put(key, value, *lease, changes, leases);
                Ok(OperationResult::Put)
            }
            Operation::Delete { start, end } => {
                let keys: Vec<(Bytes, KeyMeta)> = self
                    .state
                    .index
                    .range(start, end)
                    .filter(|(_, meta)| !meta.is_deleted())
                    .map(|(key, meta)| (key.clone(), *meta))
                    .collect();
                let mut deleted = Ok(Vec::with_capacity(keys.len()));
                for (key, meta) in keys {
                    let before = self.value(&key, &meta, changes);
                    self.delete(&key, meta, changes, leases);
                    deleted = deleted.and_then(|mut deleted: Vec<_>| {
                        deleted.push(before?);
                        Ok(deleted)
                    });
                }
                Ok(OperationResult::Delete { deleted: deleted? })
            }
            Operation::Range(range) => self.range(range, changes).map(OperationResult::Range),
        }
    }

    fn put(
        &mut self,
        key: &Bytes,
        value: &Bytes,
        lease: LeaseId,
        changes: &mut Vec<Change>,
        leases: &mut dyn Leases,
    ) {
        let at = self.next_pointer(changes);
        let before = self.state.index.get(key).copied();
        let live = before.filter(|meta| !meta.is_deleted());
        let meta = KeyMeta {
            at,
            create_revision: live.map_or(at.revision, |meta| meta.create_revision),
            version: live.map_or(0, |meta| meta.version) + 1,
            lease,
        };
        self.state.index.set(key, meta);
        let lease_before = live.map_or(0, |meta| meta.lease);
        if lease_before != lease {
            leases.moved(key, lease_before, lease);
        }
        let mut kv = key_without_value(key, &meta);
        kv.value = value.clone();
        changes.push(Change { kind: EventKind::Put, kv, previous: before.map(|meta| meta.at) });
    }

    fn delete(&mut self, key: &Bytes, before: KeyMeta, changes: &mut Vec<Change>, leases: &mut dyn Leases) {
        let at = self.next_pointer(changes);
        let meta = KeyMeta { at, create_revision: 0, version: 0, lease: 0 };
        self.state.index.set(key, meta);
        if before.lease != 0 {
            leases.moved(key, before.lease, 0);
        }
        let kv = key_without_value(key, &meta);
        changes.push(Change { kind: EventKind::Delete, kv, previous: Some(before.at) });
    }

    fn next_pointer(&self, changes: &[Change]) -> Pointer {
        let sub = u32::try_from(changes.len()).expect("a request's size bounds its changes");
        Pointer { revision: self.state.revision + 1, sub }
    }

    /// A key with its newest value, which may be one of `changes`.
    fn value(&self, key: &Bytes, meta: &KeyMeta, changes: &[Change]) -> Result<KeyValue, StoreError> {
        if meta.at.revision > self.state.revision {
            return Ok(changes[meta.at.sub as usize].kv.clone());
        }
        if let Some(change) = self.state.recent.get(meta.at) {
            return Ok(change.kv.clone());
        }
        let saved = self.mvcc.saved_change(meta.at)?.ok_or_else(|| {
            let what = format!("the record of revision {} is missing", meta.at.revision);
            StoreError::corrupt(&self.mvcc.file, what)
        })?;
        debug_assert_eq!(saved.kv.key, *key);
        Ok(saved.kv)
    }

    fn range(&self, request: &RangeRequest, changes: &[Change]) -> Result<RangeResponse, StoreError> {
        let revision = self.state.revision + u64::from(!changes.is_empty());
        let mut response = RangeResponse { revision, ..RangeResponse::default() };
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        for (key, meta) in self.state.index.range(&request.start, &request.end) {
            let kv = if request.revision == 0 || meta.at.revision <= request.revision {
                if meta.is_deleted() {
                    continue;
                }
                match response.kvs.len() < limit && !request.keys_only {
                    true => self.value(key, meta, changes)?,
                    false => key_without_value(key, meta),
                }
            } else {
                match self.at(meta.at, request.revision, changes)? {
                    Some(kv) => kv,
                    None => continue,
                }
            };
            response.count += 1;
            if response.kvs.len() < limit {
                let value = if request.keys_only { Bytes::new() } else { kv.value.clone() };
                response.kvs.push(KeyValue { value, ..kv });
            }
        }
        response.more = response.count > response.kvs.len() as u64;
        Ok(response)
    }

    /// The key as of `revision`, following its chain back from `pointer`.
    fn at(
        &self,
        pointer: Pointer,
        revision: u64,
        changes: &[Change],
    ) -> Result<Option<KeyValue>, StoreError> {
        let mut next = Some(pointer);
        while let Some(pointer) = next {
            let change = if pointer.revision > self.state.revision {
                changes[pointer.sub as usize].clone()
            } else if let Some(change) = self.state.recent.get(pointer) {
                change.clone()
            } else if let Some(saved) = self.mvcc.saved_change(pointer)? {
                saved
            } else {
                let file = &self.mvcc.file;
                return self.state.was_removed(pointer, revision, file).map(|()| None);
            };
            if pointer.revision <= revision {
                return Ok((!change.is_delete()).then_some(change.kv));
            }
            next = change.previous;
        }
        Ok(None)
    }

    fn holds(&self, compare: &Compare) -> Result<bool, StoreError> {
        match compare {
            Compare::ModRevision { key, revision } => {
                let live = self.state.index.get(key).filter(|meta| !meta.is_deleted());
                Ok(live.map_or(0, |meta| meta.at.revision) == *revision)
            }
            Compare::Field { start, end, relation, target } => {
                let mut any = false;
                for (key, meta) in self.state.index.range(start, end) {
                    if meta.is_deleted() {
                        continue;
                    }
                    any = true;
                    if !self.field_holds(key, meta, *relation, target)? {
                        return Ok(false);
                    }
                }
                if any {
                    return Ok(true);
                }
                // Nothing there: a value never matches, anything else compares as zero.
                let absent = KeyMeta { at: Pointer::default(), create_revision: 0, version: 0, lease: 0 };
                match target {
                    Target::Value(_) => Ok(false),
                    _ if crate::types::is_single_key(start, end) => {
                        self.field_holds(start, &absent, *relation, target)
                    }
                    _ => Ok(true),
                }
            }
        }
    }

    fn field_holds(
        &self,
        key: &Bytes,
        meta: &KeyMeta,
        relation: Relation,
        target: &Target,
    ) -> Result<bool, StoreError> {
        let ordering = match target {
            Target::Version(number) => meta.version.cmp(number),
            Target::CreateRevision(number) => meta.create_revision.cmp(number),
            Target::ModRevision(number) => meta.at.revision.cmp(number),
            Target::Lease(number) => meta.lease.cmp(number),
            Target::Value(value) => self.value(key, meta, &[])?.value.cmp(value),
        };
        Ok(match relation {
            Relation::Equal => ordering.is_eq(),
            Relation::NotEqual => ordering.is_ne(),
            Relation::Greater => ordering.is_gt(),
            Relation::Less => ordering.is_lt(),
        })
    }
}
