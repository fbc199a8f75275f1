//! A plain HTTP client for the REST front, as tests want one: method, path,
//! body, headers.

use anyhow::Context as _;
use bytes::Bytes;
use client::{ClientFiles, Session, client_tls};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// An HTTP client for one server as one user.
#[derive(Clone)]
pub struct Rest {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    server: String,
    token: Option<String>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP code.
    pub code: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Rest {
    /// A client for a session.
    ///
    /// # Errors
    /// Credentials that cannot be used.
    pub fn new(session: &Session) -> anyhow::Result<Self> {
        let files = ClientFiles {
            ca: session.ca.clone().context("the session has no CA")?,
            identity: session.identity.clone(),
            server_name: None,
        };
        let mut tcp = HttpConnector::new();
        // A small body must not wait for the acknowledgement of the head.
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(client_tls(&files, &[])?)
            .https_only()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let token = session.token.as_ref().map(|token| token.read()).transpose()?;
        let token = token.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, server: session.server.clone(), token })
    }

    /// Sends a request and returns when the head of the answer is there.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<http::Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.server));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        Ok(self.client.request(request.body(Full::new(body.into()))?).await?)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let response = self.open(method, path, headers, body).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { code: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// `GET`.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// `POST` of JSON.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// `PUT` of JSON.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::PUT, path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// `PATCH` with a merge patch.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn merge(&self, path: &str, patch: &Value) -> anyhow::Result<Answer> {
        let media = [("content-type", "application/merge-patch+json")];
        self.send(Method::PATCH, path, &media, patch.to_string()).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, path, &[], Bytes::new()).await
    }
}
