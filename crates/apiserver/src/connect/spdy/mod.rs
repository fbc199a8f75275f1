//! The server's side of SPDY/3.1: many streams over one connection, as
//! client-go speaks it for exec, attach and port-forward, on the upgraded
//! connection itself or inside a WebSocket.
//!
//! It knows nothing of what the streams are for. Start reading in [`serve`].

mod frame;
mod headers;

use std::collections::HashMap;
use std::io;

use bytes::{Bytes, BytesMut};
use daemon::tasks;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use frame::{Reader, Received, Sent, Writer};
use headers::Headers;

pub(super) use frame::Reset;

/// Frames and pieces of data under way.
const QUEUE: usize = 16;
/// Streams open at once; more are refused.
const MAX_STREAMS: usize = 1000;
/// Data is sent in frames of at most this size.
const LARGEST: usize = 1 << 20;

/// A stream that the client opened.
pub(super) struct SpdyStream {
    id: u32,
    headers: Headers,
    received: mpsc::Receiver<Bytes>,
    sender: mpsc::Sender<Sent>,
}

/// The sending half of a stream.
#[derive(Clone)]
pub(super) struct StreamSender {
    id: u32,
    sender: mpsc::Sender<Sent>,
}

impl SpdyStream {
    /// The stream's number.
    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    /// A header of the stream, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// Parts it into its halves.
    pub(super) fn split(self) -> (StreamSender, mpsc::Receiver<Bytes>) {
        (StreamSender { id: self.id, sender: self.sender }, self.received)
    }

    /// Ends the stream at once.
    pub(super) async fn reset(self, why: Reset) {
        // A connection that is gone has no streams.
        drop(self.sender.send(Sent::Reset { stream: self.id, why }).await);
    }
}

impl StreamSender {
    /// Sends data; false where the connection is gone.
    pub(super) async fn send(&self, mut data: Bytes) -> bool {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(LARGEST));
            if self.sender.send(Sent::Data { stream: self.id, data: piece, fin: false }).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Says that nothing more will come.
    pub(super) async fn finish(&self) {
        // A connection that is gone has no streams.
        drop(self.sender.send(Sent::Data { stream: self.id, data: Bytes::new(), fin: true }).await);
    }
}

/// What is left to do with a connection after its streams were handed out.
pub(super) struct Session {
    /// The streams that the client opens, until the connection ends.
    pub(super) streams: mpsc::Receiver<SpdyStream>,
    sender: mpsc::Sender<Sent>,
    written: mpsc::Receiver<()>,
}

impl Session {
    /// Ends the connection after all that was sent is written.
    pub(super) async fn close(mut self) {
        drop(self.sender.send(Sent::GoAway { last: 0 }).await);
        drop(self.sender);
        drop(self.streams);
        // Nothing is ever sent: it ends when the writer does.
        self.written.recv().await;
    }
}

/// Serves a connection.
///
/// # Errors
/// The compressor cannot be made.
pub(super) fn serve<C>(connection: C) -> io::Result<Session>
where
    C: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(connection);
    let (sender, queue) = mpsc::channel(QUEUE);
    let (opened, streams) = mpsc::channel(QUEUE);
    let (writing, written) = mpsc::channel(1);
    let writer = Writer::new()?;
    let weak = sender.downgrade();
    tasks::spawn("spdy-write", async move {
        if let Err(error) = write_all(writer, write, queue).await {
            tracing::debug!(%error, "a SPDY connection broke while it was written");
        }
        drop(writing);
    });
    tasks::spawn("spdy-read", async move {
        let mut inbox = Inbox { streams: HashMap::new(), sender: weak, opened };
        if let Err(error) = inbox.read_all(Reader::new(read)).await {
            tracing::debug!(%error, "a SPDY connection broke while it was read");
        }
    });
    Ok(Session { streams, sender, written })
}

async fn write_all(
    mut writer: Writer,
    mut to: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Sent>,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = queue.recv().await {
        let is_last = matches!(frame, Sent::GoAway { .. });
        writer.encode(&frame, &mut buffer)?;
        to.write_all(&buffer).await?;
        to.flush().await?;
        buffer.clear();
        if is_last {
            break;
        }
    }
    to.shutdown().await
}

/// Where received frames go.
struct Inbox {
    streams: HashMap<u32, mpsc::Sender<Bytes>>,
    /// Weak: whoever reads must not keep the writer alive.
    sender: mpsc::WeakSender<Sent>,
    opened: mpsc::Sender<SpdyStream>,
}

impl Inbox {
    async fn read_all(&mut self, mut reader: Reader<impl AsyncRead + Unpin>) -> io::Result<()> {
        loop {
            let received = tokio::select! {
                received = reader.next() => received?,
                () = self.opened.closed(), if self.streams.is_empty() => return Ok(()),
            };
            let Some(received) = received else { return Ok(()) };
            match received {
                Received::Open { stream, headers, fin } => self.open(stream, headers, fin).await,
                Received::Data { stream, data, fin } => {
                    if let Some(to) = self.streams.get(&stream).filter(|_| !data.is_empty())
                        && to.send(data).await.is_err()
                    {
                        // Nobody reads it any more; the peer may go on sending.
                        self.streams.remove(&stream);
                    }
                    if fin {
                        self.streams.remove(&stream);
                    }
                }
                Received::Reset { stream } => drop(self.streams.remove(&stream)),
                Received::Ping { id } => self.say(Sent::Ping { id }).await,
                Received::GoAway => return Ok(()),
                Received::Other => {}
            }
        }
    }

    async fn say(&self, frame: Sent) {
        if let Some(sender) = self.sender.upgrade() {
            // The connection may have ended.
            drop(sender.send(frame).await);
        }
    }

    async fn open(&mut self, id: u32, headers: Headers, fin: bool) {
        let Some(sender) = self.sender.upgrade() else { return };
        if id.is_multiple_of(2) || self.streams.contains_key(&id) {
            return self.say(Sent::Reset { stream: id, why: Reset::Protocol }).await;
        }
        if self.streams.len() >= MAX_STREAMS {
            return self.say(Sent::Reset { stream: id, why: Reset::Refused }).await;
        }
        let (to, received) = mpsc::channel(QUEUE);
        if !fin {
            self.streams.insert(id, to);
        }
        self.say(Sent::Reply { stream: id }).await;
        let stream = SpdyStream { id, headers, received, sender };
        if self.opened.send(stream).await.is_err() {
            self.streams.remove(&id);
            self.say(Sent::Reset { stream: id, why: Reset::Refused }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::headers::Compressor;
    use super::*;

    #[tokio::test]
    async fn streams_are_opened_answered_and_ended() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let mut session = serve(server).expect("session");
        let mut compressor = Compressor::new().expect("dictionary");
        let opening = frame::testing::open(&mut compressor, 1, &[("streamtype", "stdin")], false);
        client.write_all(&opening).await.expect("open");
        client.write_all(&[0, 0, 0, 1, 1, 0, 0, 2, b'h', b'i']).await.expect("data with the end");
        let stream = session.streams.recv().await.expect("stream");
        assert_eq!((stream.id(), stream.header("streamtype")), (1, "stdin"));
        let (sender, mut received) = stream.split();
        assert_eq!(received.recv().await.expect("data"), "hi");
        assert_eq!(received.recv().await, None, "the stream ended");
        assert!(sender.send(Bytes::from_static(b"back")).await);
        sender.finish().await;
        drop(sender);
        session.close().await;
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.expect("read");
        assert_eq!(&all[..4], [0x80, 3, 0, 2], "a reply first");
        let text = all.windows(12).any(|part| part == [0, 0, 0, 1, 0, 0, 0, 4, b'b', b'a', b'c', b'k']);
        assert!(text, "then the data");
        let ends = all.windows(8).any(|part| part == [0, 0, 0, 1, 1, 0, 0, 0]);
        assert!(ends, "then the end");
        assert_eq!(&all[all.len() - 16..][..4], [0x80, 3, 0, 7], "at last GOAWAY");
    }

    #[tokio::test]
    async fn a_dead_client_ends_its_streams() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let mut session = serve(server).expect("session");
        drop(client);
        assert!(session.streams.recv().await.is_none());
    }
}
