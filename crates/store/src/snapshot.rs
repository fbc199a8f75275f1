//! The whole state as bytes, for a member that fell behind the log.
//!
//! The format is `key length, key, value length, value` for every record of the engine, closed by
//! a zero length and a checksum. The receiver keeps it as a file until its engine has it, so that
//! a crash in the middle starts the restore again.

use crate::StoreError;
use crate::apply::saver::Save;
use crate::codec::{Reader, Write};
use crate::engine::{Batch, Engine};
use crate::inbox::Inbox;
use crate::log::{SnapshotSource, sync_dir};
use crate::mvcc::{META_KEY, Meta};
use bytes::Bytes;
use parking_lot::Mutex;
use raft::eraftpb::{ConfState, Snapshot};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

const RESTORE_BATCH: usize = 4 << 20;

/// Reads the whole engine. Only its writer may call this, so that nothing moves meanwhile.
pub(crate) fn dump(engine: &Engine) -> Result<Vec<u8>, StoreError> {
    let mut data = Vec::new();
    for item in engine.scan_raw(&[], &[0xff]) {
        let (key, value) = item?;
        data.bytes(&key);
        data.bytes(&value);
    }
    data.u32(0);
    let checksum = crc32fast::hash(&data);
    data.u32(checksum);
    Ok(data)
}

/// Where a received snapshot is kept until the engine has it.
pub(crate) fn file(data_dir: &Path, index: u64) -> PathBuf {
    data_dir.join(format!("snapshot-{index:016x}"))
}

/// Writes a received snapshot durably.
pub(crate) fn write(data_dir: &Path, index: u64, data: &[u8]) -> Result<PathBuf, StoreError> {
    let path = file(data_dir, index);
    let temporary = path.with_extension("new");
    let failed = |source| StoreError::io("write the snapshot", &path, source);
    let mut output = File::create(&temporary).map_err(failed)?;
    output.write_all(data).and_then(|()| output.sync_all()).map_err(failed)?;
    std::fs::rename(&temporary, &path).map_err(failed)?;
    sync_dir(data_dir)?;
    Ok(path)
}

/// Removes snapshots once the engine stands: what it needed of them, it has.
pub(crate) fn remove_unneeded(data_dir: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::io("clean up snapshots in", data_dir, source);
    for entry in std::fs::read_dir(data_dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("snapshot-") {
            std::fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// Replaces the engine's content with a snapshot. Until the last record, which says where the
/// state stands, the engine counts as empty, so that a crash in between is noticed.
pub(crate) fn restore(engine: &Engine, file: &Path) -> Result<Meta, StoreError> {
    let data = std::fs::read(file).map_err(|source| StoreError::io("read", file, source))?;
    let damaged = || StoreError::corrupt(file, "the snapshot is cut short or damaged");
    let end = data.len().checked_sub(4).ok_or_else(damaged)?;
    if crc32fast::hash(&data[..end]).to_le_bytes() != data[end..] {
        return Err(damaged());
    }
    let mut removal = Batch::default();
    removal.delete(META_KEY);
    engine.apply(removal)?;
    engine.checkpoint()?;
    engine.clear()?;
    let mut reader = Reader::new(Bytes::from(data).slice(..end));
    let mut meta = None;
    let mut batch = Batch::default();
    let mut size = 0;
    loop {
        let key = reader.bytes().ok_or_else(damaged)?;
        if key.is_empty() {
            break;
        }
        let value = reader.bytes().ok_or_else(damaged)?;
        if key == META_KEY {
            meta = Some(value);
            continue;
        }
        size += key.len() + value.len();
        batch.put_raw(&key, value.to_vec());
        if size >= RESTORE_BATCH {
            engine.apply(std::mem::take(&mut batch))?;
            size = 0;
        }
    }
    let meta = meta.ok_or_else(damaged)?;
    batch.put(META_KEY, meta.to_vec());
    engine.apply(batch)?;
    engine.checkpoint()?;
    Meta::decode(meta).ok_or_else(damaged)
}

/// The whole state, and where it stands.
pub(crate) type Dumped = Result<(Meta, Vec<u8>), StoreError>;

/// Makes snapshots when raft asks: on the saver's thread, while raft goes on.
pub(crate) struct SnapshotMaker {
    saver: Arc<Inbox<Save>>,
    members: ConfState,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    underway: Option<mpsc::Receiver<Dumped>>,
    ready: Option<Snapshot>,
}

impl SnapshotMaker {
    pub(crate) fn new(saver: Arc<Inbox<Save>>, members: ConfState) -> Self {
        Self { saver, members, slot: Mutex::default() }
    }

    /// The log must keep what follows this index for the receiver of the last snapshot.
    pub(crate) fn pinned(&self) -> Option<u64> {
        self.slot.lock().ready.as_ref().map(|snapshot| snapshot.get_metadata().index)
    }

    /// No receiver is left.
    pub(crate) fn release(&self) {
        self.slot.lock().ready = None;
    }

    fn collect(&self, slot: &mut Slot) {
        let Some(underway) = &slot.underway else { return };
        match underway.try_recv() {
            Ok(Ok((meta, data))) => {
                let mut snapshot = Snapshot { data, ..Snapshot::default() };
                let metadata = snapshot.mut_metadata();
                metadata.index = meta.applied;
                metadata.term = meta.term;
                metadata.conf_state = Some(self.members.clone());
                slot.ready = Some(snapshot);
                slot.underway = None;
            }
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot make a snapshot");
                slot.underway = None;
            }
            Err(mpsc::TryRecvError::Disconnected) => slot.underway = None,
            Err(mpsc::TryRecvError::Empty) => {}
        }
    }
}

impl SnapshotSource for SnapshotMaker {
    fn snapshot(&self, index: u64) -> Option<Snapshot> {
        let mut slot = self.slot.lock();
        self.collect(&mut slot);
        let ready = slot.ready.as_ref().filter(|ready| ready.get_metadata().index >= index);
        if let Some(ready) = ready {
            return Some(ready.clone());
        }
        if slot.underway.is_none() {
            let (done, underway) = mpsc::channel();
            if self.saver.push(Save::Snapshot { done }, 0).is_ok() {
                slot.underway = Some(underway);
            }
        }
        None
    }
}
