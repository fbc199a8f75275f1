//! Requests and answers of the [`Store`](crate::Store) interface.

use crate::StoreError;
use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Identifies a lease; 0 means "no lease".
pub type LeaseId = u64;

/// A key with its value and its history counters, as of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value; empty in a deletion and in an answer that was asked for keys only.
    pub value: Bytes,
    /// The revision at which the key was created (its last creation, if it was deleted between).
    pub create_revision: u64,
    /// The revision of its last change.
    pub mod_revision: u64,
    /// The number of changes since its creation, that included; 0 in a deletion.
    pub version: u64,
    /// The lease that it is attached to; 0 for none.
    pub lease: LeaseId,
}

/// Which keys to read, and when in history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    /// The first key.
    pub start: Bytes,
    /// The end of the range, exclusive. Empty means that the range has no end.
    pub end: Bytes,
    /// The most keys to return; 0 means all.
    pub limit: usize,
    /// The revision to read at; 0 means the newest.
    pub revision: u64,
    /// Leaves values out of the answer.
    pub keys_only: bool,
}

impl RangeRequest {
    /// Reads one key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        let start = key.into();
        let end = key_end(&start);
        Self { start, end, ..Self::default() }
    }

    /// Reads all keys that begin with `prefix`; an empty prefix means every key.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = prefix_end(&start);
        Self { start, end, ..Self::default() }
    }

    /// Whether this asks for exactly one key.
    pub fn is_single_key(&self) -> bool {
        is_single_key(&self.start, &self.end)
    }
}

/// The exclusive end of the range of all keys that begin with `prefix`; empty if there is none
/// (the prefix is empty or all `0xff`).
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|byte| *byte != 0xff) else {
        return Bytes::new();
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

/// The exclusive end of the range that holds `key` alone.
pub(crate) fn key_end(key: &[u8]) -> Bytes {
    let mut end = Vec::with_capacity(key.len() + 1);
    end.extend_from_slice(key);
    end.push(0);
    end.into()
}

/// Whether `start..end` can hold no other key than `start`.
pub(crate) fn is_single_key(start: &[u8], end: &[u8]) -> bool {
    end.len() == start.len() + 1 && end.last() == Some(&0) && end.starts_with(start)
}

/// Whether `key` lies in `start..end`, an empty end meaning none.
pub(crate) fn in_range(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    key >= start && (end.is_empty() || key < end)
}

/// What a range read found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The keys, ascending.
    pub kvs: Vec<KeyValue>,
    /// Whether keys were left out because of the limit.
    pub more: bool,
    /// How many keys the range holds, whatever the limit.
    pub count: u64,
    /// The revision at which all of this was read.
    pub revision: u64,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key was last changed at exactly this revision; 0 means that the key does not exist.
    ModRevision {
        /// The key.
        key: Bytes,
        /// Its last revision, or 0.
        revision: u64,
    },
    /// Every key in `start..end` holds `field relation target`. A missing single key compares as
    /// zero, and never satisfies a comparison of its value; an empty range of several keys is
    /// true except for a comparison of values (etcd's rules).
    Field {
        /// The first key.
        start: Bytes,
        /// The end, exclusive, as in [`RangeRequest::end`].
        end: Bytes,
        /// How the stored field must relate to the target.
        relation: Relation,
        /// The field and what it is compared with.
        target: Target,
    },
}

impl Compare {
    /// The key does not exist.
    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self::ModRevision { key: key.into(), revision: 0 }
    }

    /// The key was last changed at `revision`.
    pub fn unchanged(key: impl Into<Bytes>, revision: u64) -> Self {
        Self::ModRevision { key: key.into(), revision }
    }
}

/// How a stored field must relate to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same.
    Equal,
    /// Anything else.
    NotEqual,
    /// The stored field is greater.
    Greater,
    /// The stored field is less.
    Less,
}

/// A field of a key and what it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The number of changes since creation.
    Version(u64),
    /// The revision of creation.
    CreateRevision(u64),
    /// The revision of the last change.
    ModRevision(u64),
    /// The value, byte by byte.
    Value(Bytes),
    /// The lease attached.
    Lease(LeaseId),
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key.
    Put {
        /// The key; not empty.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The lease to attach it to; 0 for none.
        lease: LeaseId,
    },
    /// Deletes every key in `start..end` (end as in [`RangeRequest::end`]).
    Delete {
        /// The first key.
        start: Bytes,
        /// The end, exclusive.
        end: Bytes,
    },
    /// Reads, seeing what earlier steps of the same transaction did.
    Range(RangeRequest),
}

impl Operation {
    /// Sets a key without a lease.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: 0 }
    }

    /// Deletes one key.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        let start = key.into();
        let end = key_end(&start);
        Self::Delete { start, end }
    }

    /// Reads one key.
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Range(RangeRequest::key(key))
    }
}

/// If all of `compare` holds, do `success`, else do `failure`; atomically.
///
/// A key may be put once at most within the branch that runs, as in etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compare: Vec<Compare>,
    /// Done if all hold.
    pub success: Vec<Operation>,
    /// Done otherwise.
    pub failure: Vec<Operation>,
}

impl Txn {
    /// Does `operations` without any condition.
    pub fn always(operations: Vec<Operation>) -> Self {
        Self { success: operations, ..Self::default() }
    }
}

/// What a transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// Whether all conditions held.
    pub succeeded: bool,
    /// The revision of the change; if nothing changed, the store's revision at that moment.
    pub revision: u64,
    /// One for each operation of the branch that ran.
    pub results: Vec<OperationResult>,
}

/// What one operation of a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationResult {
    /// The key was set. (To learn what was there, put an [`Operation::get`] before it.)
    Put,
    /// The keys that were deleted, as they were before.
    Delete {
        /// The deleted keys with their last values.
        deleted: Vec<KeyValue>,
    },
    /// What was read.
    Range(RangeResponse),
}

/// Which changes to stream, and from when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchRequest {
    /// The first key.
    pub start: Bytes,
    /// The end, exclusive, as in [`RangeRequest::end`].
    pub end: Bytes,
    /// The first revision wanted; 0 means the next one after the call.
    pub from_revision: u64,
    /// Fills [`Event::previous`].
    pub previous: bool,
}

impl WatchRequest {
    /// Watches all keys that begin with `prefix` from `from_revision` on.
    pub fn prefix(prefix: impl Into<Bytes>, from_revision: u64) -> Self {
        let start = prefix.into();
        let end = prefix_end(&start);
        Self { start, end, from_revision, previous: false }
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was created or changed.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after the change; for a deletion, the key and the revision of the deletion.
    pub kv: KeyValue,
    /// The key before the change, if it was asked for, existed, and is still in history.
    pub previous: Option<KeyValue>,
}

/// Changes in the order of their revisions; those of one revision are never split over batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchBatch {
    /// The changes; none in a batch that only reports progress.
    pub events: Vec<Event>,
    /// All changes up to this revision, that included, were delivered.
    pub revision: u64,
}

/// A stream of changes. It ends after an error.
pub struct WatchStream(BoxStream<'static, Result<WatchBatch, StoreError>>);

impl WatchStream {
    /// Wraps an implementation's stream.
    pub fn new(stream: BoxStream<'static, Result<WatchBatch, StoreError>>) -> Self {
        Self(stream)
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchBatch, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl std::fmt::Debug for WatchStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("WatchStream")
    }
}

/// A lease as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// Its id.
    pub id: LeaseId,
    /// The time to live that was granted.
    pub granted: Duration,
    /// What remains of it.
    pub remaining: Duration,
    /// The keys attached to it, ascending; filled by
    /// [`Store::lease_time_to_live`](crate::Store::lease_time_to_live) only.
    pub keys: Vec<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_end_is_the_next_prefix() {
        for (prefix, end) in [
            (&b"a"[..], &b"b"[..]),
            (b"/registry/pods/", b"/registry/pods0"),
            (b"a\xff", b"b"),
            (b"a\xff\xff", b"b"),
            (b"\xff\xff", b""),
            (b"", b""),
        ] {
            assert_eq!(&prefix_end(prefix)[..], end, "{prefix:?}");
        }
    }

    #[test]
    fn a_single_key_range_is_recognised() {
        assert!(RangeRequest::key("a").is_single_key());
        assert!(!RangeRequest::prefix("a").is_single_key());
        assert!(!RangeRequest { start: "a".into(), ..RangeRequest::default() }.is_single_key());
    }

    #[test]
    fn an_empty_end_has_no_end() {
        assert!(in_range(b"zzz", b"a", b""));
        assert!(in_range(b"a", b"a", b"b"));
        assert!(!in_range(b"b", b"a", b"b"));
        assert!(!in_range(b"Z", b"a", b""));
    }
}
