//! Reading logs back: the CRI format to what the container wrote, with the
//! options of `kubectl logs`.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt as _;
use inotify::{Inotify, WatchMask};
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncSeekExt as _, BufReader};
use tokio::sync::mpsc;

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Go on with what is written later.
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<usize>,
    /// Only what is not older.
    pub since: Option<Timestamp>,
    /// At most this many bytes.
    pub limit: Option<u64>,
    /// With the time before each line.
    pub timestamps: bool,
    /// Only this stream: `stdout` or `stderr`.
    pub stream: Option<&'static str>,
}

/// One entry of a log file.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    time: &'a str,
    stream: &'a str,
    is_complete: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let (time, stream, tag) = (word()?, word()?, word()?);
    Some(Entry { time, stream, is_complete: tag.starts_with('F'), text: parts.next().unwrap_or_default() })
}

/// Turns entries into output; joins the parts of a line.
struct Output<'a> {
    options: &'a Options,
    left: u64,
    in_line: bool,
}

impl Output<'_> {
    /// The bytes to send for a line of the file, and whether that is all.
    fn render(&mut self, line: &[u8]) -> (Vec<u8>, bool) {
        let Some(entry) = parse(line) else { return (Vec::new(), false) };
        if self.options.stream.is_some_and(|stream| stream != entry.stream) {
            return (Vec::new(), false);
        }
        if let Some(since) = self.options.since
            && entry.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return (Vec::new(), false);
        }
        let mut bytes = Vec::new();
        if self.options.timestamps && !self.in_line {
            bytes.extend(entry.time.as_bytes());
            bytes.push(b' ');
        }
        bytes.extend(entry.text);
        if entry.is_complete {
            bytes.push(b'\n');
        }
        self.in_line = !entry.is_complete;
        if bytes.len() as u64 >= self.left {
            bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            return (bytes, true);
        }
        self.left -= bytes.len() as u64;
        (bytes, false)
    }
}

/// The files of a log, the oldest first.
fn files(path: &Path) -> Vec<PathBuf> {
    let numbered = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
    let mut files: Vec<PathBuf> = (1..1000).map(numbered).take_while(|file| file.exists()).collect();
    files.reverse();
    files.push(path.to_owned());
    files
}

/// A place in a log that spans several files: rotation renames them, so a file
/// is known by its inode.
struct Cursor<'a> {
    path: &'a Path,
    open: Option<(BufReader<File>, u64)>,
    /// A line whose end is not written yet.
    partial: Vec<u8>,
}

impl Cursor<'_> {
    /// The next whole line; nothing at the end of what is written.
    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some((reader, _)) = &mut self.open else {
                if self.advance().await? {
                    continue;
                }
                return Ok(None);
            };
            let length = reader.read_until(b'\n', &mut self.partial).await?;
            if length > 0 && self.partial.ends_with(b"\n") {
                self.partial.pop();
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
            if length == 0 && !self.advance().await? {
                return Ok(None);
            }
        }
    }

    /// Goes on to the next newer file, if there is one and the current one is
    /// read; whether there may be more to read.
    async fn advance(&mut self) -> io::Result<bool> {
        let inode = self.open.as_ref().map(|(_, inode)| *inode);
        let mut found = Vec::new();
        for path in files(self.path) {
            match File::open(&path).await {
                Ok(file) => found.push((file.metadata().await?.ino(), file)),
                // Renamed or removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // A current file that has been removed was the oldest of all.
        let at = found.iter().position(|(other, _)| Some(*other) == inode);
        let next = at.map_or(0, |at| at + 1);
        if next >= found.len() {
            return Ok(false);
        }
        if let Some((reader, _)) = &mut self.open
            && reader.read_until(b'\n', &mut self.partial).await? > 0
        {
            // Written between the last read and the rotation.
            return self.give_back().await;
        }
        self.partial.clear();
        let (inode, file) = found.swap_remove(next);
        self.open = Some((BufReader::new(file), inode));
        Ok(true)
    }

    /// Undoes the read of a line that the caller is to read by itself.
    async fn give_back(&mut self) -> io::Result<bool> {
        let length = i64::try_from(self.partial.len()).unwrap_or_default();
        self.partial.clear();
        if let Some((reader, _)) = &mut self.open {
            let _position = reader.seek(io::SeekFrom::Current(-length)).await?;
        }
        Ok(true)
    }
}

/// Sends a log to `sender` until its end; when following, until `over` says that
/// nothing will be added, or nobody listens.
///
/// # Errors
/// When the log cannot be read.
pub async fn stream(
    path: &Path,
    options: &Options,
    over: impl Future<Output = ()>,
    sender: &mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let mut output = Output { options, left: options.limit.unwrap_or(u64::MAX), in_line: false };
    // The watch comes first, so that nothing falls between it and the reads.
    let mut watch = if options.follow { Some(watch(path)?) } else { None };
    let mut cursor = Cursor { path, open: None, partial: Vec::new() };
    let mut kept = VecDeque::new();
    while let Some(line) = cursor.line().await? {
        match options.tail {
            Some(tail) => {
                kept.push_back(line);
                while kept.len() > tail {
                    kept.pop_front();
                }
            }
            None if send(&mut output, &line, sender).await => return Ok(()),
            None => {}
        }
    }
    for line in kept {
        if send(&mut output, &line, sender).await {
            return Ok(());
        }
    }
    tokio::pin!(over);
    while let Some(events) = &mut watch {
        let is_over = tokio::select! {
            () = &mut over => true,
            () = sender.closed() => return Ok(()),
            event = events.next() => match event {
                Some(event) => {
                    event?;
                    false
                }
                None => true,
            },
        };
        // Read after the question, so that nothing written before the end is lost.
        while let Some(line) = cursor.line().await? {
            if send(&mut output, &line, sender).await {
                return Ok(());
            }
        }
        if is_over {
            return Ok(());
        }
    }
    Ok(())
}

/// Watches the directory of a log: its files are written, renamed and made anew.
fn watch(path: &Path) -> io::Result<inotify::EventStream<[u8; 4096]>> {
    let directory = path.parent().unwrap_or(path);
    let inotify = Inotify::init()?;
    inotify.watches().add(directory, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO)?;
    inotify.into_event_stream([0; 4096])
}

/// Sends one line; whether that was the last.
async fn send(output: &mut Output<'_>, line: &[u8], sender: &mpsc::Sender<Bytes>) -> bool {
    let (bytes, is_all) = output.render(line);
    let is_closed = !bytes.is_empty() && sender.send(bytes.into()).await.is_err();
    is_all || is_closed
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.000000000Z stdout F one\n\
                       2026-01-01T00:00:02.000000000Z stderr F two\n\
                       2026-01-01T00:00:03.000000000Z stdout P thr\n\
                       2026-01-01T00:00:03.000000000Z stdout F ee\n";

    async fn read(options: Options) -> String {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).expect("write");
        let (sender, mut receiver) = mpsc::channel(64);
        stream(&path, &options, std::future::ready(()), &sender).await.expect("reads");
        drop(sender);
        let mut all = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            all.extend(bytes);
        }
        String::from_utf8(all).expect("text")
    }

    #[tokio::test]
    async fn options() {
        let plain = Options::default();
        assert_eq!(read(plain.clone()).await, "one\ntwo\nthree\n");
        assert_eq!(read(Options { tail: Some(3), ..plain.clone() }).await, "two\nthree\n");
        assert_eq!(read(Options { limit: Some(5), ..plain.clone() }).await, "one\nt");
        assert_eq!(read(Options { stream: Some("stderr"), ..plain.clone() }).await, "two\n");
        let since = "2026-01-01T00:00:02Z".parse().ok();
        assert_eq!(read(Options { since, follow: true, ..plain.clone() }).await, "two\nthree\n");
        let timed = read(Options { timestamps: true, tail: Some(2), ..plain }).await;
        assert_eq!(timed, "2026-01-01T00:00:03.000000000Z three\n");
    }

    /// One who follows gets every line once and in order, however often the files
    /// are rotated under him, and the line that is written in two goes.
    #[tokio::test]
    async fn following_across_rotations() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("0.log");
        let line = |number: u32| format!("2026-01-01T00:00:01.000000000Z stdout F {number}\n");
        let append = |text: &str| {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
            file.expect("open").write_all(text.as_bytes()).expect("write");
        };
        append(&line(0));
        let options = Options { follow: true, ..Options::default() };
        let (end, over) = tokio::sync::oneshot::channel::<()>();
        let (sender, mut receiver) = mpsc::channel(4);
        let reading = async {
            let over = async { drop(over.await) };
            let read = stream(&path, &options, over, &sender).await;
            drop(sender);
            read
        };
        let writing = async {
            let mut next =
                async || receiver.recv().await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            assert_eq!(next().await.as_deref(), Some("0\n"));
            let (front, back) = (&line(1)[..20], &line(1)[20..]);
            append(front);
            append(back);
            assert_eq!(next().await.as_deref(), Some("1\n"));
            // Twice between two looks of the reader.
            for round in 0..2 {
                append(&line(2 + round));
                for number in (1..3).rev() {
                    let from = dir.path().join(format!("0.log.{number}"));
                    if from.exists() {
                        std::fs::rename(from, dir.path().join(format!("0.log.{}", number + 1)))
                            .expect("rename");
                    }
                }
                std::fs::rename(&path, dir.path().join("0.log.1")).expect("rename");
            }
            append(&line(4));
            for expected in ["2\n", "3\n", "4\n"] {
                assert_eq!(next().await.as_deref(), Some(expected));
            }
            append(&line(5));
            drop(end);
            assert_eq!(next().await.as_deref(), Some("5\n"));
            assert_eq!(next().await, None);
        };
        let (read, ()) = tokio::join!(reading, writing);
        read.expect("reads");
    }
}
