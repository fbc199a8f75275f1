//! A client inside a node's network that asks the application again and again,
//! and remembers every question that was not answered.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use parking_lot::Mutex;

const ANSWER: Duration = Duration::from_secs(2);
/// Bounds the load.
const PAUSE: Duration = Duration::from_millis(5);

/// Runs something in another network namespace.
pub(crate) fn inside<T: Send>(namespace: &Path, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            run()
        });
        thread.join().expect("the thread inside the namespace")
    })
}

fn enter(namespace: &Path) {
    let file = std::fs::File::open(namespace).expect("the namespace");
    setns(file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
}

/// One question over HTTP.
pub(crate) fn ask(address: IpAddr, port: u16) -> Result<String, String> {
    let to = SocketAddr::new(address, port);
    let failed = |error: std::io::Error| format!("{to}: {error}");
    let mut connection = TcpStream::connect_timeout(&to, ANSWER).map_err(failed)?;
    connection.set_read_timeout(Some(ANSWER)).map_err(failed)?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(failed)?;
    let mut text = String::new();
    connection.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The client.
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Starts to ask.
    pub(crate) fn start(namespace: &Path, targets: Vec<(IpAddr, u16)>) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let failures = Arc::<Mutex<Vec<String>>>::default();
        let namespace = namespace.to_owned();
        let thread = std::thread::spawn({
            let (stop, answered, failures) = (stop.clone(), answered.clone(), failures.clone());
            move || {
                enter(&namespace);
                let start = Instant::now();
                for (address, port) in targets.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    match ask(*address, *port) {
                        Ok(text) if text.contains("hello from Corten") => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        other => failures.lock().push(format!("after {:?}: {other:?}", start.elapsed())),
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Self { stop, answered, failures, thread: Some(thread) }
    }

    /// How many answers came so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// What was not answered so far.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().clone()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic was printed.
            drop(thread.join());
        }
    }
}
