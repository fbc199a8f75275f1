//! Asks other name servers, over UDP, and over TCP where an answer was cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::Clock;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::remembered::Remembered;

/// How long one server may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many questions may be open at once.
const OPEN: usize = 1000;
/// The largest answer over UDP that servers are asked for.
const PAYLOAD: u16 = 1232;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Nobody to ask.
    #[error("no name servers are configured for names outside the cluster")]
    NoServers,
    /// Too many open questions.
    #[error("too many questions are open")]
    Busy,
    /// All failed; the last one's error.
    #[error("no name server answered: {0}")]
    Failed(String),
}

/// The way to other name servers.
pub struct Forwarder {
    servers: Vec<SocketAddr>,
    remembered: Remembered,
    open: Semaphore,
    clock: Arc<dyn Clock>,
}

impl Forwarder {
    /// A way to some servers, the first being asked first.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>, clock: Arc<dyn Clock>) -> Self {
        Self { servers, remembered: Remembered::default(), open: Semaphore::new(OPEN), clock }
    }

    /// Asks; `signed`: signatures are wanted along.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn ask(&self, name: &Name, kind: RecordType, signed: bool) -> Result<Message, ForwardError> {
        let asked = (name.to_lowercase(), kind, signed);
        if let Some(message) = self.remembered.get(&asked, self.clock.monotonic()) {
            return Ok(message);
        }
        let _permit = self.open.try_acquire().map_err(|_| ForwardError::Busy)?;
        let mut last = ForwardError::NoServers;
        for server in self.servers.iter().chain(&self.servers) {
            match exchange(*server, name, kind, signed).await {
                Ok(message) => {
                    self.remembered.keep(asked, &message, self.clock.monotonic());
                    return Ok(message);
                }
                Err(error) => last = ForwardError::Failed(format!("{server}: {error}")),
            }
        }
        Err(last)
    }
}

async fn exchange(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    signed: bool,
) -> std::io::Result<Message> {
    let question = question(name, kind, signed);
    let bytes = question.to_vec().map_err(std::io::Error::other)?;
    let answer = within(over_udp(server, &bytes, &question)).await?;
    if answer.metadata.truncation { within(over_tcp(server, &bytes, &question)).await } else { Ok(answer) }
}

async fn within<T>(work: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

fn question(name: &Name, kind: RecordType, signed: bool) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD).set_dnssec_ok(signed);
    message.set_edns(edns);
    message
}

/// The socket's port and the id are chance: hard to guess for who sends false answers.
async fn over_udp(server: SocketAddr, bytes: &[u8], question: &Message) -> std::io::Result<Message> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(message) = accept(&buffer[..length], question) {
            return Ok(message);
        }
    }
}

async fn over_tcp(server: SocketAddr, bytes: &[u8], question: &Message) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    accept(&buffer, question).ok_or_else(|| std::io::Error::other("the answer is to another question"))
}

/// An answer to this question and no other.
fn accept(bytes: &[u8], question: &Message) -> Option<Message> {
    let message = Message::from_vec(bytes).ok()?;
    let same = message.metadata.id == question.metadata.id
        && message.metadata.message_type == MessageType::Response
        && message.queries == question.queries;
    same.then_some(message)
}
