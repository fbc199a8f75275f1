//! Containers: made and started in one go, stopped with grace, removed with
//! everything they leave.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use api::types::core::v1::{Container as Specification, Pod};
use containerd_client::services::v1 as services;
use containerd_client::services::v1::Container;
use containerd_client::services::v1::snapshots as snaps;
use containerd_client::types::Mount;
use nix::sys::signal::Signal;
use prost_types::Any;

use super::containerd::{RuntimeError, failed, gone_is_fine};
use super::sandbox::{RUNC, SPEC_TYPE};
use super::spec::{Blueprint, HostMount, ProcessNamespace, oci_spec};
use super::{Runtime, labels, users};
use crate::images::store::{Image, SNAPSHOTTER};
use crate::pod;
use crate::worker::plan::Start;

/// How long after its kill a container may take to end: longer is a process that
/// the kernel holds, or a shim that lost it, and looked at anew.
const KILLED: Duration = Duration::from_secs(10);

/// A container to be started.
#[derive(Clone, Debug)]
pub struct NewContainer<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container's specification.
    pub container: &'a Specification,
    /// Attempt and back-off.
    pub start: &'a Start,
    /// The image.
    pub image: &'a Image,
    /// The sandbox to run in.
    pub sandbox: &'a str,
    /// The shim of a container that runs in it, to be shared.
    pub shim: Option<&'a str>,
    /// Environment, expanded, in order.
    pub environment: &'a [(String, String)],
    /// Volumes.
    pub mounts: Vec<HostMount>,
    /// The process whose process namespace is shared instead of the pod's.
    pub process_of: Option<u32>,
}

/// Why a container's program does not run.
enum TaskError {
    /// It never can have run, through no fault of the container.
    Runtime(RuntimeError),
    /// The container is at fault, or its program may have run.
    Container(RuntimeError),
}

impl Runtime {
    /// Starts a container; gives its id. A container that cannot be started
    /// leaves a record that says so, and counts as an attempt; what is not its
    /// own fault (a shim that does not come up) leaves nothing, and is tried again.
    ///
    /// # Errors
    /// When it cannot be made or started.
    pub async fn start_container(&self, new: NewContainer<'_>) -> Result<String, RuntimeError> {
        let uid = pod::id(new.pod).uid;
        let id = format!("{}{}", pod::id_prefix(&uid), uuid::Uuid::new_v4().simple());
        let rootfs = self.prepare_rootfs(&id, &new.image.chain).await?;
        let created = self.create_record(&id, &new, &rootfs).await;
        if let Err(error) = created {
            self.remove_snapshot(&id).await?;
            return Err(error);
        }
        match self.run_task(&id, &new, rootfs).await {
            Ok(()) => Ok(id),
            Err(TaskError::Runtime(error)) => {
                self.remove_container(&id).await?;
                Err(error)
            }
            Err(TaskError::Container(error)) => {
                let message = error.to_string();
                let now = crate::time::now();
                self.delete_task(&id).await?;
                let mut ended = labels::exit(128, "StartError", now);
                ended.extend(labels::exit_message(&message));
                self.label(&id, ended).await?;
                Err(error)
            }
        }
    }

    async fn prepare_rootfs(&self, id: &str, chain: &str) -> Result<Vec<Mount>, RuntimeError> {
        let request = snaps::PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: id.to_owned(),
            parent: chain.to_owned(),
            // Ours to remove, also in the moment before the record refers to it.
            labels: [
                ("containerd.io/gc.root".to_owned(), crate::time::now().to_string()),
                (labels::ROOT.to_owned(), self.root_label()),
            ]
            .into(),
        };
        let answer = self.containerd.snapshots().prepare(self.containerd.request(request)).await;
        Ok(answer.map_err(failed(format!("prepare root of {id}")))?.into_inner().mounts)
    }

    async fn create_record(
        &self,
        id: &str,
        new: &NewContainer<'_>,
        rootfs: &[Mount],
    ) -> Result<(), RuntimeError> {
        let pod_id = pod::id(new.pod);
        let user = users::resolve(
            pod::spec(new.pod).security_context.as_ref(),
            new.container.security_context.as_ref(),
            &new.image.config.user,
            &users::layers(rootfs),
        )?;
        let termination = self.termination_file(new)?;
        let mounts = self.mounts(new, &termination);
        let mut namespaces = self.namespaces(new.pod, new.sandbox).await?;
        if let Some(pid) = new.process_of {
            namespaces.process = ProcessNamespace::Shared(format!("/proc/{pid}/ns/pid").into());
        }
        let group = self.cgroups.of_pod(&pod_id.uid, pod::qos_class(new.pod));
        let spec = oci_spec(&Blueprint {
            pod: new.pod,
            container: new.container,
            image: &new.image.config,
            user: &user,
            environment: new.environment,
            mounts: &mounts,
            namespaces: &namespaces,
            sandbox_id: new.sandbox,
            shim: shim_of(id, new),
            cgroup: format!("{group}/{id}"),
            machine: &self.machine,
        })?;
        let container = Container {
            id: id.to_owned(),
            labels: self.labels_of(id, new, &termination),
            image: new.image.name.clone(),
            runtime: Some(services::container::Runtime { name: RUNC.to_owned(), options: None }),
            spec: Some(Any { type_url: SPEC_TYPE.to_owned(), value: spec.to_string().into_bytes() }),
            snapshotter: SNAPSHOTTER.to_owned(),
            snapshot_key: id.to_owned(),
            ..Container::default()
        };
        let request = services::CreateContainerRequest { container: Some(container) };
        let created = self.containerd.containers().create(self.containerd.request(request)).await;
        created.map(drop).map_err(failed(format!("create container {}", new.container.name)))
    }

    fn labels_of(
        &self,
        id: &str,
        new: &NewContainer<'_>,
        termination: &Path,
    ) -> std::collections::HashMap<String, String> {
        let mut labels = labels::of_pod(&pod::id(new.pod), "container", &self.root_label());
        let lifecycle_signal =
            new.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone());
        let policy = new.container.termination_message_policy.clone().unwrap_or_default();
        for (key, value) in [
            (labels::CONTAINER_NAME, new.container.name.clone()),
            (labels::ATTEMPT, new.start.attempt.to_string()),
            (labels::BACKOFF, new.start.backoff_seconds.to_string()),
            (labels::ROLE, new.start.role.as_str().to_owned()),
            (labels::HASH, pod::container_hash(new.container)),
            (labels::IMAGE_ID, new.image.id.clone()),
            (labels::SANDBOX, new.sandbox.to_owned()),
            (labels::SHIM, shim_of(id, new).to_owned()),
            (labels::LOG_PATH, self.log_path(new).display().to_string()),
            (labels::TERMINATION_FILE, termination.display().to_string()),
            (labels::TERMINATION_POLICY, policy),
            (labels::STOP_SIGNAL, lifecycle_signal.unwrap_or_else(|| new.image.config.stop_signal.clone())),
        ] {
            labels.insert(key.to_owned(), value);
        }
        let plan = self.logger_plan(id, new);
        if plan.pipes.is_some() {
            labels.insert(labels::LOGGER.to_owned(), serde_json::to_string(&plan).unwrap_or_default());
        }
        labels
    }

    pub(super) fn log_path(&self, new: &NewContainer<'_>) -> PathBuf {
        crate::logs::path(&self.settings.logs, &pod::id(new.pod), &new.container.name, new.start.attempt)
    }

    /// An empty file for the container's last words.
    fn termination_file(&self, new: &NewContainer<'_>) -> Result<PathBuf, RuntimeError> {
        use std::os::unix::fs::PermissionsExt as _;
        let directory =
            self.pod_directory(&pod::id(new.pod).uid).join("containers").join(&new.container.name);
        let path = directory.join(format!("termination-{}", new.start.attempt));
        std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(&path, ""))
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)))
            .map_err(RuntimeError::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// Volumes, and the files that every container gets unless a volume is there.
    fn mounts(&self, new: &NewContainer<'_>, termination: &Path) -> Vec<HostMount> {
        let pod_directory = self.pod_directory(&pod::id(new.pod).uid);
        let shm = match pod::spec(new.pod).host_ipc {
            Some(true) => PathBuf::from("/dev/shm"),
            _ => self.sandbox_directory(new.sandbox).join("shm"),
        };
        let message = new.container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        let mut mounts = new.mounts.clone();
        for (target, source) in [
            ("/dev/shm", shm),
            ("/etc/hosts", pod_directory.join("etc-hosts")),
            ("/etc/resolv.conf", pod_directory.join("resolv.conf")),
            ("/etc/hostname", pod_directory.join("hostname")),
            (message, termination.to_owned()),
        ] {
            if !mounts.iter().any(|mount| mount.target == target) {
                mounts.push(HostMount {
                    target: target.to_owned(),
                    source,
                    is_read_only: false,
                    propagation: "rprivate",
                });
            }
        }
        mounts
    }

    async fn run_task(&self, id: &str, new: &NewContainer<'_>, rootfs: Vec<Mount>) -> Result<(), TaskError> {
        let stdio = self.stdio(id, new).map_err(TaskError::Container)?;
        let create = services::CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs,
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            terminal: new.container.tty == Some(true),
            ..Default::default()
        };
        let what = || failed(format!("start container {}", new.container.name));
        let created = self.containerd.tasks().create(self.containerd.request(create)).await;
        created.map_err(|status| {
            // What runc says is about the container; the rest is about shims and sockets.
            let is_own = status.message().contains("OCI runtime");
            let error = what()(status);
            if is_own { TaskError::Container(error) } else { TaskError::Runtime(error) }
        })?;
        // Before the start: whoever finds the task ended knows whether its program can have run.
        let started = vec![(labels::STARTED.to_owned(), "true".to_owned())];
        self.label(id, started).await.map_err(TaskError::Runtime)?;
        let start = services::StartRequest { container_id: id.to_owned(), ..Default::default() };
        let started = self.containerd.tasks().start(self.containerd.request(start)).await;
        started.map(drop).map_err(what()).map_err(TaskError::Container)
    }

    /// Sends a signal to a container; harmless if it does not run.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn kill(&self, id: &str, signal: Signal) -> Result<(), RuntimeError> {
        let request = services::KillRequest {
            container_id: id.to_owned(),
            signal: signal as u32,
            all: signal == Signal::SIGKILL,
            ..Default::default()
        };
        let killed = self.containerd.tasks().kill(self.containerd.request(request)).await;
        match killed {
            // A process that has just ended cannot be killed; that is no failure.
            Err(status)
                if status.message().contains("already finished")
                    || status.message().contains("not running") =>
            {
                Ok(())
            }
            other => gone_is_fine(other.map_err(failed(format!("kill {id}")))),
        }
    }

    /// Waits until a container has ended.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn wait(&self, id: &str) -> Result<(), RuntimeError> {
        let request = services::WaitRequest { container_id: id.to_owned(), ..Default::default() };
        let waited = self.containerd.tasks().wait(self.containerd.open_ended(request)).await;
        gone_is_fine(waited.map_err(failed(format!("wait for {id}"))))
    }

    /// The signal that asks a container to stop.
    async fn stop_signal(&self, id: &str) -> Signal {
        let request = self.containerd.request(services::GetContainerRequest { id: id.to_owned() });
        let container = self
            .containerd
            .containers()
            .get(request)
            .await
            .ok()
            .and_then(|answer| answer.into_inner().container);
        let text = container
            .and_then(|container| container.labels.get(labels::STOP_SIGNAL).cloned())
            .unwrap_or_default();
        parse_signal(&text).unwrap_or(Signal::SIGTERM)
    }

    /// Stops a container: asks, waits for the grace period, then insists.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let signal = self.stop_signal(id).await;
        self.kill(id, signal).await?;
        if let Ok(waited) = tokio::time::timeout(grace, self.wait(id)).await {
            return waited;
        }
        self.end(id).await
    }

    /// Ends a container at once.
    async fn end(&self, id: &str) -> Result<(), RuntimeError> {
        self.kill(id, Signal::SIGKILL).await?;
        tokio::time::timeout(KILLED, self.wait(id)).await.unwrap_or_else(|_| {
            Err(RuntimeError::Unfit(format!("container {id} has not ended {KILLED:?} after it was killed")))
        })
    }

    /// Removes a container's task, ending it if need be.
    pub(super) async fn delete_task(&self, id: &str) -> Result<(), RuntimeError> {
        let request = services::DeleteTaskRequest { container_id: id.to_owned() };
        let deleted = self.containerd.tasks().delete(self.containerd.request(request.clone())).await;
        match deleted.map_err(failed(format!("delete task of {id}"))) {
            Err(error) if !error.is_not_found() => {
                self.end(id).await?;
                let deleted = self.containerd.tasks().delete(self.containerd.request(request)).await;
                gone_is_fine(deleted.map_err(failed(format!("delete task of {id}"))))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn remove_snapshot(&self, id: &str) -> Result<(), RuntimeError> {
        let request =
            snaps::RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: id.to_owned() };
        let removed = self.containerd.snapshots().remove(self.containerd.request(request)).await;
        gone_is_fine(removed.map_err(failed(format!("remove root of {id}"))))
    }

    /// Removes a container with everything but its log. Harmless if it is gone.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        self.delete_task(id).await?;
        self.remove_snapshot(id).await?;
        let request = services::DeleteContainerRequest { id: id.to_owned() };
        let deleted = self.containerd.containers().delete(self.containerd.request(request)).await;
        gone_is_fine(deleted.map_err(failed(format!("delete container {id}"))))?;
        self.remove_pipes(id)
    }
}

/// The group of containers whose shim a container shares: that of the pod's process
/// namespace, if one holds it, or of a container that runs; else it has its own.
fn shim_of<'a>(id: &'a str, new: &NewContainer<'a>) -> &'a str {
    match pod::spec(new.pod).share_process_namespace {
        Some(true) => new.sandbox,
        _ => new.shim.unwrap_or(id),
    }
}

/// `SIGTERM`, `TERM` or `15`.
fn parse_signal(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).ok();
    }
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    Signal::from_str(&name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (text, expected) in [
            ("SIGQUIT", Some(Signal::SIGQUIT)),
            ("INT", Some(Signal::SIGINT)),
            ("9", Some(Signal::SIGKILL)),
            ("", None),
        ] {
            assert_eq!(parse_signal(text), expected, "{text}");
        }
    }
}
