//! Port forwarding: one stream is one connection, dialled from inside the pod's
//! network.

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::node as pb;
use wire::node::port_forward_data::Message;

use super::{Answers, bad_request};
use crate::runtime::Runtime;

/// Reads the first message.
pub(super) async fn begin(
    mut input: Streaming<pb::PortForwardData>,
) -> Result<(pb::PortForwardStart, Streaming<pb::PortForwardData>), Status> {
    match input.message().await?.and_then(|message| message.message) {
        Some(Message::Start(start)) => Ok((start, input)),
        _ => Err(bad_request("the first message must be the start")),
    }
}

/// Connects, and passes bytes both ways. Each direction ends by itself: what is
/// under way in the other still arrives.
pub(super) async fn forward(
    runtime: &Runtime,
    sandbox: &str,
    port: u32,
    input: Streaming<pb::PortForwardData>,
) -> Result<Answers<pb::PortForwardData>, Status> {
    let port = u16::try_from(port).map_err(|_| bad_request(format!("{port} is not a port")))?;
    let connection = runtime.dial(sandbox, port).await.map_err(|error| bad_request(error.to_string()))?;
    let (reader, writer) = connection.into_split();
    let (sender, receiver) = mpsc::channel(64);
    daemon::tasks::spawn("port-forward", async move {
        let both = async { tokio::try_join!(inward(input, writer), outward(reader, &sender)) };
        tokio::select! {
            passed = both => if let Err(error) = passed {
                tracing::debug!(port, error = %error, "forwarded connection broke");
            },
            () = sender.closed() => {}
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// From the client to the pod.
async fn inward(
    mut input: Streaming<pb::PortForwardData>,
    mut writer: OwnedWriteHalf,
) -> std::io::Result<()> {
    while let Ok(Some(message)) = input.message().await {
        match message.message {
            Some(Message::Data(data)) => writer.write_all(&data).await?,
            _ => break,
        }
    }
    match writer.shutdown().await {
        // The pod's end may be closed already.
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => Ok(()),
        other => other,
    }
}

/// From the pod to the client.
async fn outward(
    mut reader: OwnedReadHalf,
    sender: &mpsc::Sender<Result<pb::PortForwardData, Status>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = reader.read(&mut buffer).await?;
        let message = if length == 0 {
            Message::Close(true)
        } else {
            Message::Data(Bytes::copy_from_slice(&buffer[..length]))
        };
        let sent = sender.send(Ok(pb::PortForwardData { message: Some(message) })).await;
        if length == 0 || sent.is_err() {
            return Ok(());
        }
    }
}
