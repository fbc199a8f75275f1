//! WebSockets as Kubernetes' streaming protocols use them: messages whose first
//! byte is a channel, messages that are pieces of one stream, and a tunnel for
//! another protocol.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

/// The largest message taken from a client.
const MAX_MESSAGE: usize = 1 << 20;
/// v5 of the channel protocol: the next byte is the channel to close.
const CLOSE: u8 = 255;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn accept(upgraded: Upgraded) -> Socket {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// How bytes are put into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Binary,
    /// Text: the channel's digit, then base64.
    Base64,
}

impl Coding {
    /// The coding that a protocol's name says.
    pub(super) fn of(protocol: &str) -> Self {
        if protocol.contains("base64.") { Self::Base64 } else { Self::Binary }
    }

    fn message(self, channel: Option<u8>, data: &[u8]) -> Message {
        match self {
            Self::Binary => {
                let bytes: Vec<u8> = channel.into_iter().chain(data.iter().copied()).collect();
                Message::Binary(bytes.into())
            }
            Self::Base64 => {
                let mut text = channel.map(|number| number.to_string()).unwrap_or_default();
                STANDARD.encode_string(data, &mut text);
                Message::Text(text.into())
            }
        }
    }

    /// The channel and the bytes of a message.
    fn parse(self, message: &[u8]) -> Option<(u8, Bytes)> {
        let (&channel, data) = message.split_first()?;
        match self {
            Self::Binary => Some((channel, Bytes::copy_from_slice(data))),
            Self::Base64 => Some((channel.checked_sub(b'0')?, STANDARD.decode(data).ok()?.into())),
        }
    }
}

/// What a client says on its channels.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Data(u8, Bytes),
    /// A channel is closed (v5).
    Closed(u8),
}

/// The receiving half.
pub(super) struct Receiver {
    socket: SplitStream<Socket>,
    coding: Coding,
    can_close: bool,
}

/// The sending half.
pub(super) struct Sender {
    socket: SplitSink<Socket, Message>,
    coding: Coding,
}

/// Opens the channels of a connection.
pub(super) async fn channels(upgraded: Upgraded, protocol: &str) -> (Sender, Receiver) {
    let coding = Coding::of(protocol);
    let (sink, stream) = accept(upgraded).await.split();
    let can_close = protocol.starts_with("v5.");
    (Sender { socket: sink, coding }, Receiver { socket: stream, coding, can_close })
}

impl Receiver {
    /// What is said next; `None` when the client is gone or says good-bye.
    pub(super) async fn next(&mut self) -> Option<Said> {
        loop {
            let message = self.socket.next().await?.ok()?;
            let parsed = match &message {
                Message::Binary(data) => self.coding.parse(data),
                Message::Text(text) => self.coding.parse(text.as_bytes()),
                Message::Close(_) => return None,
                _ => None,
            };
            match parsed {
                Some((CLOSE, data)) if self.can_close => {
                    if let Some(&channel) = data.first() {
                        return Some(Said::Closed(channel));
                    }
                }
                Some((channel, data)) => return Some(Said::Data(channel, data)),
                // Pings are answered below us; what cannot be read is passed over.
                None => {}
            }
        }
    }
}

impl Sender {
    /// Sends on a channel; false where the client is gone.
    pub(super) async fn send(&mut self, channel: u8, data: &[u8]) -> bool {
        self.socket.send(self.coding.message(Some(channel), data)).await.is_ok()
    }

    /// Sends a piece of the only stream; false where the client is gone.
    pub(super) async fn send_piece(&mut self, data: &[u8]) -> bool {
        self.socket.send(self.coding.message(None, data)).await.is_ok()
    }

    /// Ends the connection. Clients take any other end than a normal one for a failure.
    pub(super) async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // The client may be gone already.
        drop(self.socket.send(Message::Close(Some(frame))).await);
        drop(self.socket.close().await);
    }
}

/// The connection as plain bytes both ways, for a protocol inside it.
pub(super) async fn tunnel(upgraded: Upgraded) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    let (sink, stream) = accept(upgraded).await.split();
    let pieces = stream.filter_map(|message| async {
        match message {
            Ok(Message::Binary(data)) => Some(Ok(data)),
            Ok(Message::Close(_)) => Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        }
    });
    let sink = sink
        .sink_map_err(io::Error::other)
        .with(|data: Bytes| std::future::ready(Ok::<_, io::Error>(Message::Binary(data))));
    let reader = StreamReader::new(Box::pin(pieces));
    let writer = SinkWriter::new(CopyToBytes::new(sink));
    tokio::io::join(reader, writer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_coded() {
        assert_eq!(Coding::of("v4.channel.k8s.io"), Coding::Binary);
        assert_eq!(Coding::of("v4.base64.channel.k8s.io"), Coding::Base64);
        assert_eq!(Coding::Binary.message(Some(1), b"hi"), Message::Binary(vec![1, b'h', b'i'].into()));
        assert_eq!(Coding::Base64.message(Some(1), b"hi"), Message::Text("1aGk=".into()));
        assert_eq!(Coding::Base64.message(None, b"hi"), Message::Text("aGk=".into()));
        assert_eq!(Coding::Binary.parse(&[0, b'x']), Some((0, Bytes::from_static(b"x"))));
        assert_eq!(Coding::Base64.parse(b"0aGk="), Some((0, Bytes::from_static(b"hi"))));
        assert_eq!(Coding::Base64.parse(b"0!"), None);
        assert_eq!(Coding::Binary.parse(&[]), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_channel_or_nothing(message in prop::collection::vec(any::<u8>(), 0..64)) {
            for coding in [Coding::Binary, Coding::Base64] {
                if let Some((_, data)) = coding.parse(&message) {
                    prop_assert!(data.len() < message.len());
                }
            }
        }
    }
}
