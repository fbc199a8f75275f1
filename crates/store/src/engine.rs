//! The small interface to sled: get, scan, atomic batch, checkpoint.
//!
//! sled moves values above a quarter of a segment to files of their own, which it never syncs, and
//! large segments make large bursts of writing that the raft log has to wait for. So segments are
//! small here and large values are split: the record then holds a mark and the number of parts,
//! and the parts have keys of their own. A value's first byte is below [`SPLIT`].
//!
//! sled alone is not durable here: its flush does not sync the disk. What makes a write durable is
//! the raft log; the engine only has to be durable up to the last [`Engine::checkpoint`], and to
//! hold, after any crash, the state at one applied index at or behind the log's end.

use crate::StoreError;
use bytes::Bytes;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SEGMENT: usize = 512 << 10;
/// The largest part of a value, well below a quarter of a segment.
const PART: usize = 64 << 10;
/// The first byte of a record whose value is split.
const SPLIT: u8 = 0x80;
/// The prefix of the keys of parts.
const PARTS: u8 = b'p';
/// sled gives space back only in its background flushes.
const BACKGROUND_FLUSH_MILLIS: u64 = 500;
const OPEN_ATTEMPTS: u32 = 50;
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// An atomic set of changes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    batch: sled::Batch,
}

impl Batch {
    /// Sets a key that is set once, or whose values are short.
    pub(crate) fn put(&mut self, key: &[u8], value: Vec<u8>) {
        if value.len() <= PART {
            return self.put_raw(key, value);
        }
        let mut parts = 0u32;
        for part in value.chunks(PART) {
            self.batch.insert(part_key(key, parts), part);
            parts += 1;
        }
        let mut mark = vec![SPLIT];
        mark.extend_from_slice(&parts.to_le_bytes());
        self.put_raw(key, mark);
    }

    /// Sets a key as [`Engine::scan_raw`] showed it.
    pub(crate) fn put_raw(&mut self, key: &[u8], value: Vec<u8>) {
        self.batch.insert(key, value);
    }

    /// Removes a key whose value is short.
    pub(crate) fn delete(&mut self, key: &[u8]) {
        self.batch.remove(key);
    }

    /// Removes a key and the parts of its value.
    pub(crate) fn delete_whole(&mut self, engine: &Engine, key: &[u8]) -> Result<(), StoreError> {
        let parts = engine.get_raw(key)?.as_ref().map_or(0, split_parts);
        for part in 0..parts {
            self.batch.remove(part_key(key, part));
        }
        self.batch.remove(key);
        Ok(())
    }
}

fn part_key(key: &[u8], part: u32) -> Vec<u8> {
    let mut part_key = Vec::with_capacity(key.len() + 5);
    part_key.push(PARTS);
    part_key.extend_from_slice(key);
    part_key.extend_from_slice(&part.to_be_bytes());
    part_key
}

/// In how many parts the value of a record is kept; 0 if it is whole.
fn split_parts(record: &Bytes) -> u32 {
    match record.split_first() {
        Some((&SPLIT, count)) => count.try_into().map_or(0, u32::from_le_bytes),
        _ => 0,
    }
}

/// An open sled database; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    tree: sled::Db,
    path: PathBuf,
}

impl Engine {
    /// Opens or creates the database in `path`. Blocks; waits a while for a dying process's lock.
    pub(crate) fn open(path: &Path, cache: u64) -> Result<Self, StoreError> {
        std::fs::create_dir_all(path)
            .map_err(|source| StoreError::io("create the directory", path, source))?;
        remove_unfinished_snapshots(path)?;
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(cache)
            .segment_size(SEGMENT)
            .flush_every_ms(Some(BACKGROUND_FLUSH_MILLIS));
        let mut attempt = 0;
        let tree = loop {
            match config.open() {
                Ok(tree) => break tree,
                Err(sled::Error::Io(source)) if attempt < OPEN_ATTEMPTS && is_locked(&source) => {
                    attempt += 1;
                    std::thread::sleep(OPEN_PAUSE);
                }
                Err(error) => return Err(store_error("open", path, error)),
            }
        };
        Ok(Self { tree, path: path.to_owned() })
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.get_raw(key)? {
            Some(record) => self.whole(key, record).map(Some),
            None => Ok(None),
        }
    }

    fn get_raw(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.tree.get(key).map_err(|error| store_error("read", &self.path, error))?;
        Ok(value.map(Bytes::from_owner))
    }

    /// Joins a value that is kept in parts.
    fn whole(&self, key: &[u8], record: Bytes) -> Result<Bytes, StoreError> {
        let parts = split_parts(&record);
        if parts == 0 {
            return Ok(record);
        }
        let mut value = Vec::with_capacity(parts as usize * PART);
        for part in 0..parts {
            let part = self
                .get_raw(&part_key(key, part))?
                .ok_or_else(|| StoreError::corrupt(self.path.join("db"), "a part of a value is missing"))?;
            value.extend_from_slice(&part);
        }
        Ok(value.into())
    }

    /// Keys and values in `start..end`, ascending.
    pub(crate) fn scan(
        &self,
        start: &[u8],
        end: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), StoreError>> + use<> {
        let engine = self.clone();
        self.scan_raw(start, end).map(move |item| {
            let (key, record) = item?;
            let value = engine.whole(&key, record)?;
            Ok((key, value))
        })
    }

    /// Everything in `start..end` as it is kept, parts included.
    pub(crate) fn scan_raw(
        &self,
        start: &[u8],
        end: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), StoreError>> + use<> {
        let path = self.path.clone();
        self.tree.range(start..end).map(move |item| {
            item.map(|(key, value)| (Bytes::from_owner(key), Bytes::from_owner(value)))
                .map_err(|error| store_error("read", &path, error))
        })
    }

    /// Applies a batch: after a crash either all of it is there or nothing.
    pub(crate) fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.tree.apply_batch(batch.batch).map_err(|error| store_error("write", &self.path, error))
    }

    /// Makes all applied batches durable.
    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        self.tree.flush().map_err(|error| store_error("flush", &self.path, error))?;
        let file = self.path.join("db");
        File::open(&file)
            .and_then(|database| database.sync_data())
            .map_err(|source| StoreError::io("sync", file, source))
    }

    /// Bytes on disk.
    pub(crate) fn size_on_disk(&self) -> u64 {
        self.tree.size_on_disk().unwrap_or(0)
    }

    /// Removes every key.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        self.tree.clear().map_err(|error| store_error("clear", &self.path, error))
    }
}

/// A process killed while sled writes its recovery snapshot leaves a file that sled takes for
/// damage.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), StoreError> {
    let list = |source| StoreError::io("list the directory", path, source);
    for entry in std::fs::read_dir(path).map_err(list)? {
        let entry = entry.map_err(list)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let file = entry.path();
            std::fs::remove_file(&file)
                .map_err(|source| StoreError::io("remove the unfinished snapshot", file, source))?;
        }
    }
    Ok(())
}

fn is_locked(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock || error.to_string().contains("lock")
}

fn store_error(action: &'static str, path: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(source) => StoreError::io(action, path, source),
        sled::Error::Corruption { .. } => StoreError::corrupt(path.join("db"), error.to_string()),
        other => StoreError::io(action, path, std::io::Error::other(other.to_string())),
    }
}
