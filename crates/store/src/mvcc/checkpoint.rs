//! The index as a file, so that a start need not read all of history.
//!
//! The file holds every key's newest change as of some revision, or a later one: it is written
//! while changes go on. That does no harm, because a start reads the changes after that revision
//! from the engine again. It is used only if the engine holds everything that the file mentions,
//! and if no deletion after its revision has been compacted away; otherwise, or if it is damaged,
//! all of history is read.

use super::Mvcc;
use super::index::{Index, KeyMeta};
use super::record::{Meta, Pointer};
use crate::StoreError;
use crate::codec::{Reader, Write as _};
use bytes::Bytes;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

const MAGIC: u32 = 0x3158_4e43;
/// How many keys are copied under one lock.
const CHUNK: usize = 4096;
/// How many changes a start may have to read before a new file is due, at least.
const DUE: u64 = 50_000;

/// An index file that waits for the engine to hold everything that it mentions.
#[derive(Debug)]
pub(crate) struct PendingIndex {
    temporary: PathBuf,
    path: PathBuf,
    /// Complete up to this revision.
    pub(crate) complete: u64,
    /// Mentions no later revision than this.
    pub(crate) newest: u64,
}

impl PendingIndex {
    /// Puts the file in its place, durably.
    pub(crate) fn publish(self) -> Result<(), StoreError> {
        std::fs::rename(&self.temporary, &self.path)
            .map_err(|source| StoreError::io("replace the index", &self.path, source))?;
        self.path.parent().map_or(Ok(()), crate::log::sync_dir)
    }
}

impl Mvcc {
    /// Whether a file that is complete up to `complete` should be replaced.
    pub(crate) fn is_index_due(&self, complete: u64) -> bool {
        let state = self.state.read();
        state.revision.saturating_sub(complete) > DUE.max(state.index.live() / 4)
    }

    /// Writes the index beside `path`.
    pub(crate) fn write_index(&self, path: &Path) -> Result<PendingIndex, StoreError> {
        let temporary = path.with_extension("new");
        let failed = |source| StoreError::io("write the index", &temporary, source);
        let mut file = Checked::create(&temporary).map_err(failed)?;
        let complete = self.revision();
        let mut head = Vec::new();
        head.u32(MAGIC);
        head.u64(complete);
        file.write(&head).map_err(failed)?;
        let mut cursor = Some(Bytes::new());
        while let Some(start) = cursor.take() {
            let mut chunk = Vec::new();
            {
                let state = self.state.read();
                for (seen, (key, meta)) in state.index.range(&start, b"").enumerate() {
                    if seen == CHUNK {
                        cursor = Some(key.clone());
                        break;
                    }
                    encode(key, meta, &mut chunk);
                }
            }
            file.write(&chunk).map_err(failed)?;
        }
        let newest = self.revision();
        let mut end = Vec::new();
        end.u32(0);
        end.u64(newest);
        file.write(&end).map_err(failed)?;
        file.finish().map_err(failed)?;
        Ok(PendingIndex { temporary, path: path.to_owned(), complete, newest })
    }
}

fn encode(key: &Bytes, meta: &KeyMeta, data: &mut Vec<u8>) {
    data.bytes(key);
    data.u64(meta.at.revision);
    data.u32(meta.at.sub);
    data.u64(meta.create_revision);
    data.u64(meta.version);
    data.u64(meta.lease);
}

/// Reads the file, if it can be used for a state at `meta`; gives also up to where it is complete.
pub(super) fn read_index(path: &Path, meta: Meta) -> Option<(Index, u64)> {
    let data = Bytes::from(std::fs::read(path).ok()?);
    let end = data.len().checked_sub(4)?;
    let is_whole = crc32fast::hash(&data[..end]).to_le_bytes() == data[end..];
    let newest = is_whole.then(|| parse(data.slice(..end))).flatten();
    let Some((keys, complete, newest)) = newest else {
        tracing::warn!(file = %path.display(), "the index is damaged, reading all of history");
        return None;
    };
    if newest > meta.revision || meta.compacted > complete {
        return None;
    }
    Some((Index::from_sorted(keys), complete))
}

fn parse(data: Bytes) -> Option<(Vec<(Bytes, KeyMeta)>, u64, u64)> {
    let mut reader = Reader::new(data);
    if reader.u32()? != MAGIC {
        return None;
    }
    let complete = reader.u64()?;
    let mut keys = Vec::new();
    loop {
        let key = reader.bytes()?;
        if key.is_empty() {
            return Some((keys, complete, reader.u64()?));
        }
        let at = Pointer { revision: reader.u64()?, sub: reader.u32()? };
        let (create_revision, version, lease) = (reader.u64()?, reader.u64()?, reader.u64()?);
        // A copy, so that one key does not hold the whole file in memory.
        let key = Bytes::copy_from_slice(&key);
        keys.push((key, KeyMeta { at, create_revision, version, lease }));
    }
}

/// A file that ends with the checksum of its content.
struct Checked {
    file: BufWriter<File>,
    hasher: crc32fast::Hasher,
}

impl Checked {
    fn create(path: &Path) -> std::io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        Ok(Self { file, hasher: crc32fast::Hasher::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    fn finish(mut self) -> std::io::Result<()> {
        let checksum = self.hasher.finalize();
        self.file.write_all(&checksum.to_le_bytes())?;
        self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    }
}
