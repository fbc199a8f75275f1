//! Sandboxes: made before a pod's containers, taken down after them.
//!
//! The record comes first, so that nothing that is made afterwards can be
//! forgotten: a crash at any point leaves a record that is not marked ready,
//! and taking it down removes whatever exists.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use api::types::core::v1::Pod;
use containerd_client::services::v1 as services;
use containerd_client::services::v1::Container;
use containerd_client::types::Mount;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use prost_types::Any;
use serde_json::json;

use super::containerd::{RuntimeError, failed, gone_is_fine};
use super::namespaces::{Namespace, Pins, inside_network, pin, unpin};
use super::record::Sandbox;
use super::spec::{Namespaces, ProcessNamespace, SHIM_GROUP};
use super::{Runtime, files, labels, pause};
use crate::pod::{self, PodId};

pub(super) const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
pub(super) const RUNC: &str = "io.containerd.runc.v2";

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The namespaces of a pod's own.
fn own_namespaces(pod: &Pod) -> Vec<Namespace> {
    let spec = pod::spec(pod);
    let mut kinds = Vec::new();
    if !pod::uses_host_network(pod) {
        kinds.extend([Namespace::Network, Namespace::Uts]);
    }
    if spec.host_ipc != Some(true) {
        kinds.push(Namespace::Ipc);
    }
    kinds
}

impl Runtime {
    /// Where a sandbox's pins are.
    #[must_use]
    pub fn sandbox_directory(&self, sandbox: &str) -> PathBuf {
        self.settings.state.join("sandboxes").join(sandbox)
    }

    /// A sandbox's network namespace; `None` if it shares the node's.
    #[must_use]
    pub fn network_namespace(&self, sandbox: &str) -> Option<PathBuf> {
        let directory = self.sandbox_directory(sandbox);
        Namespace::Network.is_pinned(&directory).then(|| Namespace::Network.path(&directory))
    }

    pub(super) fn sandbox_exists(&self, container: &Container) -> bool {
        let is_this_boot = container.labels.get(labels::BOOT).is_some_and(|boot| *boot == boot_id());
        let directory = self.sandbox_directory(&container.id);
        let has_network = labels::pod_of(container)
            .is_some_and(|pod| pod::uses_host_network(&pod) || Namespace::Network.is_pinned(&directory));
        is_this_boot && has_network
    }

    /// Makes a pod's sandbox.
    ///
    /// # Errors
    /// When namespaces, network or records cannot be made. What was made by
    /// then is removed with the record by [`Runtime::remove_sandbox`].
    pub async fn create_sandbox(&self, pod: &Pod, attempt: u32) -> Result<Sandbox, RuntimeError> {
        let id = pod::id(pod);
        let sandbox_id = format!("{}{}", pod::id_prefix(&id.uid), uuid::Uuid::new_v4().simple());
        let mut labels = labels::of_pod(&id, "sandbox", &self.root_label());
        labels.insert(labels::ATTEMPT.to_owned(), attempt.to_string());
        labels.insert(labels::BOOT.to_owned(), boot_id());
        let container = Container {
            id: sandbox_id.clone(),
            labels,
            extensions: labels::pod_extension(pod),
            runtime: Some(services::container::Runtime { name: RUNC.to_owned(), options: None }),
            spec: Some(Any { type_url: SPEC_TYPE.to_owned(), value: b"{}".to_vec() }),
            ..Container::default()
        };
        let request = services::CreateContainerRequest { container: Some(container) };
        self.containerd
            .containers()
            .create(self.containerd.request(request))
            .await
            .map_err(failed(format!("create sandbox of {id}")))?;
        let directory = self.sandbox_directory(&sandbox_id);
        self.pin_namespaces(pod, &directory).await?;
        let addresses = self.connect(pod, &sandbox_id, &directory).await?;
        self.write_pod_files(pod, &addresses)?;
        if pod::spec(pod).share_process_namespace == Some(true) {
            self.start_pause(&id, &sandbox_id, &directory).await?;
        }
        let text = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let ready = vec![(labels::READY.to_owned(), "true".to_owned()), (labels::ADDRESSES.to_owned(), text)];
        self.label(&sandbox_id, ready).await?;
        Ok(Sandbox { id: sandbox_id, attempt, created_at: crate::time::now(), is_ready: true, addresses })
    }

    async fn pin_namespaces(&self, pod: &Pod, directory: &Path) -> Result<(), RuntimeError> {
        let sysctls = pod::spec(pod).security_context.as_ref().and_then(|context| context.sysctls.as_ref());
        let pins = Pins {
            directory: directory.to_owned(),
            kinds: own_namespaces(pod),
            hostname: pod::hostname(pod),
            sysctls: sysctls.into_iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect(),
        };
        let shm = directory.join("shm");
        let wants_shm = pod::spec(pod).host_ipc != Some(true);
        blocking(move || {
            pin(pins)?;
            if wants_shm {
                std::fs::create_dir_all(&shm).map_err(RuntimeError::io(format!("make {}", shm.display())))?;
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(Some("shm"), &shm, Some("tmpfs"), flags, Some("mode=1777,size=65536k"))
                    .map_err(RuntimeError::errno(format!("mount {}", shm.display())))?;
            }
            Ok(())
        })
        .await
    }

    async fn connect(&self, pod: &Pod, sandbox: &str, directory: &Path) -> Result<Vec<IpAddr>, RuntimeError> {
        if pod::uses_host_network(pod) {
            return Ok(Vec::new());
        }
        let namespace = Namespace::Network.path(directory);
        self.network
            .attach(sandbox, &namespace, pod)
            .await
            .map_err(|error| RuntimeError::Unfit(format!("set up network: {}", crate::images::chain(&error))))
    }

    /// Writes the files that every container of the pod gets.
    fn write_pod_files(&self, pod: &Pod, addresses: &[IpAddr]) -> Result<(), RuntimeError> {
        let directory = self.pod_directory(&pod::id(pod).uid);
        std::fs::create_dir_all(&directory)
            .map_err(RuntimeError::io(format!("make {}", directory.display())))?;
        let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let dns = &self.settings.dns;
        for (name, text) in [
            ("etc-hosts", files::hosts(pod, addresses, &dns.domain, &host)),
            ("resolv.conf", files::resolv_conf(pod, dns)),
            ("hostname", format!("{}\n", pod::hostname(pod))),
        ] {
            let path = directory.join(name);
            std::fs::write(&path, text).map_err(RuntimeError::io(format!("write {}", path.display())))?;
        }
        Ok(())
    }

    /// The namespaces that a container of the sandbox joins.
    pub(super) async fn namespaces(&self, pod: &Pod, sandbox: &str) -> Result<Namespaces, RuntimeError> {
        let directory = self.sandbox_directory(sandbox);
        let path = |kind: Namespace| kind.is_pinned(&directory).then(|| kind.path(&directory));
        let spec = pod::spec(pod);
        let process = if spec.host_pid == Some(true) {
            ProcessNamespace::Host
        } else if spec.share_process_namespace == Some(true) {
            let holder = self.process(&pause_id(sandbox)).await?;
            let pid = holder.map(|process| process.pid).filter(|pid| *pid > 0).ok_or_else(|| {
                RuntimeError::Unfit("the process that holds the pod's process namespace is gone".to_owned())
            })?;
            ProcessNamespace::Shared(format!("/proc/{pid}/ns/pid").into())
        } else {
            ProcessNamespace::Own
        };
        Ok(Namespaces {
            network: path(Namespace::Network),
            ipc: path(Namespace::Ipc),
            uts: path(Namespace::Uts),
            process,
        })
    }

    async fn start_pause(&self, id: &PodId, sandbox: &str, directory: &Path) -> Result<(), RuntimeError> {
        let root = directory.join("pause-root");
        let binary = root.join(pause::PATH.trim_start_matches('/'));
        std::fs::create_dir_all(root.join("proc"))
            .and_then(|()| std::fs::write(&binary, pause::executable()))
            .and_then(|()| {
                use std::os::unix::fs::PermissionsExt as _;
                std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o555))
            })
            .map_err(RuntimeError::io(format!("write {}", binary.display())))?;
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 65534, "gid": 65534}, "args": [pause::PATH], "cwd": "/", "noNewPrivileges": true},
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}],
                "cgroupsPath": format!("{}/{}", self.cgroups.all_pods(), pause_id(sandbox))},
            "annotations": {"io.kubernetes.cri.sandbox-id": sandbox, SHIM_GROUP: sandbox},
        });
        let mut labels = labels::of_pod(id, "pause", &self.root_label());
        labels.insert(labels::SANDBOX.to_owned(), sandbox.to_owned());
        let container = Container {
            id: pause_id(sandbox),
            labels,
            runtime: Some(services::container::Runtime { name: RUNC.to_owned(), options: None }),
            spec: Some(Any { type_url: SPEC_TYPE.to_owned(), value: spec.to_string().into_bytes() }),
            ..Container::default()
        };
        let request = services::CreateContainerRequest { container: Some(container) };
        self.containerd
            .containers()
            .create(self.containerd.request(request))
            .await
            .map_err(failed("create pause"))?;
        let rootfs = vec![Mount {
            r#type: "bind".to_owned(),
            source: root.display().to_string(),
            options: vec!["rbind".to_owned(), "ro".to_owned()],
            ..Mount::default()
        }];
        let create =
            services::CreateTaskRequest { container_id: pause_id(sandbox), rootfs, ..Default::default() };
        self.containerd
            .tasks()
            .create(self.containerd.request(create))
            .await
            .map_err(failed("create pause task"))?;
        let start = services::StartRequest { container_id: pause_id(sandbox), ..Default::default() };
        self.containerd
            .tasks()
            .start(self.containerd.request(start))
            .await
            .map(drop)
            .map_err(failed("start pause"))
    }

    /// Takes a sandbox down, its record last. Harmless if parts are gone.
    ///
    /// # Errors
    /// When something refuses to go; the record stays, for another try.
    pub async fn remove_sandbox(&self, id: &PodId, sandbox: &str) -> Result<(), RuntimeError> {
        self.release_sandbox(id, sandbox).await?;
        let request = services::DeleteContainerRequest { id: sandbox.to_owned() };
        let deleted = self.containerd.containers().delete(self.containerd.request(request)).await;
        gone_is_fine(deleted.map_err(failed(format!("delete sandbox {sandbox}"))))
    }

    /// Takes down what a sandbox holds, and keeps its record, which then says
    /// that the sandbox is not ready.
    ///
    /// # Errors
    /// When something refuses to go.
    pub async fn release_sandbox(&self, id: &PodId, sandbox: &str) -> Result<(), RuntimeError> {
        self.remove_container(&pause_id(sandbox)).await?;
        let directory = self.sandbox_directory(sandbox);
        let namespace = Namespace::Network.path(&directory);
        self.network.detach(sandbox, &namespace, id).await.map_err(|error| {
            RuntimeError::Unfit(format!("tear down network: {}", crate::images::chain(&error)))
        })?;
        blocking(move || {
            let shm = directory.join("shm");
            if shm.exists() {
                // EINVAL: it is not mounted.
                match umount2(&shm, MntFlags::MNT_DETACH) {
                    Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
                    Err(errno) => {
                        return Err(RuntimeError::errno(format!("unmount {}", shm.display()))(errno));
                    }
                }
            }
            unpin(&directory)
        })
        .await
    }

    /// Opens a connection from inside a pod's network, which may be the node's.
    ///
    /// # Errors
    /// When nothing listens there.
    pub async fn dial(&self, sandbox: &str, port: u16) -> std::io::Result<tokio::net::TcpStream> {
        use std::net::TcpStream;
        let namespace = self.network_namespace(sandbox);
        let name = namespace.as_deref().map_or_else(String::new, |path| path.display().to_string());
        let connect = move || {
            TcpStream::connect(("127.0.0.1", port)).or_else(|v4| {
                TcpStream::connect(("::1", port)).map_err(|v6| {
                    std::io::Error::new(
                        v4.kind(),
                        format!(
                            "failed to connect to localhost:{port} inside namespace {name:?}, \
                             IPv4: dial tcp4 127.0.0.1:{port}: connect: {} \
                             IPv6 dial tcp6 [::1]:{port}: connect: {}",
                            plain(&v4),
                            plain(&v6)
                        ),
                    )
                })
            })
        };
        let stream = tokio::task::spawn_blocking(move || match namespace {
            Some(namespace) => inside_network(namespace, connect),
            None => connect(),
        })
        .await
        .map_err(std::io::Error::other)??;
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    }
}

/// An error of the system in the words that C and Go have for it.
fn plain(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// The id of the process that holds a sandbox's process namespace.
fn pause_id(sandbox: &str) -> String {
    let mut id = sandbox.to_owned();
    id.truncate(58);
    id.push_str("-pause");
    id
}

/// Runs blocking work off the event loop.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(RuntimeError::Unfit(format!("blocking work failed: {error}"))))
}
