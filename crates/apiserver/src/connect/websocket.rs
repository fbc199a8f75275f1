//! `pods/exec` and `pods/attach` over WebSocket, as stock kubectl speaks it:
//! the first byte of each message is the channel.
//!
//! The protocols are `v5.channel.k8s.io` (which can close a channel) and
//! `v4.channel.k8s.io`. `pods/portforward` answers over gRPC only.

use api::Status;
use base64::Engine as _;
use bytes::Bytes;
use daemon::tasks;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use sha2::Digest as _;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use wire::node::exec_input::Input;
use wire::node::exec_output::Output;
use wire::node::{ExecInput, ExecOutput, ExecStart, TerminalSize};

use super::Located;
use crate::rest::{Answer, Query, full};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5: the next byte is the channel to close.
const CLOSE: u8 = 255;
/// The protocols known, the best first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// The largest message taken from a client.
const MAX_MESSAGE: usize = 1 << 20;
/// Messages under way in each direction.
const QUEUE: usize = 16;

pub(super) fn answer(
    located: Located,
    subresource: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, Status> {
    if subresource == "portforward" {
        return Err(Status::bad_request(
            "port-forward is served over gRPC; the SPDY protocol is not available",
        ));
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let start = ExecStart {
        pod: Some(located.reference(&located.container(query.get("container"))?)),
        command: query.all("command").map(str::to_owned).collect(),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        tty: query.flag("tty"),
    };
    if subresource == "exec" && start.command.is_empty() {
        return Err(Status::bad_request("you must specify at least one command for the container"));
    }
    if !(start.stdin || start.stdout || start.stderr) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let (protocol, accept) = handshake(request.headers())?;
    let upgrade = hyper::upgrade::on(&mut request);
    let attach = subresource == "attach";
    tasks::spawn("exec", async move {
        match upgrade.await {
            Ok(upgraded) => run(upgraded, located, start, attach, protocol == PROTOCOLS[0]).await,
            Err(error) => tracing::debug!(%error, "a WebSocket upgrade failed"),
        }
    });
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).map_err(Status::internal)?);
    Ok(response)
}

/// Chooses the protocol and computes the answer to the client's key (RFC 6455).
fn handshake(headers: &HeaderMap) -> Result<(&'static str, String), Status> {
    let text = |name: header::HeaderName| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    if !text(header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return Err(Status::bad_request("unable to upgrade: only WebSocket connections are supported"));
    }
    let offered: Vec<&str> = text(header::SEC_WEBSOCKET_PROTOCOL).split(',').map(str::trim).collect();
    let protocol = PROTOCOLS.into_iter().find(|one| offered.contains(one)).ok_or_else(|| {
        Status::bad_request(format!("unable to upgrade: supported protocols are {PROTOCOLS:?}"))
    })?;
    let key = text(header::SEC_WEBSOCKET_KEY);
    if key.is_empty() || text(header::SEC_WEBSOCKET_VERSION) != "13" {
        return Err(Status::bad_request("unable to upgrade: not a WebSocket handshake of version 13"));
    }
    let mut hash = sha1::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    Ok((protocol, base64::engine::general_purpose::STANDARD.encode(hash.finalize())))
}

async fn run(
    upgraded: hyper::upgrade::Upgraded,
    located: Located,
    start: ExecStart,
    attach: bool,
    can_close: bool,
) {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut to_client, mut from_client) = socket.split();
    let (input, inputs) = mpsc::channel::<ExecInput>(QUEUE);
    let first = ExecInput { input: Some(Input::Start(start)) };
    // The receiver is alive: it is handed to the call below.
    drop(input.send(first).await);
    let mut node = located.node;
    let inputs = tokio_stream::wrappers::ReceiverStream::new(inputs);
    let opened = if attach { node.attach(inputs).await } else { node.exec(inputs).await };
    let mut outputs = match opened {
        Ok(outputs) => outputs.into_inner(),
        Err(status) => {
            let failure = client::of_grpc(&status).to_bytes();
            drop(to_client.send(message(ERROR, &failure)).await);
            drop(to_client.send(goodbye()).await);
            return;
        }
    };
    loop {
        tokio::select! {
            output = outputs.next() => {
                let Some(frame) = output.map(to_frame) else { break };
                let (frame, last) = frame;
                let Some(frame) = frame else { continue };
                if to_client.send(frame).await.is_err() || last {
                    break;
                }
            }
            incoming = from_client.next() => {
                let Some(Ok(incoming)) = incoming else { break };
                match to_input(&incoming, can_close) {
                    FromClient::Input(one) => {
                        if input.send(one).await.is_err() {
                            break;
                        }
                    }
                    FromClient::Nothing => {}
                    FromClient::End => break,
                }
            }
        }
    }
    // The client may be gone already.
    drop(to_client.send(goodbye()).await);
    drop(to_client.close().await);
}

/// Clients take any other end than a normal one for a failure.
fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

enum FromClient {
    Input(ExecInput),
    Nothing,
    End,
}

fn message(channel: u8, data: &[u8]) -> Message {
    let mut bytes = Vec::with_capacity(data.len() + 1);
    bytes.push(channel);
    bytes.extend_from_slice(data);
    Message::Binary(bytes.into())
}

fn to_frame(output: Result<ExecOutput, tonic::Status>) -> (Option<Message>, bool) {
    match output.map(|output| output.output) {
        Ok(Some(Output::Stdout(data))) => (Some(message(STDOUT, &data)), false),
        Ok(Some(Output::Stderr(data))) => (Some(message(STDERR, &data)), false),
        Ok(Some(Output::Status(status))) => (Some(message(ERROR, &status)), true),
        Ok(None) => (None, false),
        Err(status) => (Some(message(ERROR, &client::of_grpc(&status).to_bytes())), true),
    }
}

fn to_input(incoming: &Message, can_close: bool) -> FromClient {
    let data = match incoming {
        Message::Binary(data) => &data[..],
        Message::Text(text) => text.as_bytes(),
        Message::Close(_) => return FromClient::End,
        _ => return FromClient::Nothing,
    };
    let Some((channel, data)) = data.split_first() else { return FromClient::Nothing };
    let input = match *channel {
        STDIN => Input::Stdin(Bytes::copy_from_slice(data)),
        RESIZE => {
            #[derive(serde::Deserialize)]
            #[serde(rename_all = "PascalCase")]
            struct Size {
                width: u32,
                height: u32,
            }
            match serde_json::from_slice::<Size>(data) {
                Ok(size) => Input::Resize(TerminalSize { width: size.width, height: size.height }),
                Err(_) => return FromClient::Nothing,
            }
        }
        CLOSE if can_close && data.first() == Some(&STDIN) => Input::CloseStdin(true),
        _ => return FromClient::Nothing,
    };
    FromClient::Input(ExecInput { input: Some(input) })
}
