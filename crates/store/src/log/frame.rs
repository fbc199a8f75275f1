//! The unit of writing: everything that one turn of the raft loop persists, under one checksum.
//!
//! A frame is `[length u32 | checksum u32 | number u64 | items]`, little endian, padded to eight
//! bytes. An item is `[kind u8 | length u32 | bytes]`. Frames are numbered without gap, and each is
//! on disk before the next is written; so a frame that cannot be read is a torn tail if nothing
//! readable follows it, and damage if something does. The checksum starts from the segment's salt:
//! what an earlier use of the same disk space left behind never looks like a frame.

use super::segment::Segment;
use crate::StoreError;
use prost011::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState, SnapshotMetadata};

/// The bytes before a frame's items.
pub(super) const HEADER: usize = 16;
const ALIGNMENT: u64 = 8;

/// What a frame can hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// The index and term just before the first entry of a segment.
    Base { index: u64, term: u64 },
    /// Raft's term, vote and commit index.
    Hard(HardState),
    /// The members.
    Conf(ConfState),
    /// A log entry; it replaces any with the same or a higher index.
    Entry(Entry),
    /// The state machine was replaced by a snapshot: everything before is void.
    Snapshot(SnapshotMetadata),
}

const BASE: u8 = 1;
const HARD: u8 = 2;
const CONF: u8 = 3;
const ENTRY: u8 = 4;
const SNAPSHOT: u8 = 5;

/// Builds one frame in a buffer that is reused.
#[derive(Debug, Default)]
pub(super) struct FrameBuilder {
    buffer: Vec<u8>,
}

impl FrameBuilder {
    /// Starts a frame.
    pub(super) fn start(&mut self) {
        self.buffer.clear();
        self.buffer.resize(HEADER, 0);
    }

    /// Whether the frame holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.len() <= HEADER
    }

    /// Adds the position before a segment's first entry.
    pub(super) fn base(&mut self, index: u64, term: u64) {
        self.buffer.push(BASE);
        self.buffer.extend_from_slice(&16u32.to_le_bytes());
        self.buffer.extend_from_slice(&index.to_le_bytes());
        self.buffer.extend_from_slice(&term.to_le_bytes());
    }

    /// Adds raft's hard state.
    pub(super) fn hard(&mut self, hard: &HardState) {
        self.message(HARD, hard);
    }

    /// Adds the members.
    pub(super) fn conf(&mut self, conf: &ConfState) {
        self.message(CONF, conf);
    }

    /// Adds a log entry.
    pub(super) fn entry(&mut self, entry: &Entry) {
        self.message(ENTRY, entry);
    }

    /// Adds the mark of an installed snapshot.
    pub(super) fn snapshot(&mut self, metadata: &SnapshotMetadata) {
        self.message(SNAPSHOT, metadata);
    }

    fn message(&mut self, kind: u8, message: &impl prost011::Message) {
        let length = message.encoded_len();
        self.buffer.reserve(5 + length);
        self.buffer.push(kind);
        self.buffer.extend_from_slice(&u32_length(length));
        // Encoding into a Vec grows it as needed and cannot fail.
        message.encode_raw(&mut self.buffer);
    }

    /// Seals the frame: the bytes to write, padded.
    pub(super) fn finish(&mut self, salt: u64, number: u64) -> &[u8] {
        let length = self.buffer.len() - HEADER;
        self.buffer[0..4].copy_from_slice(&u32_length(length));
        self.buffer[8..16].copy_from_slice(&number.to_le_bytes());
        let checksum = checksum(salt, &self.buffer[8..]);
        self.buffer[4..8].copy_from_slice(&checksum.to_le_bytes());
        let padded = padded(self.buffer.len() as u64) as usize;
        self.buffer.resize(padded, 0);
        &self.buffer
    }

    /// The size that the frame will have on disk.
    pub(super) fn size(&self) -> u64 {
        padded(self.buffer.len() as u64)
    }
}

fn u32_length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("raft limits what one turn persists to far below 4 GiB").to_le_bytes()
}

fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// The length of a frame of `length` bytes with its padding.
pub(super) fn padded(length: u64) -> u64 {
    length.div_ceil(ALIGNMENT) * ALIGNMENT
}

/// Looks for frame `number` at the start of `bytes`; gives its items' bytes if it is whole.
pub(super) fn read(bytes: &[u8], salt: u64, number: u64) -> Option<&[u8]> {
    let (length, found) = header(bytes)?;
    let end = HEADER.checked_add(length)?;
    if found != number || length == 0 || end > bytes.len() {
        return None;
    }
    let stored = u32::from_le_bytes(bytes[4..8].try_into().ok()?);
    (checksum(salt, &bytes[8..end]) == stored).then(|| &bytes[HEADER..end])
}

/// A frame header's length and number.
pub(super) fn header(bytes: &[u8]) -> Option<(usize, u64)> {
    let length = u32::from_le_bytes(bytes.get(0..4)?.try_into().ok()?);
    let number = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    Some((length as usize, number))
}

/// Whether a whole frame with a number above `number` begins anywhere in `bytes`, which starts at
/// a frame's alignment.
pub(super) fn any_follows(bytes: &[u8], salt: u64, number: u64) -> bool {
    let most = number + bytes.len() as u64 / ALIGNMENT;
    (0..bytes.len()).step_by(ALIGNMENT as usize).any(|at| {
        let rest = &bytes[at..];
        header(rest).is_some_and(|(length, found)| {
            length > 0 && found > number && found <= most && read(rest, salt, found).is_some()
        })
    })
}

/// Takes a frame apart.
pub(super) fn items(mut bytes: &[u8], segment: &Segment) -> Result<Vec<Item>, StoreError> {
    let mut items = Vec::new();
    while !bytes.is_empty() {
        let (item, rest) = item(bytes)
            .ok_or_else(|| StoreError::corrupt(segment.path(), "a frame holds an unknown item"))?;
        items.push(item);
        bytes = rest;
    }
    Ok(items)
}

fn item(bytes: &[u8]) -> Option<(Item, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let (body, rest) = rest.split_at_checked(length)?;
    let item = match *kind {
        BASE => Item::Base {
            index: u64::from_le_bytes(body.get(0..8)?.try_into().ok()?),
            term: u64::from_le_bytes(body.get(8..16)?.try_into().ok()?),
        },
        HARD => Item::Hard(HardState::decode(body).ok()?),
        CONF => Item::Conf(ConfState::decode(body).ok()?),
        ENTRY => Item::Entry(Entry::decode(body).ok()?),
        SNAPSHOT => Item::Snapshot(SnapshotMetadata::decode(body).ok()?),
        _ => return None,
    };
    Some((item, rest))
}
