//! How one change of one key is kept: under its revision, with a pointer to the change before.
//!
//! The pointers make a chain per key from its newest change back to the last compaction. History
//! is read along the chain, and compaction follows it, so that no list of revisions per key is
//! needed anywhere.

use crate::codec::{Reader, Write};
use crate::{EventKind, KeyValue, StoreError};
use bytes::Bytes;
use std::path::Path;

/// Where a change is kept: its revision, and its place among the changes of that revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pointer {
    pub(crate) revision: u64,
    pub(crate) sub: u32,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: EventKind,
    /// The key after the change.
    pub(crate) kv: KeyValue,
    /// The change of the same key before this one.
    pub(crate) previous: Option<Pointer>,
}

const RECORD: u8 = b'r';
/// The key under which the position of the state machine is kept.
pub(crate) const META_KEY: &[u8] = b"m";
const DELETED: u8 = 1;

impl Pointer {
    /// The engine's key for the change.
    pub(crate) fn engine_key(self) -> [u8; 13] {
        let mut key = [RECORD; 13];
        key[1..9].copy_from_slice(&self.revision.to_be_bytes());
        key[9..13].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    /// The engine's key before all changes of `revision`.
    pub(crate) fn first_of(revision: u64) -> Self {
        Self { revision, sub: 0 }
    }

    /// The pointer that an engine's key stands for.
    pub(crate) fn from_engine_key(key: &[u8]) -> Option<Self> {
        let revision = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
        let sub = u32::from_be_bytes(key.get(9..13)?.try_into().ok()?);
        (key[0] == RECORD && key.len() == 13).then_some(Self { revision, sub })
    }
}

impl Change {
    pub(crate) fn is_delete(&self) -> bool {
        self.kind == EventKind::Delete
    }

    /// The bytes that this holds in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        self.kv.key.len() + self.kv.value.len() + 192
    }

    /// The engine's value for the change.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let previous = self.previous.unwrap_or_default();
        let mut data = Vec::with_capacity(41 + self.kv.key.len() + self.kv.value.len());
        data.u8(if self.is_delete() { DELETED } else { 0 });
        data.u64(self.kv.create_revision);
        data.u64(self.kv.version);
        data.u64(self.kv.lease);
        data.u64(previous.revision);
        data.u32(previous.sub);
        data.bytes(&self.kv.key);
        data.extend_from_slice(&self.kv.value);
        data
    }

    /// Reads the engine's value; key and value share its bytes.
    pub(crate) fn decode(at: Pointer, data: Bytes, file: &Path) -> Result<Self, StoreError> {
        Self::parse(at, data).ok_or_else(|| {
            StoreError::corrupt(file, format!("the record of revision {} is cut short", at.revision))
        })
    }

    fn parse(at: Pointer, data: Bytes) -> Option<Self> {
        let mut reader = Reader::new(data);
        let kind = if reader.u8()? & DELETED == 0 { EventKind::Put } else { EventKind::Delete };
        let (create_revision, version, lease) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let previous = Pointer { revision: reader.u64()?, sub: reader.u32()? };
        let key = reader.bytes()?;
        let kv = KeyValue {
            key,
            value: reader.rest(),
            create_revision,
            mod_revision: at.revision,
            version,
            lease,
        };
        Some(Self { kind, kv, previous: (previous.revision != 0).then_some(previous) })
    }
}

/// Where the state machine stands; kept in the same batch as the changes that led there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The raft index of the last entry applied, and its term.
    pub(crate) applied: u64,
    pub(crate) term: u64,
    /// The newest revision.
    pub(crate) revision: u64,
    /// The revision of the last compaction, and up to where its work is done.
    pub(crate) compacted: u64,
    pub(crate) scrubbed: u64,
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut data = Vec::with_capacity(41);
        data.u8(1);
        data.u64(self.applied);
        data.u64(self.term);
        data.u64(self.revision);
        data.u64(self.compacted);
        data.u64(self.scrubbed);
        data
    }

    pub(crate) fn decode(data: Bytes) -> Option<Self> {
        let mut reader = Reader::new(data);
        if reader.u8()? != 1 {
            return None;
        }
        Some(Self {
            applied: reader.u64()?,
            term: reader.u64()?,
            revision: reader.u64()?,
            compacted: reader.u64()?,
            scrubbed: reader.u64()?,
        })
    }
}
