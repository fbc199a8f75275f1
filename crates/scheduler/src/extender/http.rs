//! The way to an extender.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use client::kubeconfig::Material;
use client::{ClientFiles, client_tls};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::file;

/// How long an answer may take where nothing else is said.
const USUAL_LIMIT: Duration = Duration::from_secs(5);
/// The largest answer taken.
const MAX_ANSWER: usize = 64 << 20;
/// The roots for servers that bring none of their own.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A server that answers by `POST`.
pub(super) struct Server {
    url: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limit: Duration,
}

impl Server {
    /// The server of an extender.
    ///
    /// # Errors
    /// Its address or its TLS files cannot be used.
    pub(super) fn new(given: &file::Extender) -> anyhow::Result<Self> {
        let url = given.url_prefix.trim_end_matches('/').to_owned();
        ensure!(!url.is_empty(), "urlPrefix is missing");
        let is_https = given.enable_https || url.starts_with("https://");
        let config = if is_https {
            client_tls(&files(given)?, &[]).context("use the files of tlsConfig")?
        } else {
            let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth()
        };
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
        let connector = match given.tls_config.as_ref().and_then(|tls| tls.server_name.clone()) {
            Some(name) => {
                let name = rustls::pki_types::ServerName::try_from(name).context("tlsConfig.serverName")?;
                connector.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name))
            }
            None => connector,
        };
        let connector = connector.enable_http1().enable_http2().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self {
            url,
            client,
            limit: given.http_timeout.filter(|time| !time.is_zero()).unwrap_or(USUAL_LIMIT),
        })
    }

    /// Its address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Sends something, and reads the answer.
    ///
    /// # Errors
    /// It cannot be reached, refuses, is late, or answers something else.
    pub(super) async fn ask<A: DeserializeOwned>(
        &self,
        verb: &str,
        args: &impl Serialize,
    ) -> anyhow::Result<A> {
        let url = format!("{}/{verb}", self.url);
        let asking = self.try_ask(&url, serde_json::to_vec(args)?.into());
        let body = tokio::time::timeout(self.limit, asking).await;
        let body = body.map_err(|_| anyhow::anyhow!("no answer within {:?}", self.limit));
        let body = body.and_then(|body| body).with_context(|| format!("ask the extender {url}"))?;
        serde_json::from_slice(&body).with_context(|| format!("read the answer of the extender {url}"))
    }

    async fn try_ask(&self, url: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let request = Request::post(url).header("content-type", "application/json").body(Full::new(body))?;
        let response = self.client.request(request).await?;
        let code = response.status();
        if code != hyper::StatusCode::OK {
            bail!("it answers {code}");
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok(body.map_err(|error| anyhow::anyhow!(error))?.to_bytes())
    }
}

fn files(given: &file::Extender) -> anyhow::Result<ClientFiles> {
    let tls = given.tls_config.clone().unwrap_or_default();
    if tls.insecure {
        bail!("tlsConfig.insecure is not done here: give caFile or caData instead");
    }
    let ca = material(tls.ca_file, tls.ca_data)?;
    let certificate = material(tls.cert_file, tls.cert_data)?;
    let key = material(tls.key_file, tls.key_data)?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => bail!("tlsConfig needs both a certificate and its key, or neither"),
    };
    let ca = ca.unwrap_or_else(|| Material::File(SYSTEM_ROOTS.into()));
    Ok(ClientFiles { ca, identity, server_name: tls.server_name })
}

fn material(file: Option<String>, data: Option<String>) -> anyhow::Result<Option<Material>> {
    match (file, data) {
        (_, Some(data)) => {
            let bytes: api::openapi::ByteString =
                serde_json::from_value(data.into()).context("tlsConfig: data must be base64")?;
            Ok(Some(Material::Bytes(bytes.0)))
        }
        (Some(file), None) => Ok(Some(Material::File(file.into()))),
        (None, None) => Ok(None),
    }
}
