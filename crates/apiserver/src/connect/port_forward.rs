//! Connections to ports of pods, through the port-forward stream of their node:
//! for `pods/portforward` and for proxied requests, so that the API server needs
//! no route into the pod network.
//!
//! Clients speak SPDY, on the connection itself or inside a WebSocket, with a
//! pair of streams for each connection; or WebSocket channels in pairs.

use std::collections::HashMap;
use std::time::Duration;

use api::Status;
use bytes::Bytes;
use daemon::tasks;
use futures::StreamExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;
use wire::node::port_forward_data::Message;
use wire::node::{PodRef, PortForwardData, PortForwardStart};

use super::spdy::{self, Reset, SpdyStream};
use super::upgrade::{self, Carrier, Offer};
use super::websocket::{self, Said};
use super::{Located, NodeClient};
use crate::rest::{Answer, Query};

/// SPDY inside a WebSocket, as current clients speak it.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const OFFER: Offer = Offer {
    web_socket: &[TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"],
    default: Some("v4.channel.k8s.io"),
    spdy: &["portforward.k8s.io"],
};
/// How long a client may take to complete a pair of streams, as upstream.
const PAIR_COMPLETE: Duration = Duration::from_secs(30);
/// Messages under way to the node.
const QUEUE: usize = 16;
/// Bytes under way between a proxied connection and the node's stream.
const BUFFER: usize = 64 << 10;
/// Ports in one WebSocket request: channels are numbered by one byte.
const MAX_PORTS: usize = 100;

/// Where connections go.
#[derive(Clone)]
struct PodPorts {
    node: NodeClient,
    pod: PodRef,
}

/// One connection to a port.
struct Connection {
    to_pod: mpsc::Sender<PortForwardData>,
    from_pod: Streaming<PortForwardData>,
}

pub(super) fn answer(located: Located, mut request: Request<Incoming>) -> Result<Response<Answer>, Status> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let agreed = upgrade::agree(&mut request, &OFFER)?;
    let is_channels = agreed.carrier == Carrier::WebSocket && agreed.protocol != TUNNEL;
    let ports = if is_channels { ports_of(&query)? } else { Vec::new() };
    let pod = PodPorts { pod: located.reference(""), node: located.node };
    tasks::spawn("port-forward", async move {
        match agreed.connection.await {
            Err(error) => tracing::debug!(%error, "an upgrade failed"),
            Ok(upgraded) if is_channels => pod.over_channels(upgraded, agreed.protocol, &ports).await,
            Ok(upgraded) if agreed.carrier == Carrier::WebSocket => {
                pod.over_spdy(websocket::tunnel(upgraded).await).await;
            }
            Ok(upgraded) => pod.over_spdy(TokioIo::new(upgraded)).await,
        }
    });
    Ok(agreed.response)
}

/// The ports of a WebSocket request: `ports=1,2&ports=3`.
fn ports_of(query: &Query) -> Result<Vec<u16>, Status> {
    let texts = query.all("ports").flat_map(|list| list.split(','));
    let ports: Vec<u16> = texts.map(parse_port).collect::<Result<_, _>>().map_err(Status::bad_request)?;
    match ports.len() {
        0 => Err(Status::bad_request("query parameter \"ports\" is required")),
        1..=MAX_PORTS => Ok(ports),
        _ => Err(Status::bad_request(format!("at most {MAX_PORTS} ports can be forwarded at once"))),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) => Err(format!("port {text:?} must be > 0")),
        Ok(port) => Ok(port),
        Err(error) => Err(format!("unable to parse {text:?} as a port: {error}")),
    }
}

/// A pair of streams that is not complete.
struct Half {
    stream: SpdyStream,
    until: Instant,
}

impl PodPorts {
    async fn connect(&self, port: u16) -> Result<Connection, Status> {
        connect(self.node.clone(), self.pod.clone(), u32::from(port)).await
    }

    /// What a client is told of a connection that failed.
    fn failure(&self, port: u16, status: &Status) -> Bytes {
        let PodRef { name, uid, .. } = &self.pod;
        format!("error forwarding port {port} to pod {name}, uid {uid}: {}", status.message).into()
    }

    async fn over_spdy(self, connection: impl AsyncRead + AsyncWrite + Send + 'static) {
        let mut session = match spdy::serve(connection) {
            Ok(session) => session,
            Err(error) => return tracing::warn!(%error, "cannot serve SPDY"),
        };
        let mut halves: HashMap<String, Half> = HashMap::new();
        loop {
            let until = halves.values().map(|half| half.until).min();
            let stream = tokio::select! {
                stream = session.streams.recv() => stream,
                () = expire(until) => {
                    let now = Instant::now();
                    for (_, half) in halves.extract_if(|_, half| half.until <= now) {
                        tell_late(half.stream).await;
                    }
                    continue;
                }
            };
            let Some(stream) = stream else { break };
            let Some((port, id)) = request_of(&stream) else {
                stream.reset(Reset::Protocol).await;
                continue;
            };
            match halves.remove(&id) {
                None => {
                    halves.insert(id, Half { stream, until: Instant::now() + PAIR_COMPLETE });
                }
                Some(other) if other.stream.header("streamtype") == stream.header("streamtype") => {
                    stream.reset(Reset::Protocol).await;
                    halves.insert(id, other);
                }
                Some(other) => {
                    let is_data = stream.header("streamtype") == "data";
                    let (data, error) = if is_data { (stream, other.stream) } else { (other.stream, stream) };
                    let pod = self.clone();
                    tasks::spawn("port-forward-pair", async move { pod.forward(port, data, error).await });
                }
            }
        }
        session.close().await;
    }

    /// Serves one pair of streams.
    async fn forward(self, port: u16, data: SpdyStream, error: SpdyStream) {
        let (error, _) = error.split();
        let connection = match self.connect(port).await {
            Ok(connection) => connection,
            Err(status) => {
                error.send(self.failure(port, &status)).await;
                error.finish().await;
                return data.reset(Reset::Cancel).await;
            }
        };
        let (to_client, mut from_client) = data.split();
        let Connection { to_pod, mut from_pod } = connection;
        let outward = async {
            while let Some(data) = from_client.recv().await {
                if !say(&to_pod, Message::Data(data)).await {
                    return;
                }
            }
            say(&to_pod, Message::Close(true)).await;
        };
        let inward = async {
            while let Some(data) = received(&mut from_pod).await {
                if !to_client.send(data).await {
                    return;
                }
            }
            to_client.finish().await;
        };
        tokio::pin!(outward, inward);
        // What the pod says last decides; the client may have closed its half before.
        tokio::select! {
            () = &mut inward => {}
            () = &mut outward => inward.await,
        }
        error.finish().await;
    }

    /// Channel 2n carries the data of port n, channel 2n+1 its errors; each starts
    /// with the port, two bytes, the low one first.
    async fn over_channels(self, upgraded: Upgraded, protocol: &str, ports: &[u16]) {
        let (mut to_client, mut from_client) = websocket::channels(upgraded, protocol).await;
        let (said, mut saying) = mpsc::channel::<(u8, Bytes)>(QUEUE);
        let mut pods = Vec::new();
        for (number, port) in (0_u8..).zip(ports) {
            let (data, error) = (number * 2, number * 2 + 1);
            for channel in [data, error] {
                to_client.send(channel, &port.to_le_bytes()).await;
            }
            match self.connect(*port).await {
                Err(status) => {
                    to_client.send(error, &self.failure(*port, &status)).await;
                    pods.push(None);
                }
                Ok(Connection { to_pod, mut from_pod }) => {
                    let said = said.clone();
                    tasks::spawn("port-forward-channel", async move {
                        while let Some(bytes) = received(&mut from_pod).await {
                            if said.send((data, bytes)).await.is_err() {
                                return;
                            }
                        }
                    });
                    pods.push(Some(to_pod));
                }
            }
        }
        drop(said);
        loop {
            tokio::select! {
                bytes = saying.recv() => {
                    // All connections ended.
                    let Some((channel, bytes)) = bytes else { break };
                    if !to_client.send(channel, &bytes).await {
                        break;
                    }
                }
                message = from_client.next() => match message {
                    None => break,
                    Some(Said::Data(channel, data)) if channel.is_multiple_of(2) => {
                        if let Some(Some(to_pod)) = pods.get(usize::from(channel / 2)) {
                            say(to_pod, Message::Data(data)).await;
                        }
                    }
                    Some(_) => {}
                },
            }
        }
        to_client.close().await;
    }
}

async fn expire(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

async fn tell_late(stream: SpdyStream) {
    if stream.header("streamtype") != "error" {
        return stream.reset(Reset::Cancel).await;
    }
    let (sender, _) = stream.split();
    sender.send(Bytes::from_static(b"timed out waiting for streams")).await;
    sender.finish().await;
}

/// The port of a stream, and which pair it belongs to.
fn request_of(stream: &SpdyStream) -> Option<(u16, String)> {
    let port = parse_port(stream.header("port")).ok()?;
    let id = stream.header("requestid");
    let id = match (stream.header("streamtype"), id) {
        // Old clients number nothing: their error stream comes just before the data.
        ("error", "") => format!("#{}", stream.id()),
        ("data", "") => format!("#{}", stream.id().checked_sub(2)?),
        ("error" | "data", id) => id.to_owned(),
        _ => return None,
    };
    Some((port, id))
}

async fn connect(mut node: NodeClient, pod: PodRef, port: u32) -> Result<Connection, Status> {
    let (to_pod, queue) = mpsc::channel(QUEUE);
    // The receiver is alive: it is handed to the call below.
    say(&to_pod, Message::Start(PortForwardStart { pod: Some(pod), port })).await;
    let queue = tokio_stream::wrappers::ReceiverStream::new(queue);
    let from_pod = node.port_forward(queue).await.map_err(|status| client::of_grpc(&status))?.into_inner();
    Ok(Connection { to_pod, from_pod })
}

async fn say(to_pod: &mpsc::Sender<PortForwardData>, message: Message) -> bool {
    to_pod.send(PortForwardData { message: Some(message) }).await.is_ok()
}

/// The next bytes from the pod; `None` when it closed, or the node is gone.
async fn received(from_pod: &mut Streaming<PortForwardData>) -> Option<Bytes> {
    loop {
        match from_pod.next().await?.ok()?.message {
            Some(Message::Data(data)) => return Some(data),
            Some(Message::Close(_)) => return None,
            Some(Message::Start(_)) | None => {}
        }
    }
}

/// One connection to a pod's port, as a stream of bytes.
pub(super) async fn tunnel(node: NodeClient, pod: PodRef, port: u32) -> Result<DuplexStream, Status> {
    let Connection { to_pod, mut from_pod } = connect(node, pod, port).await?;
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (mut read, mut write) = tokio::io::split(ours);
    tasks::spawn("tunnel-out", async move {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            if !say(&to_pod, Message::Data(Bytes::copy_from_slice(&buffer[..count]))).await {
                return;
            }
        }
    });
    tasks::spawn("tunnel-in", async move {
        while let Some(data) = received(&mut from_pod).await {
            if write.write_all(&data).await.is_err() {
                return;
            }
        }
        // The reader sees the end, or is gone.
        drop(write.shutdown().await);
    });
    Ok(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        let ports = |query: &str| ports_of(&Query::parse(query)).map_err(|status| status.message);
        assert_eq!(ports("ports=80,443&ports=1"), Ok(vec![80, 443, 1]));
        assert!(ports("").expect_err("none").contains("required"));
        assert!(ports("ports=0").expect_err("zero").contains("must be > 0"));
        assert!(ports("ports=99999").expect_err("large").contains("unable to parse"));
    }
}
