//! The audit log: a file that is put aside when it is large, and whose old parts go
//! when they are many or old.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::Clock;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};

/// How the file is kept small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rotation {
    /// The largest file, in bytes; 0: it grows for ever.
    pub(super) size: u64,
    /// Days for which old parts are kept; 0: for ever.
    pub(super) days: u32,
    /// How many old parts are kept; 0: all.
    pub(super) count: usize,
    /// Whether old parts are compressed.
    pub(super) compresses: bool,
}

/// Where lines go.
pub(super) struct LogFile {
    to: To,
    rotation: Rotation,
    clock: Arc<dyn Clock>,
}

enum To {
    StandardOutput,
    File { path: PathBuf, file: File, size: u64 },
}

impl LogFile {
    /// Opens the file, `-` being the standard output.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn open(path: &Path, rotation: Rotation, clock: Arc<dyn Clock>) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { to: To::StandardOutput, rotation, clock });
        }
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { to: To::File { path: path.to_owned(), file, size }, rotation, clock })
    }

    /// Writes lines.
    ///
    /// # Errors
    /// The disk says no.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match &mut self.to {
            To::StandardOutput => io::stdout().lock().write_all(lines),
            To::File { path, file, size } => {
                let length = lines.len() as u64;
                if self.rotation.size > 0 && *size > 0 && *size + length > self.rotation.size {
                    rotate(path, self.rotation, self.clock.now())?;
                    (*file, *size) = (open(path)?, 0);
                }
                file.write_all(lines)?;
                *size += length;
                Ok(())
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The name's part before its extension, and the extension with its point.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map_or_else(String::new, |one| format!(".{}", one.to_string_lossy()));
    (text(path.file_stem()), extension)
}

/// Puts a file aside under the time's name, and clears old ones away.
fn rotate(path: &Path, rotation: Rotation, now: Timestamp) -> io::Result<()> {
    let (stem, extension) = parts(path);
    let time = now.strftime("%Y-%m-%dT%H-%M-%S%.3f").to_string();
    let aside = path.with_file_name(format!("{stem}-{time}{extension}"));
    std::fs::rename(path, &aside)?;
    if rotation.compresses {
        compress(&aside)?;
    }
    for old in old_parts(path)?.into_iter().enumerate().filter_map(|(index, (old, time))| {
        let is_too_many = rotation.count > 0 && index >= rotation.count;
        let keep = SignedDuration::from_hours(24 * i64::from(rotation.days));
        let is_too_old = rotation.days > 0 && now.duration_since(time) > keep;
        (is_too_many || is_too_old).then_some(old)
    }) {
        std::fs::remove_file(old)?;
    }
    Ok(())
}

fn compress(path: &Path) -> io::Result<()> {
    let mut to = path.as_os_str().to_owned();
    to.push(".gz");
    let target = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&to)?;
    let mut encoder = GzEncoder::new(target, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    std::fs::remove_file(path)
}

/// What was put aside, the youngest first.
fn old_parts(path: &Path) -> io::Result<Vec<(PathBuf, Timestamp)>> {
    let (stem, extension) = parts(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let time = plain.strip_prefix(&stem).and_then(|rest| rest.strip_prefix('-'));
        let time = time.and_then(|rest| rest.strip_suffix(&extension));
        let time = time.and_then(|time| jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%S%.3f", time).ok());
        if let Some(time) = time.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok()) {
            found.push((entry.path(), time.timestamp()));
        }
    }
    found.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use parking_lot::Mutex;

    use super::*;

    struct Moving(Mutex<Timestamp>);

    impl Clock for Moving {
        fn now(&self) -> Timestamp {
            let mut now = self.0.lock();
            *now += Duration::from_secs(3600);
            *now
        }

        fn monotonic(&self) -> Instant {
            daemon::SystemClock.monotonic()
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_large_file_is_put_aside_and_old_ones_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("logs/audit.log");
        let clock = Arc::new(Moving(Mutex::new("2026-01-01T00:00:00Z".parse().expect("a time"))));
        let rotation = Rotation { size: 10, count: 2, compresses: true, days: 0 };
        let mut log = LogFile::open(&path, rotation, clock).expect("opens");
        for _ in 0..5 {
            log.write(b"123456\n").expect("writes");
        }
        let folder = folder.path().join("logs");
        assert_eq!(
            names(&folder),
            ["audit-2026-01-01T03-00-00.000.log.gz", "audit-2026-01-01T04-00-00.000.log.gz", "audit.log"]
        );
        assert_eq!(std::fs::read(folder.join("audit.log")).expect("reads"), b"123456\n");
    }

    #[test]
    fn old_parts_go_by_their_age() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        for name in ["audit-2026-01-01T00-00-00.000.log", "audit-2026-01-09T00-00-00.000.log", "other.log"] {
            std::fs::write(folder.path().join(name), "x").expect("writes");
        }
        std::fs::write(&path, "x").expect("writes");
        let rotation = Rotation { size: 1, days: 5, ..Rotation::default() };
        rotate(&path, rotation, "2026-01-10T00:00:00Z".parse().expect("a time")).expect("rotates");
        assert_eq!(
            names(folder.path()),
            ["audit-2026-01-09T00-00-00.000.log", "audit-2026-01-10T00-00-00.000.log", "other.log"]
        );
    }
}
