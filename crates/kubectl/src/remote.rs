//! The client's side of commands in containers: exec and attach over the node
//! service, with the local terminal or with streams of a caller's.

use std::io::Read as _;

use bytes::Bytes;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use wire::node::{ExecInput, ExecOutput, ExecStart, exec_input, exec_output};

use crate::error::Error;
use crate::kube::Kube;
use crate::{output, terminal};

/// Messages under way to the server.
const QUEUE: usize = 16;
/// Bytes of one message.
const CHUNK: usize = 32 * 1024;

/// Whether a new process is started or the container's own is joined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Exec,
    Attach,
}

/// A running remote command.
pub(crate) struct Remote {
    pub(crate) inputs: mpsc::Sender<ExecInput>,
    pub(crate) outputs: Streaming<ExecOutput>,
}

fn input(input: exec_input::Input) -> ExecInput {
    ExecInput { input: Some(input) }
}

/// One piece of standard input.
pub(crate) fn stdin(bytes: impl Into<Vec<u8>>) -> ExecInput {
    input(exec_input::Input::Stdin(Bytes::from(bytes.into())))
}

/// The end of standard input.
pub(crate) fn end_of_stdin() -> ExecInput {
    input(exec_input::Input::CloseStdin(true))
}

/// Starts a command.
pub(crate) async fn open(kube: &Kube, call: Call, start: ExecStart) -> Result<Remote, Error> {
    let (inputs, queue) = mpsc::channel(QUEUE);
    // The queue is empty and its receiver is held.
    inputs
        .try_send(input(exec_input::Input::Start(start)))
        .map_err(|error| Error::said(error.to_string()))?;
    let mut node = kube.client().await?.node();
    let queue = ReceiverStream::new(queue);
    let answer = match call {
        Call::Exec => node.exec(queue).await?,
        Call::Attach => node.attach(queue).await?,
    };
    Ok(Remote { inputs, outputs: answer.into_inner() })
}

/// Runs a command with this process's streams until it ends. A command that
/// ends with another code than zero is an error that carries it.
pub(crate) async fn run(kube: &Kube, call: Call, start: ExecStart) -> Result<(), Error> {
    let (with_stdin, tty) = (start.stdin, start.tty);
    let raw = if tty { Some(terminal::Raw::enter()?) } else { None };
    let outcome = async {
        let mut remote = open(kube, call, start).await?;
        if tty {
            client::spawn_task(follow_size(remote.inputs.clone()));
        }
        if with_stdin {
            let inputs = remote.inputs.clone();
            tokio::task::spawn_blocking(move || send_stdin(&inputs));
        }
        show(&mut remote.outputs).await
    };
    let outcome = if tty {
        tokio::select! {
            outcome = outcome => outcome,
            code = terminal::ended() => Err(Error::Exit(code?)),
        }
    } else {
        outcome.await
    };
    drop(raw);
    outcome
}

/// Blocks its thread for as long as there may be input.
fn send_stdin(inputs: &mpsc::Sender<ExecInput>) {
    let mut source = std::io::stdin();
    let mut buffer = vec![0; CHUNK];
    // Input that cannot be read any more has ended.
    while let Ok(length @ 1..) = source.read(&mut buffer) {
        if inputs.blocking_send(stdin(&buffer[..length])).is_err() {
            return;
        }
    }
    // The command may have ended before its input.
    inputs.blocking_send(end_of_stdin()).ok();
}

async fn follow_size(inputs: mpsc::Sender<ExecInput>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some(size) = terminal::size()
            && inputs.send(input(exec_input::Input::Resize(size))).await.is_err()
        {
            return;
        }
        changes.recv().await;
    }
}

async fn show(outputs: &mut Streaming<ExecOutput>) -> Result<(), Error> {
    while let Some(message) = outputs.message().await? {
        match message.output {
            Some(exec_output::Output::Stdout(bytes)) => output::write_bytes(&bytes)?,
            Some(exec_output::Output::Stderr(bytes)) => output::error_bytes(&bytes)?,
            Some(exec_output::Output::Status(json)) => return outcome(&json),
            None => {}
        }
    }
    Ok(())
}

/// What the last message of a command says about it.
pub(crate) fn outcome(json: &[u8]) -> Result<(), Error> {
    let status: Value = serde_json::from_slice(json)?;
    if status["status"] == "Success" {
        return Ok(());
    }
    if status["reason"] == "NonZeroExitCode" {
        let causes = status["details"]["causes"].as_array();
        let code = causes.into_iter().flatten().find(|cause| cause["reason"] == "ExitCode");
        let code = code.and_then(|cause| cause["message"].as_str()).and_then(|text| text.parse::<i64>().ok());
        return match code {
            // Codes of processes are bytes.
            Some(code) => Err(Error::Ended(u8::try_from(code & 0xff).unwrap_or(1))),
            None => Err(Error::said("error stream protocol error: unknown error")),
        };
    }
    Err(Error::Said(status["message"].as_str().unwrap_or("the command failed").to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn exit_codes_are_passed_on() {
        let read = |value: Value| outcome(value.to_string().as_bytes());
        assert!(read(json!({"status": "Success"})).is_ok());
        let error = read(json!({"status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}}))
        .expect_err("code");
        assert_eq!((error.code(), error.to_string().as_str()), (3, "command terminated with exit code 3"));
        let error = read(json!({"status": "Failure", "message": "no such container"})).expect_err("message");
        assert_eq!((error.code(), error.to_string().as_str()), (1, "error: no such container"));
    }
}
