//! Port forwarding: one stream is one connection, dialled from inside the pod's
//! network.

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

/// Connects, and passes bytes both ways until both are closed.
pub(super) async fn forward(
    runtime: &Runtime,
    sandbox: &str,
    port: u32,
    mut input: Streaming<pb::PortForwardData>,
) -> Result<Answers<pb::PortForwardData>, Status> {
    let port = u16::try_from(port).map_err(|_| bad_request(format!("{port} is not a port")))?;
    let connection = runtime.dial(Some(sandbox), port).await;
    let connection = connection.map_err(|error| {
        bad_request(format!("failed to connect to localhost:{port} inside the pod: {error}"))
    })?;
    let (mut reader, mut writer) = connection.into_split();
    let (sender, receiver) = mpsc::channel(64);
    daemon::tasks::spawn("port-forward-in", async move {
        while let Ok(Some(message)) = input.message().await {
            match message.message {
                Some(Message::Data(data)) if writer.write_all(&data).await.is_ok() => {}
                _ => break,
            }
        }
        // The peer may have closed already.
        drop(writer.shutdown().await);
    });
    daemon::tasks::spawn("port-forward-out", async move {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let length = tokio::select! {
                read = reader.read(&mut buffer) => read.unwrap_or(0),
                () = sender.closed() => return,
            };
            let message = if length == 0 {
                Message::Close(true)
            } else {
                Message::Data(Bytes::copy_from_slice(&buffer[..length]))
            };
            let sent = sender.send(Ok(pb::PortForwardData { message: Some(message) })).await;
            if length == 0 || sent.is_err() {
                return;
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}
