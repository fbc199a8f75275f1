//! Pods in containerd: sandboxes, containers, processes in them, and what
//! became of them.
//!
//! A sandbox is a container record without a process: its namespaces are pinned
//! as files ([`namespaces`]), so a pod needs no pause container. Only a pod
//! with `shareProcessNamespace` gets a process that holds the namespace
//! ([`pause`]). All state is in containerd's records, under the labels of
//! [`labels`]; this module remembers nothing.

pub mod containerd;
pub mod containers;
pub mod exec;
pub mod files;
pub(crate) mod labels;
mod leftovers;
pub mod namespaces;
pub mod pause;
pub mod record;
pub mod sandbox;
pub mod seccomp;
pub mod spec;
mod stdio;
pub mod users;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use api::types::core::v1::Pod;
use containerd_client::events::TaskExit;
use containerd_client::services::v1 as services;
use containerd_client::services::v1::Container;
use containerd_client::tonic::Streaming;
use containerd_client::types::Envelope;
use prost::Message as _;
use prost_types::Any;
use tokio::sync::mpsc;

use crate::cgroups::Cgroups;
use crate::logs::logger;
use crate::network::Network;
use crate::pod::PodId;
use containerd::{Containerd, RuntimeError, failed, timestamp};
use files::Dns;
use record::{Exit, Observed, State};
use spec::Machine;

/// The topic of containerd's events about ends.
const EXIT: &str = "/tasks/exit";
/// The topic of our own event.
const SUBSCRIBED: &str = "/corten/subscribed";
/// How often it is published until it comes back.
const SUBSCRIPTION: std::time::Duration = std::time::Duration::from_millis(20);

/// Where the runtime's things are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of pods' files; also what tells our containers from another
    /// kubelet's in the same containerd.
    pub root: PathBuf,
    /// Directory of what does not survive a reboot.
    pub state: PathBuf,
    /// Directory of containers' logs.
    pub logs: PathBuf,
    /// The executable that is the containers' logger.
    pub logger: PathBuf,
    /// When a log file is rotated, in bytes.
    pub log_max_size: u64,
    /// How many log files a container may have.
    pub log_max_files: u32,
    /// Name resolution.
    pub dns: Dns,
}

/// containerd, as the home of pods.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) containerd: Containerd,
    pub(crate) settings: Settings,
    pub(crate) machine: Machine,
    pub(crate) network: Network,
    pub(crate) cgroups: Cgroups,
}

/// Something happened to containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// This container ended.
    Exited(String),
    /// Events may have been missed: look at everything.
    Resynchronize,
}

impl Runtime {
    /// Pods in this containerd.
    #[must_use]
    pub const fn new(
        containerd: Containerd,
        settings: Settings,
        machine: Machine,
        network: Network,
        cgroups: Cgroups,
    ) -> Self {
        Self { containerd, settings, machine, network, cgroups }
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The control groups.
    #[must_use]
    pub const fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// A pod's directory.
    #[must_use]
    pub fn pod_directory(&self, uid: &str) -> PathBuf {
        self.settings.root.join("pods").join(uid)
    }

    fn root_label(&self) -> String {
        self.settings.root.display().to_string()
    }

    async fn list(&self, filter: String) -> Result<Vec<Container>, RuntimeError> {
        let request = services::ListContainersRequest { filters: vec![filter] };
        let answer = self.containerd.containers().list(self.containerd.request(request)).await;
        Ok(answer.map_err(failed("list containers"))?.into_inner().containers)
    }

    async fn of_pod(&self, uid: &str) -> Result<Vec<Container>, RuntimeError> {
        self.list(format!("labels.\"{}\"=={uid:?}", labels::POD_UID)).await
    }

    /// Everything in containerd that is this kubelet's.
    async fn ours(&self) -> Result<Vec<Container>, RuntimeError> {
        self.list(format!("labels.\"{}\"=={:?}", labels::ROOT, self.root_label())).await
    }

    /// Every pod of this kubelet that containerd knows, with the specification
    /// kept with its sandbox.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn pods(&self) -> Result<HashMap<PodId, Option<Pod>>, RuntimeError> {
        let mut pods = HashMap::new();
        for container in self.ours().await? {
            let pod = pods.entry(labels::pod_id(&container.labels)).or_insert(None);
            if let Some(found) = labels::pod_of(&container) {
                *pod = Some(found);
            }
        }
        Ok(pods)
    }

    /// What containerd has of a pod. A container found ended is settled: its
    /// end is written to its record, and its task removed.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn observe(&self, uid: &str) -> Result<Observed, RuntimeError> {
        let mut observed = Observed::default();
        for container in self.of_pod(uid).await? {
            match container.labels.get(labels::KIND).map(String::as_str) {
                Some("sandbox") => {
                    let exists = self.sandbox_exists(&container);
                    observed.sandboxes.push(labels::sandbox(&container, exists));
                }
                Some("container") => {
                    let state = self.state(&container).await?;
                    observed.containers.push(labels::record(&container, state));
                }
                _ => {}
            }
        }
        Ok(observed.sorted())
    }

    async fn state(&self, container: &Container) -> Result<Option<State>, RuntimeError> {
        if let Some(exit) = labels::recorded_exit(container) {
            let is_whole = container.labels.contains_key(labels::EXIT_MESSAGE);
            let exit = if is_whole { exit } else { self.conclude(container, exit).await? };
            return Ok(Some(State::Exited(exit)));
        }
        let Some(process) = self.process(&container.id).await? else { return Ok(None) };
        use containerd_client::types::v1::Status;
        match process.status() {
            // Its making was broken off, and ended it: the program never ran.
            Status::Stopped if !labels::is_started(container) => Ok(Some(State::Created)),
            Status::Stopped => {
                let at = timestamp(process.exited_at.as_ref()).unwrap_or_else(crate::time::now);
                let exit = self.settle(container, process.exit_status, at).await?;
                Ok(Some(State::Exited(exit)))
            }
            Status::Created | Status::Unknown => Ok(Some(State::Created)),
            _ => Ok(Some(State::Running { pid: process.pid })),
        }
    }

    /// A container's first process.
    pub(crate) async fn process(
        &self,
        id: &str,
    ) -> Result<Option<containerd_client::types::v1::Process>, RuntimeError> {
        let request = services::GetRequest { container_id: id.to_owned(), ..Default::default() };
        match self.containerd.tasks().get(self.containerd.request(request)).await.map_err(failed("get task"))
        {
            Ok(answer) => Ok(answer.into_inner().process),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes down how a container ended, then removes its task. In this order,
    /// so that a crash between the two loses nothing.
    async fn settle(
        &self,
        container: &Container,
        status: u32,
        at: jiff::Timestamp,
    ) -> Result<Exit, RuntimeError> {
        let code = i32::try_from(status).unwrap_or(255);
        let oom = self
            .cgroup_of(container)
            .and_then(|group| self.cgroups.usage(&group))
            .is_some_and(|usage| usage.oom_kills > 0);
        let reason = match (oom, code) {
            (true, 1..) => "OOMKilled",
            (_, 0) => "Completed",
            _ => "Error",
        };
        self.label(&container.id, labels::exit(code, reason, at)).await?;
        let exit = Exit { code, reason: reason.to_owned(), message: None, finished_at: at };
        self.conclude(container, exit).await
    }

    /// Removes the task of a container that has ended, which ends its logger, and
    /// then looks for its last words.
    async fn conclude(&self, container: &Container, exit: Exit) -> Result<Exit, RuntimeError> {
        self.delete_task(&container.id).await?;
        if let Some(pipes) = stdio::logger_of(&container.labels).and_then(|plan| plan.pipes) {
            logger::ended(&pipes).await;
        }
        let message = self.termination_message(container, exit.code);
        self.label(&container.id, labels::exit_message(&message)).await?;
        Ok(Exit { message: Some(message).filter(|message| !message.is_empty()), ..exit })
    }

    fn cgroup_of(&self, container: &Container) -> Option<String> {
        let spec: serde_json::Value = serde_json::from_slice(&container.spec.as_ref()?.value).ok()?;
        spec["linux"]["cgroupsPath"].as_str().map(str::to_owned)
    }

    /// What the container left in its termination file, or at the end of its log.
    fn termination_message(&self, container: &Container, code: i32) -> String {
        let label = |key| container.labels.get(key).map(String::as_str).unwrap_or_default();
        let text = read_end(Path::new(label(labels::TERMINATION_FILE)), 4096);
        let wants_log = label(labels::TERMINATION_POLICY) == "FallbackToLogsOnError" && code != 0;
        if !text.is_empty() || !wants_log {
            return text;
        }
        let log = read_end(Path::new(label(labels::LOG_PATH)), 8192);
        let lines: Vec<&str> = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
        let mut text = lines[lines.len().saturating_sub(80)..].join("\n");
        while text.len() > 2048 {
            text.remove(0);
        }
        text
    }

    /// Adds labels to a record.
    async fn label(&self, id: &str, new: Vec<(String, String)>) -> Result<(), RuntimeError> {
        let paths = new.iter().map(|(key, _)| format!("labels.{key}")).collect();
        let container =
            Container { id: id.to_owned(), labels: new.into_iter().collect(), ..Container::default() };
        let request = services::UpdateContainerRequest {
            container: Some(container),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        let updated = self.containerd.containers().update(self.containerd.request(request)).await;
        updated.map(drop).map_err(failed(format!("label container {id}")))
    }

    /// Exits of containers, as containerd reports them, until the receiver is
    /// dropped. After a lost connection everything is to be looked at.
    #[must_use]
    pub fn events(&self) -> mpsc::Receiver<RuntimeEvent> {
        let (sender, receiver) = mpsc::channel(256);
        let runtime = self.clone();
        daemon::tasks::spawn("runtime-events", async move {
            while !sender.is_closed() {
                if let Err(error) = runtime.follow_events(&sender).await {
                    tracing::warn!(error = %error, "event stream of containerd broke");
                }
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        });
        receiver
    }

    /// Subscribes to exits. containerd answers a subscription with its first event
    /// and not before, so one of our own is published until that comes: from then
    /// on nothing is missed, and what was before is to be looked at.
    async fn subscribe(&self) -> Result<Streaming<Envelope>, RuntimeError> {
        let filters = vec![format!("topic==\"{EXIT}\""), format!("topic==\"{SUBSCRIBED}\"")];
        let mut events = self.containerd.events();
        let subscribing =
            events.subscribe(self.containerd.open_ended(services::SubscribeRequest { filters }));
        let publishing = async {
            loop {
                let event = Any { type_url: "corten.dev/subscribed".to_owned(), value: Vec::new() };
                let publish = services::PublishRequest { topic: SUBSCRIBED.to_owned(), event: Some(event) };
                if let Err(status) = self.containerd.events().publish(self.containerd.request(publish)).await
                {
                    return failed("publish an event")(status);
                }
                tokio::time::sleep(SUBSCRIPTION).await;
            }
        };
        tokio::select! {
            answer = subscribing => Ok(answer.map_err(failed("subscribe to events"))?.into_inner()),
            error = publishing => Err(error),
        }
    }

    async fn follow_events(&self, sender: &mpsc::Sender<RuntimeEvent>) -> Result<(), RuntimeError> {
        let mut stream = self.subscribe().await?;
        if sender.send(RuntimeEvent::Resynchronize).await.is_err() {
            return Ok(());
        }
        loop {
            let next = tokio::select! {
                next = stream.message() => next,
                () = sender.closed() => return Ok(()),
            };
            let Some(envelope) = next.map_err(failed("follow events"))? else { return Ok(()) };
            if envelope.namespace != self.containerd.namespace() || envelope.topic != EXIT {
                continue;
            }
            let Some(exit) = envelope.event.and_then(|event| TaskExit::decode(event.value.as_slice()).ok())
            else {
                continue;
            };
            // Processes started by exec have an id of their own.
            if exit.id == exit.container_id
                && sender.send(RuntimeEvent::Exited(exit.container_id)).await.is_err()
            {
                return Ok(());
            }
        }
    }
}

/// The last bytes of a file as text; nothing if there is no such file.
fn read_end(path: &Path, length: u64) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(length)))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    if path.as_os_str().is_empty() {
        return String::new();
    }
    read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
