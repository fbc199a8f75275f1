//! The load: an HTTP client and concurrent workers that measure themselves.

use std::time::Duration;

use bytes::Bytes;
use client::{ClientFiles, client_tls};
use daemon::{Clock as _, SystemClock};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::server::Server;

const JSON: &str = "application/json";

/// An HTTP client with connections of its own.
#[derive(Clone)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    server: String,
}

impl Http {
    pub(super) fn new(server: &str, files: &ClientFiles) -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new();
        // A small body must not wait for the acknowledgement of the head.
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(client_tls(files, &[])?)
            .https_only()
            .enable_http2()
            .wrap_connector(tcp);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.http2_initial_stream_window_size(8 << 20).http2_initial_connection_window_size(16 << 20);
        Ok(Self { client: builder.build(connector), server: server.to_owned() })
    }

    pub(super) async fn open(&self, path: &str) -> anyhow::Result<Response<Incoming>> {
        self.request(Method::GET, path, JSON, String::new()).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: String,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header("content-type", content_type)
            .body(Full::from(body))?;
        Ok(self.client.request(request).await?)
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<(u16, Bytes)> {
        read(self.request(Method::GET, path, JSON, String::new()).await?).await
    }

    pub(super) async fn post(&self, path: &str, body: String) -> anyhow::Result<(u16, Bytes)> {
        read(self.request(Method::POST, path, JSON, body).await?).await
    }

    pub(super) async fn apply(&self, path: &str, body: String) -> anyhow::Result<(u16, Bytes)> {
        read(self.request(Method::PATCH, path, "application/apply-patch+yaml", body).await?).await
    }
}

async fn read(response: Response<Incoming>) -> anyhow::Result<(u16, Bytes)> {
    let code = response.status().as_u16();
    Ok((code, response.into_body().collect().await?.to_bytes()))
}

/// What a load measured.
pub(super) struct Measured {
    pub(super) per_second: f64,
    pub(super) cpu_each: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Measured {
    /// Milliseconds that this share of the requests took at most.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into the list")]
        let index = (last as f64 * share).round() as usize;
        self.latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// Runs requests of several clients at once for a while.
pub(super) async fn run_load<F, Fut>(
    server: &Server,
    clients: usize,
    duration: Duration,
    request: F,
) -> anyhow::Result<Measured>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let clock = SystemClock;
    let cpu = server.usage()?.cpu;
    let started = clock.monotonic();
    let request = &request;
    let workers = (0..clients).map(|client| async move {
        let mut latencies = Vec::new();
        while clock.monotonic().duration_since(started) < duration {
            let before = clock.monotonic();
            request(client).await?;
            latencies.push(clock.monotonic().duration_since(before));
        }
        anyhow::Ok(latencies)
    });
    let mut latencies = futures::future::try_join_all(workers).await?.concat();
    let seconds = clock.monotonic().duration_since(started).as_secs_f64();
    let count = u32::try_from(latencies.len().max(1))?;
    latencies.sort_unstable();
    Ok(Measured {
        per_second: f64::from(count) / seconds,
        cpu_each: (server.usage()?.cpu - cpu) / count,
        latencies,
    })
}
