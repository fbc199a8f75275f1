//! Test support: a control plane in one process, with real TLS on a port of its
//! own, and clients for it. Everything is gone when it is dropped.
//!
//! Start reading in [`ControlPlane::start`]. Only tests may depend on this crate.

mod events;
mod node;
mod remote;
mod rest;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use apiserver::config::Flags;
use client::kubeconfig::{Impersonation, Material};
use client::{Client, Session};
use daemon::{Clock as _, Shell, SystemClock};
use kubeadm::pki::{Authority, Folder, Pair, Subject};
use serde_json::json;
use tempfile::TempDir;

pub use events::Events;
pub use node::Node;
pub use remote::Remote;
pub use rest::{Answer, Rest};

/// A running API server over a store in a temporary folder.
pub struct ControlPlane {
    folder: TempDir,
    authority: Authority,
    shell: Shell,
    running: Option<apiserver::Running>,
    server: String,
    /// Flags beside the usual ones.
    flags: Vec<String>,
}

impl ControlPlane {
    /// Starts an API server on a free port of the loopback.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(|_| Vec::new()).await
    }

    /// Starts one with further flags, which may name files in its folder.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start_with(flags: impl FnOnce(&Path) -> Vec<String>) -> anyhow::Result<Self> {
        daemon::tls::install_crypto();
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        let authority = credentials(folder.path())?;
        let flags = flags(folder.path());
        let (shell, running) = launch(folder.path(), &flags).await?;
        let server = format!("https://{}", running.address);
        Ok(Self { folder, authority, shell, running: Some(running), server, flags })
    }

    /// Stops the server and starts it again on the same data; its port changes.
    ///
    /// # Errors
    /// It cannot be stopped or started.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        let (shell, running) = launch(self.folder.path(), &self.flags).await?;
        self.server = format!("https://{}", running.address);
        (self.shell, self.running) = (shell, Some(running));
        Ok(())
    }

    /// Stops the server gracefully.
    ///
    /// # Errors
    /// It does not end as it should.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.shell.shutdown.begin();
        match self.running.take() {
            Some(running) => running.finished().await,
            None => Ok(()),
        }
    }

    /// `https://host:port`.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The folder with everything of it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The authority that signs its clients.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A session as a user of some groups, by certificate.
    ///
    /// # Errors
    /// The certificate cannot be signed.
    pub fn session(&self, user: &str, groups: &[&str]) -> anyhow::Result<Session> {
        let pair = self.authority.issue(&Subject::client(user, groups), SystemClock.now())?;
        Ok(self.session_with(Some(pair), None))
    }

    /// A session with a certificate, a token, both or nothing.
    #[must_use]
    pub fn session_with(&self, pair: Option<Pair>, token: Option<&str>) -> Session {
        let bytes = |text: &str| Material::Bytes(text.as_bytes().to_vec());
        Session {
            server: self.server.clone(),
            ca: Some(bytes(self.authority.pem())),
            server_name: None,
            identity: pair.map(|pair| (bytes(&pair.certificate), bytes(&pair.key))),
            token: token.map(bytes),
            impersonation: Impersonation::default(),
            namespace: "default".to_owned(),
        }
    }

    /// Writes a kubeconfig of a user who may do everything, as clients of others
    /// want one, and returns where.
    ///
    /// # Errors
    /// The certificate cannot be signed, or the file not be written.
    pub fn kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let file = self.folder.path().join("admin.conf");
        let pki = Folder::new(self.folder.path().join("pki"));
        let subject = Subject::client("admin", &["system:masters"]);
        pki.ensure("admin", &self.authority, &subject, SystemClock.now())?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": self.server, "certificate-authority": pki.path("ca.crt"),
            }}],
            "users": [{"name": "u", "user": {
                "client-certificate": pki.path("admin.crt"), "client-key": pki.path("admin.key"),
            }}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(&file, config.to_string()).with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    }

    /// A gRPC client that may do everything.
    ///
    /// # Errors
    /// The certificate cannot be signed.
    pub fn admin(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.session("admin", &["system:masters"])?, "testkit")?)
    }

    /// A REST client that may do everything.
    ///
    /// # Errors
    /// The certificate cannot be signed.
    pub fn rest(&self) -> anyhow::Result<Rest> {
        Rest::new(&self.session("admin", &["system:masters"])?)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.shell.shutdown.begin();
    }
}

fn credentials(folder: &Path) -> anyhow::Result<Authority> {
    let now = SystemClock.now();
    let pki = Folder::new(folder.join("pki"));
    let authority = pki.authority(now)?;
    let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    pki.ensure("apiserver", &authority, &Subject::server("kube-apiserver", hosts), now)?;
    pki.ensure(
        "apiserver-kubelet-client",
        &authority,
        &Subject::client("kube-apiserver-kubelet-client", &[]),
        now,
    )?;
    pki.ensure_front_proxy(now)?;
    pki.ensure_service_account_keys()?;
    Ok(authority)
}

async fn launch(folder: &Path, more: &[String]) -> anyhow::Result<(Shell, apiserver::Running)> {
    let pki = |name: &str| folder.join("pki").join(name).display().to_string();
    let flags: Flags = daemon::config::parse_from(
        [
            "kube-apiserver".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--secure-port=0".to_owned(),
            // A name for the server inside a cluster; nothing calls it here, and loopback is no endpoint.
            "--advertise-address=192.0.2.1".to_owned(),
            "--enable-bootstrap-token-auth".to_owned(),
            format!("--data-dir={}", folder.join("store").display()),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            format!("--client-ca-file={}", pki("ca.crt")),
            format!("--service-account-signing-key-file={}", pki("sa.key")),
            format!("--service-account-key-file={}", pki("sa.pub")),
            format!("--kubelet-certificate-authority={}", pki("ca.crt")),
            format!("--kubelet-client-certificate={}", pki("apiserver-kubelet-client.crt")),
            format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")),
            format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            format!("--proxy-client-cert-file={}", pki("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", pki("front-proxy-client.key")),
        ]
        .into_iter()
        .chain(more.iter().cloned())
        .map(Into::into)
        .collect(),
    )?;
    let shell = Shell::quiet();
    let running = apiserver::assemble(&flags, &shell).await?;
    Ok((shell, running))
}

/// Waits until a condition holds, looking often.
///
/// # Errors
/// It does not hold within ten seconds; `what` says what was waited for.
pub async fn eventually<F, Fut>(what: &str, mut condition: F) -> anyhow::Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .with_context(|| format!("waited in vain: {what}"))
}
