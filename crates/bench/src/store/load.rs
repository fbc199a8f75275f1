//! The load: clients that put one key after the other, as fast as they are answered.

use anyhow::Context as _;
use bytes::Bytes;
use daemon::{Clock as _, SystemClock};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Embedded, Operation, Store as _, Txn};
use tonic::transport::{Channel, Endpoint};
use wire::etcd::etcdserverpb::PutRequest;
use wire::etcd::etcdserverpb::kv_client::KvClient;

/// Puts that are not counted, at the start.
const WARM_UP: Duration = Duration::from_millis(300);
const KEYS_PER_CLIENT: u64 = 1000;
const SMALLEST: u64 = 256;
const LARGEST: u64 = 1024;

/// Where puts go.
pub(super) trait Target: Send + Sync {
    /// Puts a key, durably, for one of the clients.
    fn put(&self, client: usize, key: Bytes, value: Bytes) -> BoxFuture<'_, anyhow::Result<()>>;
}

/// A server of etcd's API.
pub(super) struct GrpcTarget {
    channels: Vec<Channel>,
}

impl GrpcTarget {
    /// Opens the connections that the clients share.
    pub(super) async fn connect(address: &str, connections: usize) -> anyhow::Result<Self> {
        let mut channels = Vec::new();
        for _ in 0..connections {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
            channels.push(endpoint.connect().await.context("cannot connect to the server")?);
        }
        Ok(Self { channels })
    }
}

impl Target for GrpcTarget {
    fn put(&self, client: usize, key: Bytes, value: Bytes) -> BoxFuture<'_, anyhow::Result<()>> {
        let channel = self.channels[client % self.channels.len()].clone();
        Box::pin(async move {
            let request = PutRequest { key, value, ..PutRequest::default() };
            KvClient::new(channel).put(request).await?;
            Ok(())
        })
    }
}

/// The store in this process.
pub(super) struct InProcessTarget {
    store: Arc<Embedded>,
}

impl InProcessTarget {
    pub(super) fn new(store: Arc<Embedded>) -> Self {
        Self { store }
    }
}

impl Target for InProcessTarget {
    fn put(&self, _client: usize, key: Bytes, value: Bytes) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async move {
            self.store.txn(Txn::always(vec![Operation::put(key, value)])).await?;
            Ok(())
        })
    }
}

/// How much load, for how long.
pub(super) struct Load {
    pub(super) clients: usize,
    pub(super) duration: Duration,
}

/// What a measurement found.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// Puts per second.
    pub(super) rate: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) puts: usize,
    /// Seconds of CPU that the server used for all of it, the warm-up too.
    pub(super) server_cpu: Option<f64>,
    /// All puts, the warm-up too.
    pub(super) all_puts: usize,
}

impl Load {
    /// Runs the clients and collects their latencies.
    pub(super) async fn run(&self, target: Arc<dyn Target>) -> anyhow::Result<Measured> {
        let begin = SystemClock.monotonic() + WARM_UP;
        let end = begin + self.duration;
        let clients: Vec<_> = (0..self.clients)
            .map(|client| {
                let target = target.clone();
                daemon::tasks::spawn("client", run_client(target, client, begin, end))
            })
            .collect();
        let mut latencies = Vec::new();
        let mut all_puts = 0;
        for client in clients {
            let (counted, all) = client.await??;
            latencies.extend(counted);
            all_puts += all;
        }
        latencies.sort_unstable();
        let at = |part: f64| {
            let index = (latencies.len() as f64 * part) as usize;
            latencies.get(index.min(latencies.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        Ok(Measured {
            rate: latencies.len() as f64 / self.duration.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
            puts: latencies.len(),
            server_cpu: None,
            all_puts,
        })
    }
}

async fn run_client(
    target: Arc<dyn Target>,
    client: usize,
    begin: Instant,
    end: Instant,
) -> anyhow::Result<(Vec<Duration>, usize)> {
    let mut latencies = Vec::new();
    let mut random = client as u64 + 1;
    let content = Bytes::from(vec![b'v'; LARGEST as usize]);
    let mut all = 0;
    loop {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (random >> 33) % KEYS_PER_CLIENT;
        let size = SMALLEST + (random >> 20) % (LARGEST - SMALLEST);
        let key = Bytes::from(format!("/registry/configmaps/client-{client}/object-{number}"));
        let start = SystemClock.monotonic();
        if start >= end {
            return Ok((latencies, all));
        }
        target.put(client, key, content.slice(..size as usize)).await?;
        all += 1;
        if start >= begin {
            latencies.push(SystemClock.monotonic() - start);
        }
    }
}
