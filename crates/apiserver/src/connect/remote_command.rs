//! `pods/exec` and `pods/attach`: the client's streams, over WebSocket channels
//! or SPDY, joined with the node's.

use std::time::Duration;

use api::Status;
use bytes::Bytes;
use daemon::tasks;
use futures::StreamExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tonic::Streaming;
use wire::node::exec_input::Input;
use wire::node::exec_output::Output;
use wire::node::{ExecInput, ExecOutput, ExecStart, TerminalSize};

use super::spdy::{self, Reset, SpdyStream, StreamSender};
use super::upgrade::{self, Carrier, Offer};
use super::websocket::{self, Said};
use super::{Located, NodeClient};
use crate::rest::{Answer, Query};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const OFFER: Offer = Offer {
    web_socket: &[
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "channel.k8s.io",
        "base64.channel.k8s.io",
    ],
    default: Some("channel.k8s.io"),
    spdy: &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io"],
};
/// How long a SPDY client may take to open its streams, as upstream.
const STREAMS_OPEN: Duration = Duration::from_secs(30);
/// Messages under way to the node.
const QUEUE: usize = 16;
/// More than any terminal's size needs.
const MAX_RESIZE: usize = 4 << 10;

/// A command to run, or to attach to.
struct RemoteCommand {
    node: NodeClient,
    start: ExecStart,
    is_attach: bool,
    protocol: &'static str,
}

pub(super) fn answer(
    located: Located,
    subresource: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, Status> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let tty = query.flag("tty");
    let start = ExecStart {
        pod: Some(located.reference(&located.container(query.get("container"))?)),
        command: query.all("command").map(str::to_owned).collect(),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        // A terminal has one output.
        stderr: query.flag("stderr") && !tty,
        tty,
    };
    let is_attach = subresource == "attach";
    if !is_attach && start.command.is_empty() {
        return Err(Status::bad_request("you must specify at least one command for the container"));
    }
    if !(start.stdin || start.stdout || start.stderr) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let agreed = upgrade::agree(&mut request, &OFFER)?;
    let command = RemoteCommand { node: located.node, start, is_attach, protocol: agreed.protocol };
    tasks::spawn("exec", async move {
        match agreed.connection.await {
            Ok(upgraded) => match agreed.carrier {
                Carrier::WebSocket => command.over_web_socket(upgraded).await,
                Carrier::Spdy => command.over_spdy(upgraded).await,
            },
            Err(error) => tracing::debug!(%error, "an upgrade failed"),
        }
    });
    Ok(agreed.response)
}

impl RemoteCommand {
    /// Opens the node's stream.
    async fn open(&mut self) -> Result<(mpsc::Sender<ExecInput>, Streaming<ExecOutput>), Status> {
        let (input, inputs) = mpsc::channel(QUEUE);
        let first = ExecInput { input: Some(Input::Start(self.start.clone())) };
        // The receiver is alive: it is handed to the call below.
        drop(input.send(first).await);
        let inputs = tokio_stream::wrappers::ReceiverStream::new(inputs);
        let opened =
            if self.is_attach { self.node.attach(inputs).await } else { self.node.exec(inputs).await };
        let outputs = opened.map_err(|status| client::of_grpc(&status))?.into_inner();
        Ok((input, outputs))
    }

    /// What the error channel is told: from the fourth version on a status, before
    /// that the message of a failure.
    fn ending(&self, status: &[u8]) -> Bytes {
        if self.protocol.starts_with("v5.") || self.protocol.starts_with("v4.") {
            return Bytes::copy_from_slice(status);
        }
        let value: serde_json::Value = serde_json::from_slice(status).unwrap_or_default();
        match value["status"].as_str() {
            Some("Success") => Bytes::new(),
            _ => value["message"].as_str().unwrap_or("the command failed").to_owned().into(),
        }
    }

    async fn over_web_socket(mut self, upgraded: Upgraded) {
        let (mut to_client, mut from_client) = websocket::channels(upgraded, self.protocol).await;
        let (input, mut outputs) = match self.open().await {
            Ok(opened) => opened,
            Err(status) => {
                to_client.send(ERROR, &self.ending(&status.to_bytes())).await;
                return to_client.close().await;
            }
        };
        // Tells the client that the command is about to run.
        let first = match (self.start.stdout, self.start.stderr) {
            (true, _) => STDOUT,
            (_, true) => STDERR,
            _ => ERROR,
        };
        let mut alive = to_client.send(first, &[]).await;
        while alive {
            tokio::select! {
                output = outputs.next() => {
                    let Some(output) = output else { break };
                    let (channel, data) = match said(output) {
                        Some((ERROR, status)) => (ERROR, self.ending(&status)),
                        Some(other) => other,
                        None => continue,
                    };
                    alive = to_client.send(channel, &data).await && channel != ERROR;
                }
                incoming = from_client.next() => {
                    let message = match incoming {
                        None => break,
                        Some(Said::Data(STDIN, data)) => Some(Input::Stdin(data)),
                        Some(Said::Data(RESIZE, data)) => sizes(&data).pop().map(Input::Resize),
                        Some(Said::Closed(STDIN)) => Some(Input::CloseStdin(true)),
                        Some(_) => None,
                    };
                    if let Some(message) = message {
                        alive = input.send(ExecInput { input: Some(message) }).await.is_ok();
                    }
                }
            }
        }
        to_client.close().await;
    }

    async fn over_spdy(mut self, upgraded: Upgraded) {
        let mut session = match spdy::serve(TokioIo::new(upgraded)) {
            Ok(session) => session,
            Err(error) => return tracing::warn!(%error, "cannot serve SPDY"),
        };
        let wanted = self.wanted_streams();
        let gathered = tokio::time::timeout(STREAMS_OPEN, gather(&mut session, &wanted)).await;
        let Ok(Some(mut streams)) = gathered else {
            tracing::debug!("the client did not open its streams in time");
            return session.close().await;
        };
        let mut take = |kind: &str| {
            let at = streams.iter().position(|stream| stream.header("streamtype") == kind)?;
            Some(streams.swap_remove(at).split())
        };
        let error = take("error");
        let (stdin, resize) = (take("stdin"), take("resize"));
        let (stdout, stderr) = (take("stdout"), take("stderr"));
        let ending = match self.open().await {
            Err(status) => Some(self.ending(&status.to_bytes())),
            Ok((input, outputs)) => {
                if let Some((sender, received)) = stdin {
                    pump_stdin(sender, received, input.clone());
                }
                if let Some((_, received)) = resize {
                    pump_resize(received, input.clone());
                }
                let senders = [stdout.as_ref().map(|(s, _)| s), stderr.as_ref().map(|(s, _)| s)];
                let status = pass_outputs(&mut session, outputs, senders).await;
                drop(input);
                status.map(|status| self.ending(&status))
            }
        };
        for (sender, _) in [&stdout, &stderr].into_iter().flatten() {
            sender.finish().await;
        }
        if let Some((sender, _)) = &error {
            if let Some(ending) = ending {
                sender.send(ending).await;
            }
            sender.finish().await;
        }
        drop((error, stdout, stderr));
        session.close().await;
    }

    /// The types of the streams that a SPDY client opens.
    fn wanted_streams(&self) -> Vec<&'static str> {
        let has_resize = self.start.tty && !self.protocol.starts_with("v2.");
        let all = [
            (true, "error"),
            (self.start.stdin, "stdin"),
            (self.start.stdout, "stdout"),
            (self.start.stderr, "stderr"),
            (has_resize, "resize"),
        ];
        all.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, kind)| kind).collect()
    }
}

/// The streams wanted, each once; `None` where the client went away.
async fn gather(session: &mut spdy::Session, wanted: &[&str]) -> Option<Vec<SpdyStream>> {
    let mut gathered: Vec<SpdyStream> = Vec::new();
    while gathered.len() < wanted.len() {
        let stream = session.streams.recv().await?;
        let kind = stream.header("streamtype");
        if wanted.contains(&kind) && !gathered.iter().any(|one| one.header("streamtype") == kind) {
            gathered.push(stream);
        } else {
            stream.reset(Reset::Refused).await;
        }
    }
    Some(gathered)
}

/// Passes output on until the command ends; gives its status.
async fn pass_outputs(
    session: &mut spdy::Session,
    mut outputs: Streaming<ExecOutput>,
    [stdout, stderr]: [Option<&StreamSender>; 2],
) -> Option<Bytes> {
    loop {
        tokio::select! {
            output = outputs.next() => match said(output?) {
                Some((ERROR, status)) => return Some(status),
                Some((channel, data)) => {
                    let to = if channel == STDOUT { stdout } else { stderr };
                    if let Some(to) = to && !to.send(data).await {
                        return None;
                    }
                }
                None => {}
            },
            stream = session.streams.recv() => stream?.reset(Reset::Refused).await,
        }
    }
}

fn pump_stdin(sender: StreamSender, mut received: mpsc::Receiver<Bytes>, input: mpsc::Sender<ExecInput>) {
    tasks::spawn("exec-stdin", async move {
        while let Some(data) = received.recv().await {
            if input.send(ExecInput { input: Some(Input::Stdin(data)) }).await.is_err() {
                return;
            }
        }
        // A command that ended needs no word of it.
        drop(input.send(ExecInput { input: Some(Input::CloseStdin(true)) }).await);
        sender.finish().await;
    });
}

fn pump_resize(mut received: mpsc::Receiver<Bytes>, input: mpsc::Sender<ExecInput>) {
    tasks::spawn("exec-resize", async move {
        let mut buffer = Vec::new();
        while let Some(data) = received.recv().await {
            buffer.extend_from_slice(&data);
            let Some(end) = buffer.iter().rposition(|byte| *byte == b'}') else {
                if buffer.len() > MAX_RESIZE {
                    return;
                }
                continue;
            };
            let whole: Vec<u8> = buffer.drain(..=end).collect();
            for size in sizes(&whole) {
                if input.send(ExecInput { input: Some(Input::Resize(size)) }).await.is_err() {
                    return;
                }
            }
        }
    });
}

/// The sizes in a sequence of JSON objects; what cannot be read is passed over.
fn sizes(data: &[u8]) -> Vec<TerminalSize> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u32,
        height: u32,
    }
    let sizes = serde_json::Deserializer::from_slice(data).into_iter::<Size>();
    sizes.map_while(Result::ok).map(|size| TerminalSize { width: size.width, height: size.height }).collect()
}

/// The channel and the bytes of what the node sent; on the error channel a status.
fn said(output: Result<ExecOutput, tonic::Status>) -> Option<(u8, Bytes)> {
    match output.map(|output| output.output) {
        Ok(Some(Output::Stdout(data))) => Some((STDOUT, data)),
        Ok(Some(Output::Stderr(data))) => Some((STDERR, data)),
        Ok(Some(Output::Status(status))) => Some((ERROR, status)),
        Ok(None) => None,
        Err(status) => Some((ERROR, client::of_grpc(&status).to_bytes().into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let pairs = |text: &str| -> Vec<(u32, u32)> {
            sizes(text.as_bytes()).iter().map(|size| (size.width, size.height)).collect()
        };
        assert_eq!(pairs("{\"Width\":80,\"Height\":24}\n{\"Width\":1,\"Height\":2}"), [(80, 24), (1, 2)]);
        assert_eq!(pairs("{\"Width\":80,\"Height\":24}\n{\"Wid"), [(80, 24)]);
        assert!(pairs("junk").is_empty());
    }
}
