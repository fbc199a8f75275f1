//! Accepts TLS connections and serves HTTP/1.1 and HTTP/2 on them, with a bound
//! on connections, a deadline on handshakes, and a graceful end.

use std::any::Any;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::tls::{Acceptance, ServerTls};
use crate::{Shutdown, tasks};

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// The address that the connection came from.
    pub address: SocketAddr,
    /// The chain that the client proved to hold, verified against the client CA.
    pub certificates: Option<Arc<[CertificateDer<'static>]>>,
    /// Why the chain that the client showed is not valid.
    pub refused: Option<String>,
    /// The chain, where it is valid for a front proxy, which says who its client is.
    pub front_proxy: Option<Arc<[CertificateDer<'static>]>>,
    remembered: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Peer {
    /// A peer with a verified chain, or without one.
    #[must_use]
    pub fn new(address: SocketAddr, certificates: Option<Arc<[CertificateDer<'static>]>>) -> Self {
        Self { address, certificates, refused: None, front_proxy: None, remembered: OnceLock::new() }
    }

    /// A peer whose chain is not valid.
    #[must_use]
    pub fn refused(address: SocketAddr, why: String) -> Self {
        Self { refused: Some(why), ..Self::new(address, None) }
    }

    /// What a server finds out about a peer once for all of its requests; `None`
    /// where something of another type is remembered.
    pub fn remember<T: Send + Sync + 'static>(&self, find: impl FnOnce() -> T) -> Option<&T> {
        self.remembered.get_or_init(|| Box::new(find())).downcast_ref()
    }
}

/// What a server grants.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; further ones wait to be accepted.
    pub connections: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Concurrent requests on one HTTP/2 connection.
    pub streams: u32,
    /// Time for the request's head to arrive on HTTP/1.1.
    pub head: Duration,
    /// Time that open requests get at shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshake: Duration::from_secs(10),
            streams: 1_000,
            head: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

/// Answers requests; an implementation never fails, it answers with an error.
pub trait Service: Send + Sync + 'static {
    /// The answer's body.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static;

    /// Answers one request.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Arc<Peer>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Serves until shutdown, then lets open requests finish within the limits.
pub async fn serve<S: Service>(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    limits: Limits,
    service: Arc<S>,
    shutdown: Shutdown,
) {
    let graceful = Arc::new(GracefulShutdown::new());
    let slots = Arc::new(Semaphore::new(limits.connections));
    loop {
        let slot = tokio::select! {
            () = shutdown.begun() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let Ok(slot) = slot else { break };
        let accepted = tokio::select! {
            () = shutdown.begun() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a peer that left early: go on, not in a hot loop.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let connection = Connection {
            limits,
            address,
            acceptance: tls.acceptance(),
            watcher: graceful.watcher(),
            service: Arc::clone(&service),
        };
        tasks::spawn("connection", async move {
            connection.run(stream).await;
            drop(slot);
        });
    }
    drop(listener);
    let Some(graceful) = Arc::into_inner(graceful) else { return };
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = limits.drain.as_secs(), "closing connections that did not finish");
    }
}

struct Connection<S> {
    limits: Limits,
    address: SocketAddr,
    acceptance: Acceptance,
    watcher: hyper_util::server::graceful::Watcher,
    service: Arc<S>,
}

impl<S: Service> Connection<S> {
    async fn run(self, stream: TcpStream) {
        // Small answers must not wait for the peer's acknowledgement.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let handshake = TlsAcceptor::from(Arc::clone(&self.acceptance.config)).accept(stream);
        let stream = match tokio::time::timeout(self.limits.handshake, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.address, %error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!(peer = %self.address, "TLS handshake took too long");
                return;
            }
        };
        let peer = Arc::new(match stream.get_ref().1.peer_certificates() {
            None => Peer::new(self.address, None),
            Some(chain) => {
                let front_proxy = self.acceptance.is_front_proxy(chain).then(|| chain.into());
                let peer = match self.acceptance.verify(chain) {
                    Ok(()) => Peer::new(self.address, Some(chain.into())),
                    Err(why) => Peer::refused(self.address, why),
                };
                Peer { front_proxy, ..peer }
            }
        });
        let service = self.service;
        let answer = service_fn(move |request| {
            let (service, peer) = (Arc::clone(&service), Arc::clone(&peer));
            async move { Ok::<_, Infallible>(service.answer(request, peer).await) }
        });
        let builder = http_builder(&self.limits);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer).into_owned();
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(peer = %self.address, %error, "connection ended");
        }
    }
}

fn http_builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(1 << 20);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(64 << 10)
        .max_send_buf_size(1 << 20)
        .max_header_list_size(64 << 10)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
