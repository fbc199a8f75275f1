//! A server outside the cluster, as a kubeconfig names one: over real TLS, its
//! answer a function of the path and the JSON that it is sent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use daemon::server::{Limits, Peer, Service, serve};
use daemon::tls::{ServerFiles, ServerTls};
use daemon::{Clock as _, Shutdown, SystemClock};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use kubeadm::pki::{Folder, Subject};
use serde_json::{Value, json};
use tempfile::TempDir;

type Answering = dyn Fn(&str, &Value) -> (u16, Value) + Send + Sync;

struct Handler(Box<Answering>);

impl Service for Handler {
    type Body = Full<Bytes>;

    async fn answer(self: Arc<Self>, request: Request<Incoming>, _peer: Arc<Peer>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        let sent: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
        let (code, answer) = (self.0)(&path, &sent);
        let mut response = Response::new(Full::new(answer.to_string().into()));
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
        response
    }
}

/// A running server; gone when it is dropped.
pub struct Remote {
    url: String,
    folder: TempDir,
    shutdown: Shutdown,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

impl Remote {
    /// Starts a server; `answer` gives the code and the body for a path and what was sent.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(
        answer: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        daemon::tls::install_crypto();
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        let now = SystemClock.now();
        let pki = Folder::new(folder.path());
        let authority = pki.authority(now)?;
        pki.ensure("server", &authority, &Subject::server("server", vec!["127.0.0.1".to_owned()]), now)?;
        let tls = ServerTls::load(ServerFiles {
            certificate: folder.path().join("server.crt"),
            key: folder.path().join("server.key"),
            client_ca: None,
            front_proxy_ca: None,
        })?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let url = format!("https://{}", listener.local_addr().context("read the address")?);
        let shutdown = Shutdown::default();
        let handler = Arc::new(Handler(Box::new(answer)));
        daemon::tasks::spawn("remote", serve(listener, tls, Limits::default(), handler, shutdown.clone()));
        Ok(Self { url, folder, shutdown })
    }

    /// `https://host:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The CA that signed its certificate, PEM.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Writes a kubeconfig for a path of the server, and returns where.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig(&self, path: &str) -> anyhow::Result<PathBuf> {
        let name = path.replace('/', "_");
        let file = self.folder.path().join(format!("kubeconfig{name}.yaml"));
        let cluster = json!({"server": format!("{}{path}", self.url), "certificate-authority": self.ca()});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "server-token"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        write(&file, &config.to_string())?;
        Ok(file)
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
