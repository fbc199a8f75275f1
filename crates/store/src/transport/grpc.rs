//! The transport over gRPC: one stream per receiver, opened again after a failure.
//!
//! A message larger than a frame is sent in parts. The queue to a receiver is bounded; what does
//! not fit is dropped, as raft allows.

use super::{Inbound, LateInbound, Outgoing, Transport};
use crate::{MemberId, Peer};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use wire::raft::raft_transport_client::RaftTransportClient;
use wire::raft::raft_transport_server::RaftTransport;
use wire::raft::{RaftBatch, RaftSummary};

const QUEUE: usize = 4096;
const MOST_PER_BATCH: usize = 1 << 20;
const PART: usize = 1 << 20;
/// A state larger than this cannot be sent as a snapshot.
const MOST_ASSEMBLED: usize = 2 << 30;
const RETRY: Duration = Duration::from_millis(200);

/// Opens a channel to a peer. The process that owns certificates brings its own.
pub type Connect =
    Arc<dyn Fn(&Peer) -> BoxFuture<'static, Result<Channel, tonic::transport::Error>> + Send + Sync>;

/// Connects without TLS: for tests and loopback.
pub fn connect_plain() -> Connect {
    Arc::new(|peer| {
        let endpoint = Endpoint::from_shared(format!("http://{}", peer.address));
        Box::pin(async move { endpoint?.connect_timeout(RETRY * 10).connect().await })
    })
}

/// Sends raft messages over gRPC.
pub struct GrpcTransport {
    queues: HashMap<MemberId, mpsc::Sender<Outgoing>>,
    inbound: LateInbound,
}

impl GrpcTransport {
    /// Starts one sender task for each peer; needs a tokio runtime.
    pub fn new(peers: &[Peer], connect: &Connect) -> Self {
        let inbound = LateInbound::default();
        let queues = peers
            .iter()
            .map(|peer| {
                let (queue, messages) = mpsc::channel(QUEUE);
                let sender =
                    Sender { peer: peer.clone(), connect: connect.clone(), inbound: inbound.clone() };
                daemon::tasks::spawn("raft sender", sender.run(messages));
                (peer.id, queue)
            })
            .collect();
        Self { queues, inbound }
    }

    /// The service that receives what peers send; serve it as
    /// `wire::raft::raft_transport_server::RaftTransportServer`.
    pub fn service(&self) -> RaftService {
        RaftService { inbound: self.inbound.clone() }
    }
}

impl Transport for GrpcTransport {
    fn send(&self, message: Outgoing) {
        let Some(queue) = self.queues.get(&message.to) else { return };
        if let Err(mpsc::error::TrySendError::Full(message)) = queue.try_send(message)
            && let Some(inbound) = self.inbound.get()
        {
            report_lost(inbound, &message);
        }
    }

    fn attach(&self, inbound: Inbound) {
        // A transport belongs to one store; a second attachment changes nothing.
        let _ = self.inbound.set(inbound);
    }
}

fn report_lost(inbound: &Inbound, message: &Outgoing) {
    inbound.unreachable(message.to);
    if message.is_snapshot {
        inbound.snapshot_sent(message.to, false);
    }
}

struct Sender {
    peer: Peer,
    connect: Connect,
    inbound: Arc<OnceLock<Inbound>>,
}

impl Sender {
    async fn run(self, mut messages: mpsc::Receiver<Outgoing>) {
        while let Some(first) = messages.recv().await {
            let Some(inbound) = self.inbound.get().cloned() else { continue };
            if let Err(error) = self.stream(&inbound, first, &mut messages).await {
                tracing::debug!(peer = self.peer.id, error, "cannot reach the peer");
                // Those that wait are as lost as the one that failed.
                while let Ok(message) = messages.try_recv() {
                    report_lost(&inbound, &message);
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Sends over one stream until it breaks.
    async fn stream(
        &self,
        inbound: &Inbound,
        first: Outgoing,
        messages: &mut mpsc::Receiver<Outgoing>,
    ) -> Result<(), String> {
        let channel = match (self.connect)(&self.peer).await {
            Ok(channel) => channel,
            Err(error) => {
                report_lost(inbound, &first);
                return Err(error.to_string());
            }
        };
        let (batches, stream) = mpsc::channel(16);
        let mut client = RaftTransportClient::new(channel);
        let call = client.send(ReceiverStream::new(stream));
        let forward = async {
            let mut next = Some(first);
            while let Some(message) = next.take() {
                self.forward(inbound, message, messages, &batches).await?;
                next = messages.recv().await;
            }
            Ok::<(), String>(())
        };
        tokio::select! {
            answer = call => match answer {
                Ok(_) => Err("the peer closed the stream".to_owned()),
                Err(status) => Err(status.to_string()),
            },
            result = forward => result,
        }
    }

    /// Sends one message, and with it those that wait and fit.
    async fn forward(
        &self,
        inbound: &Inbound,
        first: Outgoing,
        messages: &mut mpsc::Receiver<Outgoing>,
        batches: &mpsc::Sender<RaftBatch>,
    ) -> Result<(), String> {
        let send =
            |batch| async move { batches.send(batch).await.map_err(|_| "the stream broke".to_owned()) };
        let mut batch = self.batch(inbound);
        let mut size = 0;
        let mut next = Some(first);
        while let Some(message) = next.take() {
            if message.message.len() > PART {
                if !batch.messages.is_empty() {
                    send(std::mem::replace(&mut batch, self.batch(inbound))).await?;
                    size = 0;
                }
                let sent = self.send_parts(inbound, &message, batches).await;
                if message.is_snapshot {
                    inbound.snapshot_sent(message.to, sent.is_ok());
                }
                sent?;
            } else {
                if message.is_snapshot {
                    inbound.snapshot_sent(message.to, true);
                }
                size += message.message.len();
                batch.messages.push(message.message);
            }
            if size < MOST_PER_BATCH {
                next = messages.try_recv().ok();
            }
        }
        if batch.messages.is_empty() { Ok(()) } else { send(batch).await }
    }

    async fn send_parts(
        &self,
        inbound: &Inbound,
        message: &Outgoing,
        batches: &mpsc::Sender<RaftBatch>,
    ) -> Result<(), String> {
        let mut rest = message.message.clone();
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(PART));
            let batch = RaftBatch { part, is_last_part: rest.is_empty(), ..self.batch(inbound) };
            batches.send(batch).await.map_err(|_| "the stream broke".to_owned())?;
        }
        Ok(())
    }

    fn batch(&self, inbound: &Inbound) -> RaftBatch {
        RaftBatch {
            from: inbound.member(),
            cluster: inbound.cluster(),
            messages: Vec::new(),
            part: Bytes::new(),
            is_last_part: false,
        }
    }
}

/// Receives what peers send.
#[derive(Clone, Debug)]
pub struct RaftService {
    inbound: LateInbound,
}

#[tonic::async_trait]
impl RaftTransport for RaftService {
    async fn send(&self, request: Request<Streaming<RaftBatch>>) -> Result<Response<RaftSummary>, Status> {
        let inbound = self.inbound.get().ok_or_else(|| Status::unavailable("the store is starting"))?;
        let mut batches = request.into_inner();
        let mut parts = BytesMut::new();
        while let Some(batch) = batches.message().await? {
            if batch.cluster != inbound.cluster() {
                return Err(Status::permission_denied("the message is for another cluster"));
            }
            for message in &batch.messages {
                if !inbound.deliver(message) {
                    return Err(Status::invalid_argument("a message is not for this member"));
                }
            }
            parts.extend_from_slice(&batch.part);
            if parts.len() > MOST_ASSEMBLED {
                return Err(Status::resource_exhausted("a message is too large"));
            }
            if batch.is_last_part {
                let message = parts.split().freeze();
                if !inbound.deliver(&message) {
                    return Err(Status::invalid_argument("a message is not for this member"));
                }
            }
        }
        Ok(Response::new(RaftSummary {}))
    }
}
