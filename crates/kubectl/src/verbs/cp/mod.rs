//! `cp`: files and folders to and from containers, by `tar` in the container.

mod archive;

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use clap::Args;
use tokio::sync::mpsc;
use wire::node::{ExecStart, PodRef, exec_output::Output};

use super::Verb;
use crate::error::Error;
use crate::kube::Kube;
use crate::remote::{self, Call, Remote};
use crate::{output, pods};

#[derive(Args)]
pub(crate) struct Cp {
    /// SOURCE DESTINATION; one of them is [[NAMESPACE/]POD:]PATH
    words: Vec<String>,
    /// The container
    #[arg(short = 'c', long)]
    container: Option<String>,
    /// Leave out ownership and permissions in the container
    #[arg(long)]
    no_preserve: bool,
    /// How often to go on after a broken copy from a container
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    retries: i64,
}

/// A path, on this machine or in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    namespace: Option<String>,
    pod: Option<String>,
    path: String,
}

impl Place {
    fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::said("filespec must match the canonical format: [[namespace/]pod:]file/path");
        let Some((pod, path)) = text.split_once(':') else {
            return Ok(Self { namespace: None, pod: None, path: text.to_owned() });
        };
        let (namespace, pod) = match pod.split('/').collect::<Vec<_>>().as_slice() {
            [pod] => (None, (*pod).to_owned()),
            [namespace, pod] => (Some((*namespace).to_owned()), (*pod).to_owned()),
            _ => return Err(bad()),
        };
        if pod.is_empty() {
            Err(bad())
        } else {
            Ok(Self { namespace, pod: Some(pod), path: path.to_owned() })
        }
    }
}

impl Verb for Cp {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let [source, destination] = self.words.as_slice() else {
            return Err(Error::said("source and destination are required"));
        };
        let (source, destination) = (Place::parse(source)?, Place::parse(destination)?);
        if source.path.is_empty() || destination.path.is_empty() {
            return Err(Error::said("filepath can not be empty"));
        }
        match (&source.pod, &destination.pod) {
            (Some(_), Some(_)) => Err(Error::said("one of src or dest must be a local file specification")),
            (None, None) => Err(Error::said("one of src or dest must be a remote file specification")),
            (Some(_), None) => self.fetch(kube, &source, Path::new(&destination.path)).await,
            (None, Some(_)) => self.send(kube, Path::new(&source.path), &destination).await,
        }
    }
}

impl Cp {
    async fn reference(&self, kube: &Kube, place: &Place) -> Result<PodRef, Error> {
        let namespace = match &place.namespace {
            Some(namespace) => namespace.clone(),
            None => kube.namespace()?,
        };
        let kind = kube.discovery().await?.of_kind("v1", "Pod")?;
        let pod = kube.get(kind.target(&namespace, place.pod.as_deref().unwrap_or_default())).await?;
        let container = pods::container(&pod, self.container.as_deref(), false)?;
        Ok(pods::reference(&pod, container))
    }

    async fn start(&self, kube: &Kube, pod: &PodRef, command: &[&str], stdin: bool) -> Result<Remote, Error> {
        let start = ExecStart {
            pod: Some(pod.clone()),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            stdin,
            stdout: true,
            stderr: true,
            tty: false,
        };
        remote::open(kube, Call::Exec, start).await
    }

    async fn send(&self, kube: &Kube, source: &Path, destination: &Place) -> Result<(), Error> {
        if std::fs::metadata(source).is_err() {
            return Err(Error::said(format!("{} doesn't exist in local filesystem", source.display())));
        }
        let pod = self.reference(kube, destination).await?;
        let mut target = archive::cleaned(&destination.path);
        let mut test = self.start(kube, &pod, &["test", "-d", &destination.path], false).await?;
        match drain(&mut test, None).await {
            // A folder that is there takes the source in.
            Ok(()) => target = format!("{}/{}", target.trim_end_matches('/'), archive::base(source)),
            Err(Error::Ended(_)) => {}
            Err(error) => return Err(error),
        }
        let (folder, name) = match target.rsplit_once('/') {
            Some(("", name)) => ("/".to_owned(), name.to_owned()),
            Some((folder, name)) => (folder.to_owned(), name.to_owned()),
            None => (String::new(), target.clone()),
        };
        let mut command = vec!["tar"];
        if self.no_preserve {
            command.extend(["--no-same-permissions", "--no-same-owner"]);
        }
        command.extend(["-xmf", "-"]);
        if !folder.is_empty() {
            command.extend(["-C", &folder]);
        }
        let mut remote = self.start(kube, &pod, &command, true).await?;
        let (inputs, source) = (remote.inputs.clone(), source.to_owned());
        let packing = tokio::task::spawn_blocking(move || {
            let mut sink = Sink(&inputs);
            let outcome = archive::pack(&source, &name, &mut sink);
            // The command may have ended before its input, and has said why.
            inputs.blocking_send(remote::end_of_stdin()).ok();
            outcome
        });
        let ended = drain(&mut remote, None).await;
        drop(remote);
        let packed = packing.await.map_err(|error| Error::said(error.to_string()))?;
        ended?;
        packed.map_err(|error| Error::said(error.to_string()))
    }

    async fn fetch(&self, kube: &Kube, source: &Place, destination: &Path) -> Result<(), Error> {
        let pod = self.reference(kube, source).await?;
        let (sender, receiver) = mpsc::channel(16);
        let prefix = archive::member_prefix(&source.path);
        let (target, shown) = (destination.to_owned(), source.path.clone());
        let hint =
            format!("kubectl exec -n {:?} {:?} -- tar cf - {shown:?} | tar xf -", pod.namespace, pod.name);
        let unpacking = tokio::task::spawn_blocking(move || {
            archive::unpack(Pieces { receiver, rest: Bytes::new() }, &prefix, &target, &hint)
        });
        let ended = self.stream(kube, &pod, &source.path, &sender).await;
        drop(sender);
        let unpacked = unpacking.await.map_err(|error| Error::said(error.to_string()))?;
        // Why the archive ends early is what the command said.
        ended?;
        unpacked.map_err(|error| Error::said(error.to_string()))
    }

    /// Sends the archive's bytes on, and goes on behind them where a copy
    /// broke and may be tried again.
    async fn stream(
        &self,
        kube: &Kube,
        pod: &PodRef,
        path: &str,
        sender: &mpsc::Sender<Bytes>,
    ) -> Result<(), Error> {
        let mut done = 0;
        let mut tries = 0;
        loop {
            let quoted = path.replace('\'', "'\\''");
            let resumed = format!("tar cf - '{quoted}' | tail -c+{}", done + 1);
            let command =
                if self.retries == 0 { vec!["tar", "cf", "-", path] } else { vec!["sh", "-c", &resumed] };
            let outcome = match self.start(kube, pod, &command, false).await {
                Ok(mut remote) => drain(&mut remote, Some((sender, &mut done))).await,
                Err(error) => Err(error),
            };
            match outcome {
                Err(Error::Server { .. }) if self.retries < 0 || tries < self.retries => {
                    tries += 1;
                    output::line(format!("Resuming copy at {done} bytes, retry {tries}/{}", self.retries))?;
                }
                other => return other,
            }
        }
    }
}

/// Follows a command to its end; its output goes into the channel, counted,
/// or nowhere.
async fn drain(remote: &mut Remote, mut to: Option<(&mpsc::Sender<Bytes>, &mut u64)>) -> Result<(), Error> {
    while let Some(message) = remote.outputs.message().await? {
        match message.output {
            Some(Output::Stdout(bytes)) => {
                if let Some((sender, done)) = &mut to {
                    **done += bytes.len() as u64;
                    if sender.send(bytes).await.is_err() {
                        // Who unpacks has failed, and says so.
                        return Ok(());
                    }
                }
            }
            Some(Output::Stderr(bytes)) => output::error_bytes(&bytes)?,
            Some(Output::Status(json)) => return remote::outcome(&json),
            None => {}
        }
    }
    Ok(())
}

/// Standard input of a remote command, for one who writes and may block.
struct Sink<'a>(&'a mpsc::Sender<wire::node::ExecInput>);

impl std::io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let piece = &bytes[..bytes.len().min(32 * 1024)];
        match self.0.blocking_send(remote::stdin(piece)) {
            Ok(()) => Ok(piece.len()),
            Err(_) => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Output of a remote command, for one who reads and may block.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.rest = bytes,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(into.len());
        into[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let place = |namespace: Option<&str>, pod: Option<&str>, path: &str| Place {
            namespace: namespace.map(str::to_owned),
            pod: pod.map(str::to_owned),
            path: path.to_owned(),
        };
        assert_eq!(Place::parse("a/b").expect("local"), place(None, None, "a/b"));
        assert_eq!(Place::parse("p:/x").expect("pod"), place(None, Some("p"), "/x"));
        assert_eq!(Place::parse("n/p:x").expect("both"), place(Some("n"), Some("p"), "x"));
        assert!(Place::parse(":x").is_err());
        assert!(Place::parse("a/b/c:x").is_err());
    }
}
