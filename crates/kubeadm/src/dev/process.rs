//! The processes of a development cluster: started in their namespace, recorded
//! by id and start time, ended by exactly that.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use command_fds::{CommandFdExt as _, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{Layout, sibling};
use crate::daemons::{Daemon, Node};

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A process by what makes it unmistakable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recorded {
    pid: i32,
    /// The kernel's start time, in clock ticks since boot.
    started: u64,
}

impl Recorded {
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let is_dead = matches!(fields.next()?, "Z" | "X");
        let started = fields.nth(18)?.parse().ok()?;
        (!is_dead).then_some(Self { pid, started })
    }

    fn is_running(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// The processes of one cluster, by name.
pub(super) struct Processes {
    file: PathBuf,
    known: BTreeMap<String, Recorded>,
}

impl Processes {
    pub(super) fn open(state: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(state).with_context(|| format!("create {}", state.display()))?;
        let file = state.join("processes.json");
        let known = match fs::read(&file) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("read {}", file.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        Ok(Self { file, known })
    }

    fn save(&self) -> anyhow::Result<()> {
        let temporary = self.file.with_extension("tmp");
        fs::write(&temporary, serde_json::to_vec(&self.known)?)
            .and_then(|()| fs::rename(&temporary, &self.file))
            .with_context(|| format!("write {}", self.file.display()))
    }

    pub(super) fn is_running(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|one| one.is_running())
    }

    /// The ids of those that run.
    pub(super) fn running(&self) -> BTreeMap<String, u32> {
        let running = self.known.iter().filter(|(_, one)| one.is_running());
        running.filter_map(|(name, one)| Some((name.clone(), u32::try_from(one.pid).ok()?))).collect()
    }

    /// A process that should run and does not.
    pub(super) fn ended(&self) -> Option<String> {
        self.known.iter().find(|(_, one)| !one.is_running()).map(|(name, _)| name.clone())
    }

    pub(super) fn describe(&self) -> Vec<String> {
        let line = |(name, one): (&String, &Recorded)| {
            format!("{name:<32} {:<8} {}", one.pid, if one.is_running() { "running" } else { "ended" })
        };
        self.known.iter().map(line).collect()
    }

    pub(super) fn start(
        &mut self,
        layout: &Layout,
        name: &str,
        daemon: &Daemon,
        namespace: &str,
        sockets: Vec<OwnedFd>,
    ) -> anyhow::Result<()> {
        let program = sibling(daemon.name)?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).arg(program).args(daemon.arguments());
        self.spawn(layout, name, command, sockets)
    }

    /// containerd for one node, with everything of it in the node's folder.
    pub(super) fn start_containerd(&mut self, layout: &Layout, node: &Node) -> anyhow::Result<()> {
        let folder = node.containerd.parent().unwrap_or(Path::new("/")).to_owned();
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let config = folder.join("containerd.toml");
        let text = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = {socket:?}\n[ttrpc]\n  address = {ttrpc:?}\n",
            root = folder.join("containerd/root"),
            state = folder.join("containerd/state"),
            socket = node.containerd,
            ttrpc = folder.join("containerd-ttrpc.sock"),
        );
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", layout.namespace(&node.name)));
        command.arg("containerd").arg("--config").arg(config);
        self.spawn(layout, &format!("{}-containerd", node.name), command, Vec::new())
    }

    fn spawn(
        &mut self,
        layout: &Layout,
        name: &str,
        mut command: Command,
        sockets: Vec<OwnedFd>,
    ) -> anyhow::Result<()> {
        if self.is_running(name) {
            return Ok(());
        }
        fs::create_dir_all(layout.logs()).context("create the folder of logs")?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(layout.log(name))
            .with_context(|| format!("open {}", layout.log(name).display()))?;
        let errors = log.try_clone().context("share the log")?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        use std::os::unix::process::CommandExt as _;
        // A signal to this program's group must not reach the cluster.
        command.process_group(0);
        if !sockets.is_empty() {
            command.env("LISTEN_FDS", sockets.len().to_string());
            let mappings = sockets
                .into_iter()
                .zip(3..)
                .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd })
                .collect();
            command.fd_mappings(mappings).context("hand a socket over")?;
        }
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        let pid = i32::try_from(child.id()).context("process id")?;
        let recorded = Recorded::of(pid)
            .with_context(|| format!("{name} ended at once; its log is {}", layout.log(name).display()))?;
        self.known.insert(name.to_owned(), recorded);
        self.save()
    }

    /// Ends all: nodes' daemons first, then their containers, then the control plane.
    pub(super) fn end_all(&mut self, layout: &Layout) -> anyhow::Result<()> {
        let is_node = |name: &String| name.starts_with("node");
        let is_runtime = |name: &String| name.ends_with("-containerd");
        let names = |filter: &dyn Fn(&String) -> bool| -> Vec<String> {
            self.known.keys().filter(|name| filter(name)).cloned().collect()
        };
        let waves = [
            names(&|name| is_node(name) && !is_runtime(name)),
            names(&|name| !is_node(name)),
            names(&|name| is_runtime(name)),
        ];
        let [first, second, last] = waves;
        self.end(&first);
        self.end(&second);
        for shim in shims(&layout.state) {
            end_tree(shim);
        }
        self.end(&last);
        self.save()
    }

    fn end(&mut self, names: &[String]) {
        let running: Vec<Recorded> =
            names.iter().filter_map(|name| self.known.remove(name)).filter(|one| one.is_running()).collect();
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let left: Vec<_> = running.iter().filter(|one| one.is_running()).collect();
            for one in &left {
                // It may have ended in between.
                let _ = kill(Pid::from_raw(one.pid), signal);
            }
            for _ in 0..(GRACE.as_millis() / POLL.as_millis()) {
                if left.iter().all(|one| !one.is_running()) {
                    break;
                }
                std::thread::sleep(POLL);
            }
        }
    }
}

/// The container shims that belong to a cluster, by the socket on their command line.
fn shims(state: &Path) -> Vec<Recorded> {
    let marker = state.display().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        (line.contains("containerd-shim") || line.contains("\0logger")) && line.contains(&marker)
    })
    .filter_map(Recorded::of)
    .collect()
}

/// Ends a process and all its descendants at once.
fn end_tree(root: Recorded) {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(one) = all.get(at).copied() {
        at += 1;
        let text = fs::read_to_string(format!("/proc/{0}/task/{0}/children", one.pid)).unwrap_or_default();
        all.extend(text.split_ascii_whitespace().filter_map(|pid| Recorded::of(pid.parse().ok()?)));
    }
    for one in all.into_iter().filter(|one| one.is_running()) {
        // It may have ended with its parent.
        let _ = kill(Pid::from_raw(one.pid), Signal::SIGKILL);
    }
}
