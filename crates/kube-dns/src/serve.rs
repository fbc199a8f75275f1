//! The sockets.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::{Shutdown, tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::respond::{Responder, Transport};

/// How many packets may be in work for one socket.
const PACKETS: usize = 4096;
/// How many connections there may be to one socket.
const CONNECTIONS: usize = 256;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// Listens on an address, UDP and TCP on the same port; port 0: a free one.
///
/// # Errors
/// The address cannot be listened on.
pub async fn listen(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let mut attempts = 0;
    loop {
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            // A free port for TCP may be taken for UDP.
            Err(error) if error.kind() == ErrorKind::AddrInUse && address.port() == 0 && attempts < 20 => {
                attempts += 1
            }
            Err(error) => return Err(error),
        }
    }
}

/// Answers packets until shutdown.
pub async fn serve_udp(socket: UdpSocket, responder: Responder, shutdown: Shutdown) {
    let (socket, permits) = (Arc::new(socket), Arc::new(Semaphore::new(PACKETS)));
    let mut buffer = vec![0; 65_535];
    loop {
        let received = tokio::select! {
            () = shutdown.begun() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error is about an earlier answer whose client has left.
        let Ok((length, client)) = received else { continue };
        // Under such a flood clients ask again.
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let (request, responder, socket) =
            (buffer[..length].to_vec(), responder.clone(), Arc::clone(&socket));
        tasks::spawn("answer", async move {
            if let Some(response) = responder.respond(&request, Transport::Udp).await
                && let Err(error) = socket.send_to(&response, client).await
            {
                tracing::debug!(%client, %error, "cannot answer");
            }
            drop(permit);
        });
    }
}

/// Answers connections until shutdown.
pub async fn serve_tcp(listener: TcpListener, responder: Responder, shutdown: Shutdown) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.begun() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, client)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let (responder, shutdown) = (responder.clone(), shutdown.clone());
        tasks::spawn("connection", async move {
            let served = tokio::select! {
                () = shutdown.begun() => Ok(()),
                served = serve_connection(stream, &responder) => served,
            };
            if let Err(error) = served {
                tracing::debug!(%client, %error, "connection ended");
            }
            drop(permit);
        });
    }
}

async fn serve_connection(mut stream: TcpStream, responder: &Responder) -> std::io::Result<()> {
    loop {
        let request = match tokio::time::timeout(IDLE, read(&mut stream)).await {
            Ok(Ok(request)) => request,
            Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let Some(response) = responder.respond(&request, Transport::Tcp).await else { return Ok(()) };
        let length = u16::try_from(response.len()).map_err(std::io::Error::other)?;
        let bytes = [&length.to_be_bytes(), response.as_slice()].concat();
        tokio::time::timeout(IDLE, stream.write_all(&bytes)).await??;
    }
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut request).await?;
    Ok(request)
}
