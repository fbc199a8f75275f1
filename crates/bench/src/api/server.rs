//! A kube-apiserver of its own, on a free port, in a folder that goes with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use client::ClientFiles;
use client::kubeconfig::Material;
use daemon::{Clock as _, SystemClock};
use kubeadm::pki::{Folder, Subject};
use tempfile::TempDir;

use super::load::Http;
use crate::process::Usage;

/// A running server.
pub(super) struct Server {
    child: Child,
    files: ClientFiles,
    url: String,
    binary: PathBuf,
    port: u16,
    pub(super) start_to_ready: Duration,
    // Removed after the server has ended.
    folder: TempDir,
}

impl Server {
    pub(super) async fn start(binary: Option<&Path>, dir: &Path) -> anyhow::Result<Self> {
        let binary = match binary {
            Some(binary) => binary.to_owned(),
            None => beside_this_program()?,
        };
        let folder = tempfile::tempdir_in(dir).context("make a data folder")?;
        let files = credentials(folder.path())?;
        let port = free_port()?;
        let url = format!("https://127.0.0.1:{port}");
        let started = SystemClock.monotonic();
        let child = spawn(&binary, folder.path(), port)?;
        let mut server = Self { child, files, url, binary, port, start_to_ready: Duration::ZERO, folder };
        server.ready(started).await?;
        Ok(server)
    }

    /// Ends it at once, and starts it again on what it had stored.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("end the server")?;
        self.child.wait().context("end the server")?;
        let started = SystemClock.monotonic();
        self.child = spawn(&self.binary, self.folder.path(), self.port)?;
        self.ready(started).await
    }

    async fn ready(&mut self, started: Instant) -> anyhow::Result<()> {
        let http = self.http()?;
        let since = || SystemClock.monotonic().duration_since(started);
        while !http.get("/readyz").await.is_ok_and(|answer| answer.0 == 200) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}", self.binary.display());
            }
            ensure!(
                since() < Duration::from_secs(30),
                "{} is not ready after 30 seconds",
                self.binary.display()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.start_to_ready = since();
        Ok(())
    }

    pub(super) fn http(&self) -> anyhow::Result<Http> {
        Http::new(&self.url, &self.files)
    }

    /// Memory now, and processor time so far.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn beside_this_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find this program's own path")?;
    let path = own.with_file_name("kube-apiserver");
    if !path.exists() {
        bail!("{} is not there; build it with `cargo build --release -p apiserver`", path.display());
    }
    Ok(path)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?.local_addr()?.port())
}

fn credentials(folder: &Path) -> anyhow::Result<ClientFiles> {
    let now = SystemClock.now();
    let pki = Folder::new(folder.join("pki"));
    let authority = pki.authority(now)?;
    let hosts = vec!["127.0.0.1".to_owned()];
    pki.ensure("apiserver", &authority, &Subject::server("kube-apiserver", hosts), now)?;
    pki.ensure(
        "apiserver-kubelet-client",
        &authority,
        &Subject::client("kube-apiserver-kubelet-client", &[]),
        now,
    )?;
    pki.ensure_service_account_keys()?;
    let admin = authority.issue(&Subject::client("bench", &["system:masters"]), now)?;
    let bytes = |text: &str| Material::Bytes(text.as_bytes().to_vec());
    Ok(ClientFiles {
        ca: bytes(authority.pem()),
        identity: Some((bytes(&admin.certificate), bytes(&admin.key))),
        server_name: None,
    })
}

fn spawn(binary: &Path, folder: &Path, port: u16) -> anyhow::Result<Child> {
    let pki = |name: &str| folder.join("pki").join(name).display().to_string();
    let log = std::fs::File::create(folder.join("log")).context("create the server's log")?;
    Command::new(binary)
        .arg("--bind-address=127.0.0.1")
        .arg("--advertise-address=192.0.2.1")
        .arg(format!("--secure-port={port}"))
        .arg(format!("--data-dir={}", folder.join("store").display()))
        .arg(format!("--tls-cert-file={}", pki("apiserver.crt")))
        .arg(format!("--tls-private-key-file={}", pki("apiserver.key")))
        .arg(format!("--client-ca-file={}", pki("ca.crt")))
        .arg(format!("--service-account-signing-key-file={}", pki("sa.key")))
        .arg(format!("--service-account-key-file={}", pki("sa.pub")))
        .arg(format!("--kubelet-certificate-authority={}", pki("ca.crt")))
        .arg(format!("--kubelet-client-certificate={}", pki("apiserver-kubelet-client.crt")))
        .arg(format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", binary.display()))
}
