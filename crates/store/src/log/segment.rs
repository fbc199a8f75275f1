//! One file of the log: a header, frames, and space written ahead.
//!
//! Space is written ahead as zeros and synced with the frame that needed it, so that most frames
//! overwrite blocks that exist: their sync touches no file system metadata.

use crate::StoreError;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"CORTNLG1";
/// Where the first frame begins.
pub(super) const FIRST_FRAME: u64 = 64;
/// How much space is written ahead at a time.
const AHEAD: u64 = 2 << 20;

/// An open segment file.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    sequence: u64,
    salt: u64,
    first_frame: u64,
    /// Up to here the file's blocks exist.
    reserved: u64,
    /// The highest index that was ever written to this segment.
    pub(super) max_index: u64,
}

impl Segment {
    /// Creates the segment durably under its final name.
    pub(super) fn create(dir: &Path, sequence: u64, first_frame: u64) -> Result<Self, StoreError> {
        let path = dir.join(file_name(sequence));
        let temporary = path.with_extension("new");
        let create = |source| StoreError::io("create the log segment", &path, source);
        let salt = fresh_salt();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(create)?;
        let mut head = [0u8; FIRST_FRAME as usize];
        head[0..8].copy_from_slice(MAGIC);
        head[8..16].copy_from_slice(&sequence.to_le_bytes());
        head[16..24].copy_from_slice(&salt.to_le_bytes());
        head[24..32].copy_from_slice(&first_frame.to_le_bytes());
        let checksum = crc32fast::hash(&head[0..32]);
        head[32..36].copy_from_slice(&checksum.to_le_bytes());
        file.write_all_at(&head, 0).map_err(create)?;
        let mut segment =
            Self { file, path, sequence, salt, first_frame, reserved: FIRST_FRAME, max_index: 0 };
        let prepared = segment.reserve(FIRST_FRAME + 1).and_then(|()| segment.sync());
        if let Err(error) = prepared {
            // The disk is full: the unfinished file must not keep what is left of it.
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
        std::fs::rename(&temporary, &segment.path)
            .map_err(|source| StoreError::io("create the log segment", &segment.path, source))?;
        sync_dir(dir)?;
        Ok(segment)
    }

    /// Opens an existing segment and checks its header.
    pub(super) fn open(dir: &Path, sequence: u64) -> Result<Self, StoreError> {
        let path = dir.join(file_name(sequence));
        let open = |source| StoreError::io("open the log segment", &path, source);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(open)?;
        let reserved = file.metadata().map_err(open)?.len();
        let mut head = [0u8; FIRST_FRAME as usize];
        file.read_exact_at(&mut head, 0)
            .map_err(|_| StoreError::corrupt(&path, "the file is shorter than its header"))?;
        let word =
            |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes are eight bytes"));
        let stored = u32::from_le_bytes(head[32..36].try_into().expect("four bytes"));
        if &head[0..8] != MAGIC || stored != crc32fast::hash(&head[0..32]) || word(8) != sequence {
            return Err(StoreError::corrupt(&path, "the segment header is damaged"));
        }
        let (salt, first_frame) = (word(16), word(24));
        Ok(Self { file, path, sequence, salt, first_frame, reserved, max_index: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    /// The number of the first frame.
    pub(super) fn first_frame(&self) -> u64 {
        self.first_frame
    }

    /// The whole content.
    pub(super) fn read_all(&self) -> Result<Vec<u8>, StoreError> {
        let mut content = vec![0; usize::try_from(self.reserved).unwrap_or(usize::MAX)];
        self.read(&mut content, 0)?;
        Ok(content)
    }

    /// Reads exactly `buffer.len()` bytes at `position`.
    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> Result<(), StoreError> {
        self.file
            .read_exact_at(buffer, position)
            .map_err(|source| StoreError::io("read the log segment", &self.path, source))
    }

    /// Whether blocks up to `end` exist.
    pub(super) fn is_reserved(&self, end: u64) -> bool {
        end <= self.reserved
    }

    /// Writes space ahead so that blocks up to `end` exist.
    pub(super) fn reserve(&mut self, end: u64) -> Result<(), StoreError> {
        if end <= self.reserved {
            return Ok(());
        }
        let target = end.div_ceil(AHEAD) * AHEAD;
        let zeros = vec![0u8; (target - self.reserved).min(AHEAD) as usize];
        let start = self.reserved;
        let mut position = start;
        while position < target {
            let length = (target - position).min(AHEAD) as usize;
            if let Err(source) = self.file.write_all_at(&zeros[..length], position) {
                // Give back what was taken; the next attempt starts from the same place.
                let _ = self.file.set_len(start);
                return Err(StoreError::io("extend the log segment", &self.path, source));
            }
            position += length as u64;
        }
        self.reserved = target;
        Ok(())
    }

    /// Writes and syncs; the blocks were reserved.
    pub(super) fn write(&self, bytes: &[u8], position: u64) -> Result<(), StoreError> {
        self.file
            .write_all_at(bytes, position)
            .map_err(|source| StoreError::io("write the log segment", &self.path, source))?;
        self.sync()
    }

    /// Overwrites everything from `position` on with zeros, durably.
    pub(super) fn clear_from(&mut self, position: u64) -> Result<(), StoreError> {
        let end = self.reserved;
        self.file
            .set_len(position)
            .map_err(|source| StoreError::io("cut the log segment", &self.path, source))?;
        self.reserved = position;
        self.reserve(end.min(position + AHEAD))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|source| StoreError::io("sync the log segment", &self.path, source))
    }

    /// Deletes the file.
    pub(super) fn remove(self) -> Result<(), StoreError> {
        std::fs::remove_file(&self.path)
            .map_err(|source| StoreError::io("remove the log segment", &self.path, source))
    }
}

/// The sequence numbers of the segments in `dir`, ascending; unfinished files are removed.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, StoreError> {
    let read = |source| StoreError::io("list the log directory", dir, source);
    let mut sequences = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let path = entry.map_err(read)?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("new") => std::fs::remove_file(&path)
                .map_err(|source| StoreError::io("remove the unfinished segment", &path, source))?,
            Some("log") => {
                let sequence = path
                    .file_stem()
                    .and_then(|stem| stem.to_str())
                    .and_then(|stem| u64::from_str_radix(stem, 16).ok())
                    .ok_or_else(|| StoreError::corrupt(&path, "the file name is not a number"))?;
                sequences.push(sequence);
            }
            _ => {}
        }
    }
    sequences.sort_unstable();
    Ok(sequences)
}

/// Makes creations, renames and removals in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| StoreError::io("sync the directory", dir, source))
}

fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}.log")
}

/// A number that no earlier segment used; from the randomness that seeds the standard hash map.
pub(crate) fn fresh_salt() -> u64 {
    RandomState::new().build_hasher().finish()
}
