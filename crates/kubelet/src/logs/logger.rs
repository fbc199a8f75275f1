//! The logger: a process that containerd's shim starts for each container
//! (`binary://`), so that logs go on while the kubelet is away.
//!
//! The shim hands over standard output as descriptor 3, standard error as 4, and
//! waits until 5 is closed. Lines are written in the CRI format (`TIME STREAM
//! TAG TEXT`), a line that is not complete after a moment with the tag `P`.
//! Files are rotated by size. SIGTERM is ignored: the end of the pipes ends us.
//!
//! The shim's `binary://` gives a container no standard input, unless it has a
//! terminal. For such a container the kubelet starts the logger ([`start`]), which
//! reads named pipes. Whoever is the logger holds a lock: a kubelet that restarts
//! starts another to be sure, which leaves at once if it is not needed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

/// The word that makes the kubelet's executable a logger.
pub const SUBCOMMAND: &str = "logger";
/// An incomplete line is written after this time without more.
const PATIENCE: Duration = Duration::from_millis(100);
/// A container that does not open its pipes in this time was never started.
const OPEN: Duration = Duration::from_secs(30);
/// The time for the last lines after a container's end.
const DRAIN: Duration = Duration::from_secs(5);
/// The longest line kept together.
const LONGEST_LINE: usize = 16 << 10;

/// What a logger is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The file.
    pub file: PathBuf,
    /// Rotate at this size, in bytes.
    pub max_size: u64,
    /// Files to keep, the current one included.
    pub max_files: u32,
    /// A pipe to hold open for writing, so that the container's input does not
    /// end when one who attached to it leaves.
    pub hold: Option<PathBuf>,
    /// Named pipes to read instead of what the shim hands over.
    #[serde(default)]
    pub pipes: Option<Pipes>,
}

/// Where a container writes that was not started with `binary://`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipes {
    /// Its standard output.
    pub stdout: PathBuf,
    /// Its standard error.
    pub stderr: PathBuf,
    /// The file whose lock the logger holds.
    pub lock: PathBuf,
}

impl Plan {
    /// The address that containerd gets.
    #[must_use]
    pub fn uri(&self, executable: &Path) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        let escaped: String = text
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        format!("binary://{}?{SUBCOMMAND}={escaped}", executable.display())
    }
}

/// Runs the logger to its end: `kubelet logger PLAN`.
///
/// # Errors
/// When the plan is malformed, or the log cannot be written.
pub fn run(plan: &str) -> io::Result<()> {
    let plan: Plan = serde_json::from_str(plan)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(plan));
    // A pipe that nobody opened is not waited for.
    runtime.shutdown_background();
    served
}

/// Starts a logger that outlives this process, for a plan with pipes.
///
/// # Errors
/// When it cannot be started.
pub fn start(executable: &Path, plan: &Plan) -> io::Result<()> {
    let text = serde_json::to_string(plan)?;
    let mut child = tokio::process::Command::new(executable)
        .args([SUBCOMMAND, &text])
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        // Not ended with us by a signal to our group.
        .process_group(0)
        .spawn()?;
    daemon::tasks::spawn("logger", async move {
        if let Err(error) = child.wait().await {
            tracing::debug!(error = %error, "logger not waited for");
        }
    });
    Ok(())
}

/// Waits until a logger has written everything, at most a moment.
pub async fn ended(pipes: &Pipes) {
    let path = pipes.lock.clone();
    let locked = tokio::task::spawn_blocking(move || lock(&path, nix::fcntl::FlockArg::LockExclusive));
    if tokio::time::timeout(DRAIN, locked).await.is_err() {
        tracing::warn!(lock = %pipes.lock.display(), "logger has not ended in time");
    }
}

fn lock(path: &Path, how: nix::fcntl::FlockArg) -> io::Result<nix::fcntl::Flock<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    nix::fcntl::Flock::lock(file, how).map_err(|(_, errno)| errno.into())
}

async fn serve(plan: Plan) -> io::Result<()> {
    // Handlers that do nothing: the signals no longer end us.
    let _term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let _interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let _held = match &plan.hold {
        Some(path) => Some(OpenOptions::new().read(true).write(true).open(path)?),
        None => None,
    };
    let (stdout, stderr, _locked) = match plan.pipes.clone() {
        None => (inherited(3)?, inherited(4)?, None),
        Some(pipes) => {
            let Ok(locked) = lock(&pipes.lock, nix::fcntl::FlockArg::LockExclusiveNonblock) else {
                // Another is at work.
                return Ok(());
            };
            let (stdout, stderr) = tokio::try_join!(open_pipe(pipes.stdout), open_pipe(pipes.stderr))?;
            (stdout, stderr, Some(locked))
        }
    };
    let is_started_by_shim = plan.pipes.is_none();
    let mut log = Log::open(plan)?;
    let (sender, mut lines) = mpsc::channel(256);
    let out = daemon::tasks::spawn("logger-stdout", cut(stdout, "stdout", sender.clone()));
    let err = daemon::tasks::spawn("logger-stderr", cut(stderr, "stderr", sender));
    if is_started_by_shim {
        // Closing it says that we are ready.
        drop(descriptor(5));
    }
    while let Some(line) = lines.recv().await {
        log.write(&line)?;
    }
    drop((out, err));
    Ok(())
}

/// One line, or part of one.
struct Line {
    stream: &'static str,
    is_complete: bool,
    text: Vec<u8>,
}

/// A descriptor that we were started with.
#[expect(
    unsafe_code,
    reason = "the shim's contract is about descriptor numbers; nobody else in this process has them"
)]
fn descriptor(number: i32) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd as _;
    // SAFETY: the process was started with this descriptor open for us alone,
    // and each number is taken once.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(number) }
}

/// Opens a named pipe as soon as the container's side is open: before, its end
/// would be seen at once.
async fn open_pipe(path: PathBuf) -> io::Result<pipe::Receiver> {
    let opening = tokio::task::spawn_blocking(move || File::open(path));
    let file = tokio::time::timeout(OPEN, opening).await.map_err(io::Error::other)??;
    pipe::Receiver::from_file(file?)
}

fn inherited(number: i32) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(descriptor(number))
}

/// Reads a stream and cuts it into lines.
async fn cut(mut stream: pipe::Receiver, name: &'static str, sender: mpsc::Sender<Line>) {
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 32 << 10];
    loop {
        let wait = if pending.is_empty() { Duration::from_secs(3600) } else { PATIENCE };
        let read = tokio::time::timeout(wait, stream.read(&mut buffer)).await;
        let is_quiet = read.is_err();
        let length = match read {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(length)) => length,
            Err(_) => 0,
        };
        pending.extend(&buffer[..length]);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let rest = pending.split_off(end + 1);
            let mut text = std::mem::replace(&mut pending, rest);
            text.pop();
            if sender.send(Line { stream: name, is_complete: true, text }).await.is_err() {
                return;
            }
        }
        if (is_quiet && !pending.is_empty()) || pending.len() >= LONGEST_LINE {
            let text = std::mem::take(&mut pending);
            if sender.send(Line { stream: name, is_complete: false, text }).await.is_err() {
                return;
            }
        }
    }
    if !pending.is_empty() {
        // The receiver ends only with us.
        let _ignored = sender.send(Line { stream: name, is_complete: true, text: pending }).await;
    }
}

struct Log {
    plan: Plan,
    file: File,
    size: u64,
}

impl Log {
    /// The directory is the kubelet's to make: a logger that comes up late, after
    /// its pod is gone, leaves nothing.
    fn open(plan: Plan) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&plan.file)?;
        let size = file.metadata()?.len();
        Ok(Self { plan, file, size })
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let tag = if line.is_complete { "F" } else { "P" };
        let mut entry = format!("{} {} {tag} ", stamp(crate::time::now()), line.stream).into_bytes();
        entry.extend(&line.text);
        entry.push(b'\n');
        self.file.write_all(&entry)?;
        self.size += entry.len() as u64;
        if line.is_complete && self.plan.max_size > 0 && self.size >= self.plan.max_size {
            self.rotate()?;
        }
        Ok(())
    }

    /// `0.log` becomes `0.log.1`, that `0.log.2`, and so on.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.plan.file.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let keep = self.plan.max_files.max(2) - 1;
        for number in (1..keep).rev() {
            if numbered(number).exists() {
                std::fs::rename(numbered(number), numbered(number + 1))?;
            }
        }
        std::fs::rename(&self.plan.file, numbered(1))?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.plan.file)?;
        self.size = 0;
        Ok(())
    }
}

/// The time as the CRI format has it: always nine digits of a second.
fn stamp(time: jiff::Timestamp) -> String {
    let whole = jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string();
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), time.subsec_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_survive_escaping() {
        let plan =
            Plan { file: "/var/log/a b.log".into(), max_size: 1, max_files: 2, hold: None, pipes: None };
        let uri = plan.uri(Path::new("/bin/kubelet"));
        assert!(uri.starts_with("binary:///bin/kubelet?logger=%7B%22file"), "{uri}");
        assert!(!uri.contains(' '));
    }

    #[test]
    fn rotation_keeps_as_many_files_as_asked() {
        let dir = tempfile::tempdir().expect("temp dir");
        let plan =
            Plan { file: dir.path().join("c/0.log"), max_size: 100, max_files: 3, hold: None, pipes: None };
        assert!(Log::open(plan.clone()).is_err(), "its directory is not its own to make");
        std::fs::create_dir(dir.path().join("c")).expect("mkdir");
        let mut log = Log::open(plan).expect("open");
        for number in 0..10 {
            let text = format!("line {number} {}", "x".repeat(80)).into_bytes();
            log.write(&Line { stream: "stdout", is_complete: true, text }).expect("write");
        }
        let mut names: Vec<String> = std::fs::read_dir(dir.path().join("c"))
            .expect("list")
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.1", "0.log.2"]);
        let last = std::fs::read_to_string(dir.path().join("c/0.log.1")).expect("read");
        assert!(last.contains(" stdout F line 9 "), "{last}");
    }

    #[test]
    fn stamps() {
        let time = jiff::Timestamp::new(0, 5_000_000).expect("a time");
        assert_eq!(stamp(time), "1970-01-01T00:00:00.005000000Z");
    }
}
