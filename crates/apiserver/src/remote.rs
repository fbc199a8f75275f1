//! Servers outside the cluster: those that a kubeconfig file names, which are asked
//! by `POST` about tokens and access and take audit events, and issuers of tokens,
//! whose keys are read by `GET`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use client::kubeconfig::{Material, Session};
use client::{ClientFiles, client_tls};
use daemon::Clock;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde_json::Value;

/// The largest answer taken.
const MAX_ANSWER: usize = 1 << 20;
/// How long credentials are used before their files are read again.
const FRESH: Duration = Duration::from_secs(60);
/// The roots for servers that bring none of their own.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

const AGENT: &str = concat!("kube-apiserver/", env!("CARGO_PKG_VERSION"));
/// How often a busy server is asked.
const ATTEMPTS: u32 = 5;
/// After how long it is asked again for the first time, as upstream has it.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(500);

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why a remote server gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// Its credentials cannot be used.
    #[error("use the credentials for {url}")]
    Credentials {
        /// Whom it was about.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// The request cannot be made.
    #[error("make a request for {url}")]
    Request {
        /// Whom it was about.
        url: String,
        /// Why.
        source: http::Error,
    },
    /// It cannot be reached.
    #[error("call {url}")]
    Call {
        /// Whom it was about.
        url: String,
        /// Why.
        source: hyper_util::client::legacy::Error,
    },
    /// It took too long.
    #[error("call {url}: no answer within {limit:?}")]
    Late {
        /// Whom it was about.
        url: String,
        /// How long it had.
        limit: Duration,
    },
    /// The answer broke off or is too large.
    #[error("read the answer of {url}: {why}")]
    Body {
        /// Whom it was about.
        url: String,
        /// Why.
        why: String,
    },
    /// The answer is a refusal.
    #[error("{url} answers {code}")]
    Code {
        /// Whom it was about.
        url: String,
        /// The HTTP code.
        code: u16,
    },
}

impl RemoteError {
    /// Whether it may work a moment later, as upstream's webhooks judge it.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Code { code, .. } => *code == 429 || *code >= 500,
            Self::Call { .. } | Self::Body { .. } => true,
            Self::Credentials { .. } | Self::Request { .. } | Self::Late { .. } => false,
        }
    }

    /// What happened and why, in one line.
    fn told(&self) -> String {
        let below = std::error::Error::source(self).map(|source| format!(": {source}"));
        format!("{self}{}", below.unwrap_or_default())
    }
}

/// The server.
pub(crate) struct Remote {
    url: String,
    files: ClientFiles,
    token: Option<Material>,
    limit: Duration,
    clock: Arc<dyn Clock>,
    made: Mutex<Option<(Instant, Https)>>,
}

impl Remote {
    /// The server of a kubeconfig file's current context; an answer may take `limit`.
    ///
    /// # Errors
    /// The file cannot be read or names no server of HTTPS.
    pub(crate) fn load(path: &Path, limit: Duration, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let session = Session::from_file(path).with_context(|| format!("read {}", path.display()))?;
        let url: http::Uri =
            session.server.parse().with_context(|| format!("the server of {}", path.display()))?;
        ensure!(url.scheme_str() == Some("https"), "the server of {} is not of https", path.display());
        let ca = session.ca.unwrap_or_else(|| Material::File(PathBuf::from(SYSTEM_ROOTS)));
        let files = ClientFiles { ca, identity: session.identity, server_name: session.server_name };
        let remote =
            Self { url: session.server, files, token: session.token, limit, clock, made: Mutex::default() };
        // What cannot work shall be told at the start.
        remote.client().with_context(|| format!("use {}", path.display()))?;
        Ok(remote)
    }

    /// A server by its address, which shows a certificate signed by `ca` (PEM; `None`:
    /// by one of the system's roots).
    pub(crate) fn new(url: &str, ca: Option<Vec<u8>>, limit: Duration, clock: Arc<dyn Clock>) -> Self {
        let ca = ca.map_or_else(|| Material::File(PathBuf::from(SYSTEM_ROOTS)), Material::Bytes);
        let files = ClientFiles { ca, identity: None, server_name: None };
        Self { url: url.to_owned(), files, token: None, limit, clock, made: Mutex::default() }
    }

    /// Gets a document of the server.
    pub(crate) async fn get(&self, url: &str) -> Result<Bytes, RemoteError> {
        let named = || url.to_owned();
        let getting = async {
            let request = Request::get(url)
                .header(header::ACCEPT, "application/json")
                .header(header::USER_AGENT, AGENT)
                .body(Full::default())
                .map_err(|source| RemoteError::Request { url: named(), source })?;
            self.answer(request, url).await
        };
        let answer = tokio::time::timeout(self.limit, getting).await;
        answer.unwrap_or_else(|_| Err(RemoteError::Late { url: named(), limit: self.limit }))
    }

    /// Sends JSON, a few times if the server is busy, a while after the other; upstream's
    /// back-off.
    pub(crate) async fn post_again(&self, body: Bytes, mut wait: Duration) -> Result<Bytes, RemoteError> {
        for _ in 1..ATTEMPTS {
            match self.post(body.clone()).await {
                Err(error) if error.may_pass() => tokio::time::sleep(wait).await,
                settled => return settled,
            }
            wait = wait.mul_f64(1.5);
        }
        self.post(body).await
    }

    /// Sends a review, and gives what the server puts into its status.
    ///
    /// # Errors
    /// No answer, or one that is no such review; in one line.
    pub(crate) async fn review(&self, review: &Value, wait: Duration) -> Result<Value, String> {
        let answer = self.post_again(review.to_string().into(), wait).await;
        let answer = answer.map_err(|error| error.told())?;
        let mut answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        if answer["kind"] != review["kind"] {
            return Err(format!("{} answers with {}", self.url, answer["kind"]));
        }
        Ok(answer["status"].take())
    }

    async fn answer(&self, request: Request<Full<Bytes>>, url: &str) -> Result<Bytes, RemoteError> {
        let named = || url.to_owned();
        let response = self.client()?.request(request).await;
        let response = response.map_err(|source| RemoteError::Call { url: named(), source })?;
        let code = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| RemoteError::Body { url: named(), why: error.to_string() })?;
        if !code.is_success() {
            return Err(RemoteError::Code { url: named(), code: code.as_u16() });
        }
        Ok(body.to_bytes())
    }

    fn client(&self) -> Result<Https, RemoteError> {
        let now = self.clock.monotonic();
        let mut made = self.made.lock();
        if let Some((at, client)) = &*made
            && now.saturating_duration_since(*at) < FRESH
        {
            return Ok(client.clone());
        }
        let tls = client_tls(&self.files, &[])
            .map_err(|source| RemoteError::Credentials { url: self.url.clone(), source })?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
        let connector = match &self.files.server_name {
            Some(name) => match rustls::pki_types::ServerName::try_from(name.clone()) {
                Ok(name) => {
                    builder.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name))
                }
                Err(error) => {
                    let source = std::io::Error::other(error);
                    return Err(RemoteError::Credentials { url: self.url.clone(), source });
                }
            },
            None => builder,
        };
        let connector = connector.enable_http1().enable_http2().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        *made = Some((now, client.clone()));
        Ok(client)
    }

    /// Sends JSON, and gives the answer's body.
    pub(crate) async fn post(&self, body: Bytes) -> Result<Bytes, RemoteError> {
        match tokio::time::timeout(self.limit, self.try_post(body)).await {
            Ok(answer) => answer,
            Err(_) => Err(RemoteError::Late { url: self.url.clone(), limit: self.limit }),
        }
    }

    async fn try_post(&self, body: Bytes) -> Result<Bytes, RemoteError> {
        let url = || self.url.clone();
        let mut request = Request::post(self.url.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, AGENT)
            .body(Full::new(body))
            .map_err(|source| RemoteError::Request { url: url(), source })?;
        if let Some(token) = &self.token {
            let token = token.read().map_err(|source| RemoteError::Credentials {
                url: url(),
                source: std::io::Error::other(source),
            })?;
            let text = format!("Bearer {}", String::from_utf8_lossy(&token).trim());
            let mut value = HeaderValue::from_str(&text).map_err(|source| RemoteError::Credentials {
                url: url(),
                source: std::io::Error::other(source),
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        self.answer(request, &self.url).await
    }
}
