//! The small interface to sled: get, scan, atomic batch, checkpoint.
//!
//! sled alone is not durable here: its flush does not sync the disk. What makes a write durable is
//! the raft log; the engine only has to be durable up to the last [`Engine::checkpoint`], and to
//! hold, after any crash, the state at one applied index at or behind the log's end.

use crate::StoreError;
use bytes::Bytes;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Values above a quarter of a segment would go to files that are never synced.
const SEGMENT: usize = 8 << 20;
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
    /// Sets a key.
    pub(crate) fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.batch.insert(key, value);
    }

    /// Removes a key.
    pub(crate) fn delete(&mut self, key: &[u8]) {
        self.batch.remove(key);
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
        let value = self.tree.get(key).map_err(|error| store_error("read", &self.path, error))?;
        Ok(value.map(Bytes::from_owner))
    }

    /// Keys and values in `start..end`, ascending.
    pub(crate) fn scan(
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
        self.tree
            .apply_batch(batch.batch)
            .map_err(|error| store_error("write", &self.path, error))
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
