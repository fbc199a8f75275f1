//! Reading logs back: the CRI format to what the container wrote, with the
//! options of `kubectl logs`.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
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

/// How long to wait before looking for more.
const FOLLOW_PAUSE: Duration = Duration::from_millis(50);

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

/// Sends a log to `sender` until its end; when following, until `is_over` says
/// that nothing will be added, or nobody listens.
///
/// # Errors
/// When the log cannot be read.
pub async fn stream(
    path: &Path,
    options: &Options,
    is_over: impl Fn() -> bool,
    sender: &mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let mut output = Output { options, left: options.limit.unwrap_or(u64::MAX), in_line: false };
    let mut position = 0;
    let old = files(path);
    let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
    let mut current = None;
    for file in &old {
        let is_last = file == path;
        let opened = match tokio::fs::File::open(file).await {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut reader = BufReader::new(opened);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).await?;
            if length == 0 || line.last() != Some(&b'\n') {
                break;
            }
            if is_last {
                position += length as u64;
            }
            line.pop();
            match options.tail {
                Some(tail) => {
                    kept.push_back(line.clone());
                    while kept.len() > tail {
                        kept.pop_front();
                    }
                }
                None if send(&mut output, &line, sender).await => return Ok(()),
                None => {}
            }
        }
        if is_last {
            current = Some(reader);
        }
    }
    for line in kept {
        if send(&mut output, &line, sender).await {
            return Ok(());
        }
    }
    if !options.follow {
        return Ok(());
    }
    follow(path, current, position, &mut output, is_over, sender).await
}

/// Sends one line; whether that was the last.
async fn send(output: &mut Output<'_>, line: &[u8], sender: &mpsc::Sender<Bytes>) -> bool {
    let (bytes, is_all) = output.render(line);
    let is_closed = !bytes.is_empty() && sender.send(bytes.into()).await.is_err();
    is_all || is_closed
}

async fn follow(
    path: &Path,
    mut reader: Option<BufReader<tokio::fs::File>>,
    mut position: u64,
    output: &mut Output<'_>,
    is_over: impl Fn() -> bool,
    sender: &mpsc::Sender<Bytes>,
) -> io::Result<()> {
    loop {
        // Asked before the read, so that nothing written before the end is lost.
        let over = is_over();
        let mut line = Vec::new();
        if reader.is_none() {
            reader = tokio::fs::File::open(path).await.ok().map(BufReader::new);
            position = 0;
        }
        if let Some(open) = &mut reader {
            open.seek(io::SeekFrom::Start(position)).await?;
            loop {
                line.clear();
                let length = open.read_until(b'\n', &mut line).await?;
                if length == 0 || line.last() != Some(&b'\n') {
                    break;
                }
                position += length as u64;
                line.pop();
                if send(output, &line, sender).await {
                    return Ok(());
                }
            }
            // After a rotation the name means another, shorter file.
            if tokio::fs::metadata(path).await.map_or(true, |meta| meta.len() < position) {
                reader = None;
                continue;
            }
        }
        if over || sender.is_closed() {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_PAUSE).await;
    }
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
        stream(&path, &options, || true, &sender).await.expect("reads");
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
}
