//! The servers that are measured, as child processes.

use anyhow::{Context as _, bail};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const START: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);
/// The kernel's unit in /proc/PID/stat.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server; killed when dropped.
pub(super) struct Server {
    child: Child,
    address: String,
    ends_with_stdin: bool,
}

impl Server {
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Seconds of CPU that the process has used.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let pid = self.child.id().context("the server has ended")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = stat.rsplit_once(')').context("/proc/PID/stat has no name")?.1;
        let field = |at: usize| fields.split_whitespace().nth(at).and_then(|f| f.parse::<f64>().ok());
        let (user, system) = field(11).zip(field(12)).context("/proc/PID/stat is too short")?;
        Ok((user + system) / TICKS_PER_SECOND)
    }

    /// Ends the server.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if self.ends_with_stdin {
            drop(self.child.stdin.take());
        } else {
            self.child.start_kill()?;
        }
        self.child.wait().await?;
        Ok(())
    }
}

/// Starts this program as a server of the store.
pub(super) async fn start_ours(data_dir: &Path) -> anyhow::Result<Server> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("store-serve")
        .arg("--data-dir")
        .arg(data_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the store's server")?;
    let output = child.stdout.take().context("the server has no output")?;
    let mut address = String::new();
    let mut output = BufReader::new(output);
    let read = output.read_line(&mut address);
    tokio::time::timeout(START, read).await.context("the store did not start in time")??;
    if address.is_empty() {
        bail!("the store's server ended at once");
    }
    Ok(Server { child, address: address.trim().to_owned(), ends_with_stdin: true })
}

/// Starts etcd with its defaults on free loopback ports.
pub(super) async fn start_etcd(etcd: &Path, data_dir: &Path) -> anyhow::Result<Server> {
    let (client, peer) = (free_address()?, free_address()?);
    let child = Command::new(etcd)
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--log-level", "error", "--quota-backend-bytes", "8589934592"])
        .arg(format!("--listen-client-urls=http://{client}"))
        .arg(format!("--advertise-client-urls=http://{client}"))
        .arg(format!("--listen-peer-urls=http://{peer}"))
        .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
        .arg(format!("--initial-cluster=default=http://{peer}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", etcd.display()))?;
    let wait = async {
        while TcpStream::connect(&client).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(START, wait).await.context("etcd did not start in time")?;
    Ok(Server { child, address: client, ends_with_stdin: false })
}

/// An address that was free a moment ago: etcd cannot pick a port by itself.
fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
