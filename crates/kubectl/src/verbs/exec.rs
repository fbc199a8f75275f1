//! `exec`: a command in a container, with this process's streams.

use clap::Args;
use wire::node::{ExecStart, PodRef};

use super::Verb;
use crate::error::Error;
use crate::kube::{Kube, parse_duration};
use crate::remote::{self, Call};
use crate::resource_builder::{self, Files};
use crate::{pods, terminal};

/// The flags of everything that uses the streams of a container.
#[derive(Args, Clone)]
pub(super) struct Streams {
    /// The container
    #[arg(short = 'c', long)]
    pub(super) container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    pub(super) stdin: bool,
    /// Standard input is a terminal
    #[arg(short = 't', long)]
    pub(super) tty: bool,
    /// Print only what the command prints
    #[arg(short = 'q', long)]
    pub(super) quiet: bool,
    /// How long to wait until a pod is there
    #[arg(long, default_value = "1m0s")]
    pub(super) pod_running_timeout: String,
}

impl Streams {
    /// Whether to use the terminal: only with standard input, and if it is one.
    pub(super) fn is_raw(&self) -> bool {
        let wanted = self.stdin && self.tty;
        if wanted && !terminal::is_input() && !self.quiet {
            eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        wanted && terminal::is_input()
    }
}

#[derive(Args)]
pub(crate) struct Exec {
    /// POD, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    streams: Streams,
    /// The command and its arguments
    #[arg(last = true)]
    command: Vec<String>,
}

impl Verb for Exec {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let limit = parse_duration(&self.streams.pod_running_timeout)?;
        if self.words.len() > 1 {
            return Err(Error::said(
                "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead",
            ));
        }
        if self.command.is_empty() {
            return Err(Error::said("you must specify at least one command for the container"));
        }
        let pod = match (self.words.as_slice(), self.files.filenames.is_empty()) {
            ([word], true) => pods::of_word(kube, word, limit).await?,
            ([], false) => {
                let infos = resource_builder::from_files(kube, &self.files).await?;
                let [info] = infos.as_slice() else {
                    return Err(Error::said("exec takes one object from a file"));
                };
                pods::of_object(kube, &kube.get(info.target()).await?, limit).await?
            }
            _ => return Err(Error::said("pod, type/name or --filename must be specified")),
        };
        let phase = pod.text(&["status", "phase"]);
        if phase == "Succeeded" || phase == "Failed" {
            return Err(Error::said(format!(
                "cannot exec into a container in a completed pod; current phase is {phase}"
            )));
        }
        let container = match &self.streams.container {
            // Whether there is such a container is for the server to say.
            Some(name) if !name.is_empty() => name.clone(),
            _ => pods::container(&pod, None, self.streams.quiet)?,
        };
        let tty = self.streams.is_raw();
        let start = ExecStart {
            pod: Some(PodRef {
                namespace: pod.namespace().to_owned(),
                name: pod.name().to_owned(),
                container,
                ..PodRef::default()
            }),
            command: self.command,
            stdin: self.streams.stdin,
            stdout: true,
            stderr: !tty,
            tty,
        };
        remote::run(kube, Call::Exec, start).await
    }
}
