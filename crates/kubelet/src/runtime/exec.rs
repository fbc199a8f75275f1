//! Further processes in a running container.

use std::path::PathBuf;
use std::time::Duration;

use containerd_client::services::v1 as services;
use prost_types::Any;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe;

use super::Runtime;
use super::containerd::{RuntimeError, failed, gone_is_fine};
use super::stdio::make_fifo;

/// A process to be started in a container.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// With a terminal.
    pub terminal: bool,
    /// With standard input.
    pub stdin: bool,
}

/// A process that runs in a container. Its pipes are removed when it is dropped.
pub struct Process {
    runtime: Runtime,
    container: String,
    id: String,
    directory: PathBuf,
    /// Where its input goes.
    pub stdin: Option<pipe::Sender>,
    /// Where its output comes from.
    pub stdout: Option<pipe::Receiver>,
    /// Where its error output comes from; none with a terminal.
    pub stderr: Option<pipe::Receiver>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to tell; the directory is on a temporary file system.
        let _ignored = std::fs::remove_dir_all(&self.directory);
    }
}

/// What a process did, from beginning to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code.
    pub code: i32,
    /// The beginning of what it wrote, both streams together.
    pub output: Vec<u8>,
}

/// The most that is kept of a process's output.
const LONGEST_OUTPUT: u64 = 16 << 10;

impl Runtime {
    /// Starts a process in a container.
    ///
    /// # Errors
    /// When the container does not run, or the program cannot be started.
    pub async fn exec(&self, container: &str, command: &Command) -> Result<Process, RuntimeError> {
        let id = format!("exec-{}", uuid::Uuid::new_v4().simple());
        let directory = self.settings.state.join("io").join(&id);
        let process_spec = self.process_spec(container, command).await?;
        let mut process = Process {
            runtime: self.clone(),
            container: container.to_owned(),
            id: id.clone(),
            directory: directory.clone(),
            stdin: None,
            stdout: None,
            stderr: None,
        };
        let open = |name: &str| -> Result<PathBuf, RuntimeError> {
            let path = directory.join(name);
            make_fifo(&path)?;
            Ok(path)
        };
        let pipe_error = |source| RuntimeError::Io { what: format!("open pipes of {id}"), source };
        let mut paths = [String::new(), String::new(), String::new()];
        // Our ends are opened first: containerd would wait for them.
        if command.stdin {
            let path = open("stdin")?;
            process.stdin =
                Some(pipe::OpenOptions::new().read_write(true).open_sender(&path).map_err(pipe_error)?);
            paths[0] = path.display().to_string();
        }
        let path = open("stdout")?;
        process.stdout = Some(pipe::OpenOptions::new().open_receiver(&path).map_err(pipe_error)?);
        paths[1] = path.display().to_string();
        if !command.terminal {
            let path = open("stderr")?;
            process.stderr = Some(pipe::OpenOptions::new().open_receiver(&path).map_err(pipe_error)?);
            paths[2] = path.display().to_string();
        }
        let [stdin, stdout, stderr] = paths;
        let request = services::ExecProcessRequest {
            container_id: container.to_owned(),
            exec_id: id.clone(),
            stdin,
            stdout,
            stderr,
            terminal: command.terminal,
            spec: Some(process_spec),
        };
        let what = || failed(format!("exec {:?}", command.arguments));
        self.containerd.tasks().exec(self.containerd.request(request)).await.map_err(what())?;
        let start = services::StartRequest { container_id: container.to_owned(), exec_id: id.clone() };
        if let Err(error) =
            self.containerd.tasks().start(self.containerd.request(start)).await.map_err(what())
        {
            process.delete().await?;
            return Err(error);
        }
        Ok(process)
    }

    /// The container's own process with other arguments.
    async fn process_spec(&self, container: &str, command: &Command) -> Result<Any, RuntimeError> {
        let request = self.containerd.request(services::GetContainerRequest { id: container.to_owned() });
        let answer = self.containerd.containers().get(request).await.map_err(failed("get container"))?;
        let spec = answer.into_inner().container.and_then(|container| container.spec).unwrap_or_default();
        let spec: Value = serde_json::from_slice(&spec.value)
            .map_err(|error| RuntimeError::Unfit(format!("specification of {container}: {error}")))?;
        let mut process = spec["process"].clone();
        process["args"] = json!(command.arguments);
        process["terminal"] = command.terminal.into();
        if command.terminal
            && let Some(environment) = process["env"].as_array_mut()
            && !environment.iter().any(|entry| entry.as_str().is_some_and(|entry| entry.starts_with("TERM=")))
        {
            environment.push("TERM=xterm".into());
        }
        Ok(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
            value: process.to_string().into_bytes(),
        })
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end in time (it is killed then).
    pub async fn exec_to_end(
        &self,
        container: &str,
        arguments: &[String],
        limit: Duration,
    ) -> Result<Outcome, RuntimeError> {
        let command = Command { arguments: arguments.to_vec(), terminal: false, stdin: false };
        let mut process = self.exec(container, &command).await?;
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let all = async { tokio::join!(process.wait(), collect(stdout), collect(stderr)) };
        let ended = tokio::time::timeout(limit, all).await;
        let Ok((code, mut output, error_output)) = ended else {
            process.kill().await?;
            process.wait().await?;
            process.delete().await?;
            return Err(RuntimeError::Unfit(format!("command {arguments:?} timed out")));
        };
        process.delete().await?;
        output.extend(error_output);
        Ok(Outcome { code: code?, output })
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn resize(&self, container: &str, width: u32, height: u32) -> Result<(), RuntimeError> {
        self.resize_process(container, "", width, height).await
    }

    /// Ends a container's input.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn close_stdin(&self, container: &str) -> Result<(), RuntimeError> {
        self.close_stdin_of(container, "").await
    }

    async fn close_stdin_of(&self, container: &str, exec: &str) -> Result<(), RuntimeError> {
        let request = services::CloseIoRequest {
            container_id: container.to_owned(),
            exec_id: exec.to_owned(),
            stdin: true,
        };
        let closed = self.containerd.tasks().close_io(self.containerd.request(request)).await;
        gone_is_fine(closed.map_err(failed("close input")))
    }

    async fn resize_process(
        &self,
        container: &str,
        exec: &str,
        width: u32,
        height: u32,
    ) -> Result<(), RuntimeError> {
        let request = services::ResizePtyRequest {
            container_id: container.to_owned(),
            exec_id: exec.to_owned(),
            width,
            height,
        };
        let resized = self.containerd.tasks().resize_pty(self.containerd.request(request)).await;
        resized.map(drop).map_err(failed("resize terminal"))
    }
}

async fn collect(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What cannot be read is not there; the exit code tells the rest.
        let _ignored = (&mut pipe).take(LONGEST_OUTPUT).read_to_end(&mut bytes).await;
        let _ignored = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    bytes
}

impl Process {
    /// Waits for the end; gives the exit code.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn wait(&self) -> Result<i32, RuntimeError> {
        let request =
            services::WaitRequest { container_id: self.container.clone(), exec_id: self.id.clone() };
        let containerd = &self.runtime.containerd;
        let answer =
            containerd.tasks().wait(containerd.open_ended(request)).await.map_err(failed("wait for exec"))?;
        Ok(i32::try_from(answer.into_inner().exit_status).unwrap_or(255))
    }

    /// Ends it.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn kill(&self) -> Result<(), RuntimeError> {
        let request = services::KillRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
            signal: 9,
            all: false,
        };
        let containerd = &self.runtime.containerd;
        match containerd.tasks().kill(containerd.request(request)).await {
            Err(status) if status.message().contains("already finished") => Ok(()),
            other => gone_is_fine(other.map_err(failed("kill exec"))),
        }
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn resize(&self, width: u32, height: u32) -> Result<(), RuntimeError> {
        self.runtime.resize_process(&self.container, &self.id, width, height).await
    }

    /// Says that no more input follows.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn close_stdin(&self) -> Result<(), RuntimeError> {
        self.runtime.close_stdin_of(&self.container, &self.id).await
    }

    /// Removes what containerd remembers of it.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn delete(&self) -> Result<(), RuntimeError> {
        let request =
            services::DeleteProcessRequest { container_id: self.container.clone(), exec_id: self.id.clone() };
        let containerd = &self.runtime.containerd;
        let deleted = containerd.tasks().delete_process(containerd.request(request)).await;
        gone_is_fine(deleted.map_err(failed("delete exec")))
    }
}
