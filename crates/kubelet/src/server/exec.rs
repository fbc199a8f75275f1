//! Exec and attach: bytes both ways, and at the end a `metav1.Status` that
//! carries the exit code.

use std::path::Path;
use std::sync::Arc;

use api::types::core::v1::Pod;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::node as pb;
use wire::node::exec_input::Input;
use wire::node::exec_output::Output;

use super::{Answers, bad_request};
use crate::logs::read::Options;
use crate::pod;
use crate::runtime::Runtime;
use crate::runtime::exec::{Command, Process};
use crate::runtime::record::Record;
use crate::worker::pods::Pods;

/// Reads the first message.
pub(super) async fn begin(
    mut input: Streaming<pb::ExecInput>,
) -> Result<(pb::ExecStart, Streaming<pb::ExecInput>), Status> {
    match input.message().await?.and_then(|message| message.input) {
        Some(Input::Start(start)) => Ok((start, input)),
        _ => Err(bad_request("the first message must be the start")),
    }
}

/// The status at the end.
fn ending(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn failure(message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500, "message": message})
}

type Sender = mpsc::Sender<Result<pb::ExecOutput, Status>>;

async fn send(sender: &Sender, output: Output) -> bool {
    sender.send(Ok(pb::ExecOutput { output: Some(output) })).await.is_ok()
}

/// Starts a process and connects it.
pub(super) async fn exec(
    runtime: &Runtime,
    container: &str,
    start: &pb::ExecStart,
    input: Streaming<pb::ExecInput>,
) -> Result<Answers<pb::ExecOutput>, Status> {
    if start.command.is_empty() {
        return Err(bad_request("you must specify at least 1 command for the container"));
    }
    let command = Command { arguments: start.command.clone(), terminal: start.tty, stdin: start.stdin };
    let (sender, receiver) = mpsc::channel(64);
    match runtime.exec(container, &command).await {
        Ok(process) => {
            daemon::tasks::spawn("exec", connect(process, input, sender));
        }
        Err(error) => {
            let status = failure(&crate::images::chain(&error)).to_string().into();
            send(&sender, Output::Status(status)).await;
        }
    }
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn connect(mut process: Process, input: Streaming<pb::ExecInput>, sender: Sender) {
    let stdin = process.stdin.take();
    let stdout = process.stdout.take();
    let stderr = process.stderr.take();
    let outputs = async {
        tokio::join!(pump(stdout, &sender, Output::Stdout), pump(stderr, &sender, Output::Stderr),);
    };
    let feeding = feed(&process, input, stdin);
    let waiting = async {
        let (code, ()) = tokio::join!(process.wait(), outputs);
        code
    };
    tokio::pin!(feeding, waiting);
    let code = tokio::select! {
        code = &mut waiting => code,
        is_gone = &mut feeding => {
            if is_gone {
                // The other end hung up: the process goes on without input, as
                // upstream leaves it.
                drop(process.close_stdin().await);
            }
            tokio::select! {
                code = &mut waiting => code,
                () = sender.closed() => {
                    drop(process.kill().await);
                    waiting.await
                }
            }
        }
    };
    let status = code.map_or_else(|error| failure(&error.to_string()), ending);
    send(&sender, Output::Status(status.to_string().into())).await;
    if let Err(error) = process.delete().await {
        tracing::debug!(error = %error, "exec not removed");
    }
}

async fn pump(pipe: Option<pipe::Receiver>, sender: &Sender, wrap: impl Fn(Bytes) -> Output) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 32 << 10];
    let mut listening = true;
    while let Ok(length) = pipe.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        // A process whose reader left must still be able to write and end.
        listening = listening && send(sender, wrap(Bytes::copy_from_slice(&buffer[..length]))).await;
    }
}

/// Passes input on; whether the other end hung up.
async fn feed(
    process: &Process,
    mut input: Streaming<pb::ExecInput>,
    mut stdin: Option<pipe::Sender>,
) -> bool {
    loop {
        match input.message().await.ok().flatten().and_then(|message| message.input) {
            Some(Input::Stdin(data)) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    stdin = None;
                }
            }
            Some(Input::Resize(size)) => {
                if let Err(error) = process.resize(size.width, size.height).await {
                    tracing::debug!(error = %error, "terminal not resized");
                }
            }
            Some(Input::CloseStdin(_)) => {
                stdin = None;
                drop(process.close_stdin().await);
            }
            Some(Input::Start(_)) => {}
            None => {
                drop(stdin);
                return true;
            }
        }
    }
}

/// Connects to a container's first process: its input pipe, and its log from
/// now on, which is where its output goes.
pub(super) fn attach(
    pods: &Arc<Pods>,
    pod: &Arc<Pod>,
    record: &Record,
    start: &pb::ExecStart,
    input: Streaming<pb::ExecInput>,
) -> Answers<pb::ExecOutput> {
    // Before any input: the answer to it may be in the log before we look there.
    let since = crate::time::now();
    let (sender, receiver) = mpsc::channel(64);
    let runtime = pods.tools().runtime.clone();
    let specification = pod::container(pod, &record.name);
    let stdin = Stdin {
        runtime: runtime.clone(),
        container: record.id.clone(),
        is_wanted: start.stdin,
        once: specification.is_some_and(|(_, container)| container.stdin_once == Some(true)),
    };
    let feeding = daemon::tasks::spawn("attach-input", stdin.feed(input)).abort_handle();
    let id = pod::id(pod);
    let path = crate::logs::path(&runtime.settings().logs, &id, &record.name, record.attempt);
    let (pods, container) = (Arc::clone(pods), record.id.clone());
    let (wants_stdout, wants_stderr) = (start.stdout, start.stderr && !start.tty);
    daemon::tasks::spawn("attach-output", async move {
        let follow = async |wanted: bool, stream: &'static str, wrap: fn(Bytes) -> Output| {
            if !wanted {
                pods.end_of(&id, &container).await;
                return Ok(());
            }
            follow_log(&path, (stream, since), pods.end_of(&id, &container), &sender, wrap).await
        };
        let (stdout, stderr) = tokio::join!(
            follow(wants_stdout, "stdout", Output::Stdout),
            follow(wants_stderr, "stderr", Output::Stderr),
        );
        feeding.abort();
        let code = pods.find(&id.namespace, &id.name, &id.uid).and_then(|(_, shown)| {
            let ended = shown.observed.containers.into_iter().find(|record| record.id == container)?;
            ended.exit().map(|exit| exit.code)
        });
        let status = stdout
            .and(stderr)
            .map_or_else(|error| failure(&error.to_string()), |()| ending(code.unwrap_or(0)));
        send(&sender, Output::Status(status.to_string().into())).await;
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Passes on what one stream of a container writes from now on.
async fn follow_log(
    path: &Path,
    (stream, since): (&'static str, jiff::Timestamp),
    over: impl Future<Output = ()>,
    sender: &Sender,
    wrap: fn(Bytes) -> Output,
) -> std::io::Result<()> {
    let options = Options { follow: true, since: Some(since), stream: Some(stream), ..Options::default() };
    let (lines, mut taken) = mpsc::channel::<Bytes>(64);
    let passing = async {
        while let Some(data) = taken.recv().await {
            if !send(sender, wrap(data)).await {
                taken.close();
            }
        }
    };
    let reading = async move { crate::logs::read::stream(path, &options, over, &lines).await };
    tokio::select! {
        (outcome, ()) = async { tokio::join!(reading, passing) } => outcome,
        () = sender.closed() => Ok(()),
    }
}

/// The input of a container that somebody is attached to.
struct Stdin {
    runtime: Runtime,
    container: String,
    is_wanted: bool,
    /// The input ends with the first who was attached.
    once: bool,
}

impl Stdin {
    async fn feed(self, mut input: Streaming<pb::ExecInput>) {
        let path = self.runtime.stdin_path(&self.container);
        let open = || pipe::OpenOptions::new().read_write(true).open_sender(&path).ok();
        let mut stdin = if self.is_wanted { open() } else { None };
        while let Ok(Some(message)) = input.message().await {
            match message.input {
                Some(Input::Stdin(data)) => {
                    if let Some(pipe) = &mut stdin
                        && pipe.write_all(&data).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Some(Input::Resize(size)) => {
                    if let Err(error) = self.runtime.resize(&self.container, size.width, size.height).await {
                        tracing::debug!(error = %error, "terminal not resized");
                    }
                }
                Some(Input::CloseStdin(_)) => break,
                _ => {}
            }
        }
        if self.is_wanted && self.once {
            drop(stdin.take());
            if let Err(error) = self.runtime.close_stdin(&self.container).await {
                tracing::debug!(error = %error, "input of a container not closed");
            }
        }
        // What is left to come is about the terminal's size.
        while let Ok(Some(message)) = input.message().await {
            if let Some(Input::Resize(size)) = message.input {
                drop(self.runtime.resize(&self.container, size.width, size.height).await);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        assert_eq!(ending(0)["status"], "Success");
        let failed = ending(3);
        assert_eq!(failed["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(failed["reason"], "NonZeroExitCode");
    }
}
