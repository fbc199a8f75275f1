//! The cluster under test: up, down, its processes, and command lines against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take that an operator would wait for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Waits for a condition, or fails with what was seen last.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() > PATIENCE => panic!("{what}: not within {PATIENCE:?}: {seen}"),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// A cluster of this test's own; it is removed when it is dropped.
pub(crate) struct Cluster {
    name: String,
    port: u16,
    folder: tempfile::TempDir,
}

/// The folder of this build's binaries.
fn binaries() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    own.parent().and_then(Path::parent).expect("target folder").to_owned()
}

/// The workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("address").port()
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let cluster = Self { name: format!("t{}", std::process::id()), port: free_port(), folder };
        let archive = cluster.images().join("busybox.tar");
        let made = Command::new(workspace().join("deploy/make-image"))
            .args(["docker.io/library/busybox:latest".as_ref(), archive.as_os_str()])
            .output()
            .expect("run deploy/make-image");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster.up().expect("the cluster comes up");
        cluster
    }

    fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn dev(&self, verb: &str) -> Command {
        let mut command = Command::new(binaries().join("kubeadm"));
        command.args(["dev", verb, "--nodes", "2", "--name", &self.name]);
        command.args(["--port", &self.port.to_string()]);
        command.arg("--dir").arg(self.state()).arg("--image-archives").arg(self.images());
        command
    }

    /// Brings the cluster up, or what of it is missing.
    pub(crate) fn up(&self) -> Result<(), String> {
        let output = self.dev("up").output().expect("run kubeadm");
        if output.status.success() {
            return Ok(());
        }
        Err(format!("kubeadm dev up: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Starts to bring it up.
    pub(crate) fn begin_up(&self) -> std::process::Child {
        self.dev("up").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("run kubeadm")
    }

    /// A node's or the control plane's network namespace.
    pub(crate) fn namespace(&self, node: &str) -> PathBuf {
        let suffix = if node.is_empty() { String::new() } else { format!("-{node}") };
        PathBuf::from(format!("/run/netns/corten-{}{suffix}", self.name))
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.state().join("admin.conf")
    }

    /// Ids of the cluster's processes, by name.
    pub(crate) fn processes(&self) -> BTreeMap<String, i32> {
        let bytes = std::fs::read(self.state().join("processes.json")).unwrap_or_default();
        let known: BTreeMap<String, Value> = serde_json::from_slice(&bytes).unwrap_or_default();
        known
            .into_iter()
            .filter_map(|(name, one)| Some((name, i32::try_from(one["pid"].as_i64()?).ok()?)))
            .collect()
    }

    /// Kills a process of the cluster, and waits until it is gone.
    pub(crate) fn kill(&self, name: &str) {
        let id = *self.processes().get(name).unwrap_or_else(|| panic!("{name} runs"));
        kill(Pid::from_raw(id), Signal::SIGKILL).unwrap_or_else(|error| panic!("kill {name}: {error}"));
        eventually(&format!("{name} is gone"), || {
            match std::fs::read_to_string(format!("/proc/{id}/stat")) {
                Ok(text) if !text.contains(") Z ") => Err(text),
                _ => Ok(()),
            }
        });
    }

    /// Our kubectl.
    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl { program: binaries().join("kubectl"), kubeconfig: self.kubeconfig() }
    }

    /// A stock kubectl, where the machine has one.
    pub(crate) fn stock_kubectl(&self) -> Option<Kubectl> {
        let paths = std::env::var_os("PATH")?;
        let mut found = std::env::split_paths(&paths).map(|folder| folder.join("kubectl"));
        let program = found.find(|path| path.exists())?;
        Some(Kubectl { program, kubeconfig: self.kubeconfig() })
    }

    /// Removes the cluster, and checks that nothing of it is left.
    pub(crate) fn end(self) {
        let state = self.state().display().to_string();
        let name = self.name.clone();
        drop(self);
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        assert!(!mounts.contains(&state), "a mount is left: {mounts}");
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            assert!(!line.contains(&state), "a process is left: {line}");
        }
        let namespaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        for namespace in namespaces.filter_map(|entry| entry.file_name().into_string().ok()) {
            assert!(!namespace.starts_with(&format!("corten-{name}")), "{namespace} is left");
        }
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let left = controller.path().join(format!("corten-{name}"));
            assert!(!left.exists(), "{} is left", left.display());
        }
    }

    /// The ends of the daemons' logs.
    fn show_logs(&self) {
        for entry in std::fs::read_dir(self.state().join("logs")).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            println!("--- {}", entry.file_name().to_string_lossy());
            lines[lines.len().saturating_sub(30)..].iter().for_each(|line| println!("{line}"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        let output = self.dev("down").output().expect("run kubeadm");
        if !output.status.success() {
            println!("kubeadm dev down: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// One of the command lines.
#[derive(Clone)]
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).current_dir(workspace()).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("run kubectl")
    }

    /// What a command prints; its failure is the test's.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.output(arguments);
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!(
            "{} {}: {}{}",
            self.program.display(),
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    /// An object or a list.
    pub(crate) fn get(&self, arguments: &[&str]) -> Value {
        let arguments = [&["get", "-o", "json"], arguments].concat();
        serde_json::from_str(&self.run(&arguments)).expect("JSON")
    }
}
