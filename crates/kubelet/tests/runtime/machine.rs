//! A real containerd of the test's own, and a kubelet's parts around it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use api::types::core::v1::Pod;
use kubelet::cgroups::Cgroups;
use kubelet::cluster::{Cluster, PodChange, Source};
use kubelet::images::registry::Registries;
use kubelet::images::store::Store;
use kubelet::images::{Images, archive};
use kubelet::network::{self, Network};
use kubelet::node::facts;
use kubelet::pod::PodId;
use kubelet::runtime::containerd::Containerd;
use kubelet::runtime::files::Dns;
use kubelet::runtime::{Runtime, Settings};
use kubelet::status::writer::Writer;
use kubelet::volumes::Volumes;
use kubelet::worker::pods::Pods;
use kubelet::worker::task::Tools;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::fake::Fake;

pub const PATIENCE: Duration = Duration::from_secs(120);
/// The image that [`Machine::tools`] imports.
pub const IMAGE: &str = "test.local/busybox:1";

/// A containerd of our own, and everything that must be gone when we are.
pub struct Machine {
    dir: tempfile::TempDir,
    containerd: Child,
    pub cgroups: Cgroups,
    /// Tells apart what tests of one process make.
    name: String,
}

impl Machine {
    pub fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().expect("temp dir");
        let config = dir.path().join("config.toml");
        std::fs::write(&config, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")
            .expect("write");
        let cgroups = Cgroups::detect(Path::new("/sys/fs/cgroup"), &format!("/corten-{name}"));
        let containerd = start_containerd(dir.path());
        Self { dir, containerd, cgroups, name }
    }

    /// Ends containerd without a word and starts it again.
    pub fn restart_containerd(&mut self) {
        self.containerd.kill().expect("kill containerd");
        self.containerd.wait().expect("containerd ends");
        self.containerd = start_containerd(self.dir.path());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn namespace(&self) -> String {
        self.name.clone()
    }

    pub fn cgroup_root(&self) -> String {
        format!("/corten-{}", self.name)
    }

    pub fn mounts(&self) -> Vec<String> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
        points.filter(|point| point.starts_with(&self.dir.path().display().to_string())).collect()
    }
}

impl Machine {
    /// Shims and loggers that name this machine on their command line.
    fn leftovers(&self) -> Vec<nix::unistd::Pid> {
        let folder = self.dir.path().display().to_string();
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        ids.filter(|id| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let is_ours = line.contains(&format!("-namespace\0{}\0", self.name)) || line.contains(&folder);
            is_ours && (line.contains("containerd-shim") || line.contains("\0logger\0"))
        })
        .map(nix::unistd::Pid::from_raw)
        .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let ctr = format!("ctr --address {} -n {}", self.path("c.sock").display(), self.namespace());
        let script = format!("for t in $({ctr} tasks ls -q); do {ctr} tasks rm -f $t; done");
        let _ = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.containerd.kill();
        let _ = self.containerd.wait();
        // A shim whose task containerd lost sight of, and its logger.
        for id in self.leftovers() {
            let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL);
        }
        for point in self.mounts().iter().rev() {
            let _ = nix::mount::umount2(point.as_str(), nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = self.cgroups.remove_all();
        let _ = std::fs::remove_dir(Path::new("/run/containerd/runc").join(self.namespace()));
    }
}

fn start_containerd(dir: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("containerd.log"));
    Command::new("containerd")
        .arg("--config")
        .arg(dir.join("config.toml"))
        .arg("--root")
        .arg(dir.join("lib"))
        .arg("--state")
        .arg(dir.join("run"))
        .arg("--address")
        .arg(dir.join("c.sock"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("log"))
        .spawn()
        .expect("containerd starts")
}

/// A layer with nothing but busybox.
pub fn busybox_layer() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut header = tar::Header::new_gnu();
    header.set_size(busybox.len() as u64);
    header.set_mode(0o755);
    layer.append_data(&mut header, "bin/busybox", busybox.as_slice()).expect("tar");
    for name in [
        "sh", "sleep", "echo", "cat", "hostname", "id", "nc", "stty", "head", "seq", "touch", "ls", "yes",
        "test",
    ] {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        link.set_mode(0o777);
        layer.append_link(&mut link, format!("bin/{name}"), "busybox").expect("tar");
    }
    layer.into_inner().expect("tar")
}

/// What an image of layers with these digests says of itself.
pub fn image_config(diffs: &[String]) -> Value {
    json!({
        "architecture": kubelet::images::store::architecture(), "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diffs},
    })
}

/// `docker save` of an image with nothing but busybox.
fn image_archive(path: &Path) {
    let layer = busybox_layer();
    let config = image_config(&[kubelet::images::store::digest(&layer)]).to_string();
    let manifest =
        json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]).to_string();
    let mut outer = tar::Builder::new(std::fs::File::create(path).expect("create"));
    for (name, data) in [
        ("config.json", config.as_bytes()),
        ("layer.tar", layer.as_slice()),
        ("manifest.json", manifest.as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        outer.append_data(&mut header, name, data).expect("tar");
    }
    outer.finish().expect("tar");
}

pub fn pod(value: Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(value).expect("a pod"))
}

pub async fn until<T>(what: &str, check: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, check).await.unwrap_or_else(|| panic!("waited too long for {what}"))
}

/// Asks until there is an answer, or the time is over.
pub async fn within<T>(time: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = check().await {
            return Some(found);
        }
        if begun.elapsed() > time {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Machine {
    /// A kubelet's parts, as after its start, with [`IMAGE`] imported.
    pub async fn tools(&self, cluster: &Arc<Fake>) -> Arc<Tools> {
        let tools = self.tools_with(cluster, Registries::default()).await;
        let archive = self.path("busybox.tar");
        image_archive(&archive);
        let images = archive::import(tools.images.store(), &archive).await.expect("import");
        assert_eq!(images[0].name, IMAGE);
        tools
    }

    /// A kubelet's parts, without an image.
    pub async fn tools_with(&self, cluster: &Arc<Fake>, registries: Registries) -> Arc<Tools> {
        let socket = self.path("c.sock");
        let containerd =
            until("containerd", async || Containerd::connect(&socket, &self.namespace()).await.ok()).await;
        until("a namespace", async || containerd.ensure_namespace().await.ok()).await;
        self.cgroups.ensure_tree().expect("cgroups");
        let network = Network::new(network::Settings {
            bin_dirs: vec!["/usr/lib/cni".into()],
            conf_dir: self.path("cni/net.d"),
            cache_dir: self.path("cni/cache"),
            bridge: "cni0".to_owned(),
            mtu: 0,
        });
        network.ensure_configuration(&["10.88.7.0/24".parse().expect("a range")]).expect("network");
        let settings = Settings {
            root: self.path("kubelet"),
            state: self.path("state"),
            logs: self.path("logs"),
            logger: env!("CARGO_BIN_EXE_kubelet").into(),
            log_max_size: 1 << 20,
            log_max_files: 3,
            dns: Dns::default(),
        };
        let facts = facts::machine(self.cgroups.version(), &settings.root);
        let cluster: Arc<dyn Cluster> = Arc::<Fake>::clone(cluster);
        Arc::new(Tools {
            volumes: Volumes::new(settings.root.clone(), Arc::clone(&cluster)),
            runtime: Runtime::new(containerd.clone(), settings, facts, network, self.cgroups.clone()),
            images: Images::new(Store::new(containerd), registries),
            writer: Writer::start(Arc::clone(&cluster)),
            cluster,
            addresses: vec!["192.0.2.1".parse::<IpAddr>().expect("an address")],
        })
    }

    /// Nothing of any pod is left.
    pub async fn assert_clean(&self, tools: &Tools) {
        assert!(tools.runtime.pods().await.expect("pods").is_empty(), "no container remains");
        assert!(self.cgroups.pods().is_empty(), "no control group remains");
        assert!(self.mounts().is_empty(), "no mount remains: {:?}", self.mounts());
        for directory in ["logs", "kubelet/pods", "state/sandboxes", "state/io"] {
            let left = files_under(&self.path(directory));
            assert!(left.is_empty(), "nothing remains in {directory}: {left:#?}");
        }
    }
}

/// What is in a directory, and in those in it.
fn files_under(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, text) = (entry.path(), std::fs::read_to_string(entry.path()).unwrap_or_default());
        found.push(format!(
            "{}: {:?} {text}",
            path.display(),
            entry.metadata().and_then(|data| data.created())
        ));
        found.extend(files_under(&path));
    }
    found
}

/// The kubelet's heart: pods, and the channel that tells it of them. It has an
/// event loop of its own, so that nothing of it goes on after its crash.
pub struct Kubelet {
    pub pods: Arc<Pods>,
    changes: mpsc::Sender<PodChange>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Kubelet {
    /// A kubelet that knows no pods yet.
    pub fn start(tools: &Arc<Tools>) -> Self {
        let runtime = event_loop(2);
        let _inside = runtime.enter();
        let pods = Pods::new(Arc::clone(tools), "node");
        let (changes, receiver) = mpsc::channel(16);
        runtime.spawn(Arc::clone(&pods).run(receiver));
        Self { pods, changes, runtime: Some(runtime) }
    }

    pub async fn send(&self, change: PodChange) {
        self.changes.send(change).await.expect("the kubelet listens");
    }

    /// Says that these are all pods.
    pub async fn synced(&self) {
        self.send(PodChange::Synced(Source::Files)).await;
        self.send(PodChange::Synced(Source::Api)).await;
    }

    /// Passes on what a source of pods says.
    pub fn follow(&self, mut source: mpsc::Receiver<PodChange>) {
        let changes = self.changes.clone();
        tokio::spawn(async move {
            while let Some(change) = source.recv().await {
                if changes.send(change).await.is_err() {
                    return;
                }
            }
        });
    }

    /// As a crash: nothing is said to anybody.
    pub async fn crash(mut self) {
        let runtime = self.runtime.take();
        // What cannot be broken off (a mount) is waited for, as the kernel would.
        tokio::task::spawn_blocking(move || runtime.map(|runtime| runtime.shutdown_timeout(PATIENCE)))
            .await
            .expect("the event loop ends");
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn event_loop(threads: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("an event loop")
}

/// What a container of a pod has written, both streams.
pub async fn log_of(tools: &Tools, id: &PodId, container: &str) -> String {
    let path = kubelet::logs::path(&tools.runtime.settings().logs, id, container, 0);
    if !path.exists() {
        return String::new();
    }
    let (sender, mut receiver) = mpsc::channel(64);
    let options = kubelet::logs::read::Options::default();
    let reading =
        async move { kubelet::logs::read::stream(&path, &options, std::future::ready(()), &sender).await };
    let collecting = async {
        let mut bytes = Vec::new();
        while let Some(part) = receiver.recv().await {
            bytes.extend(part);
        }
        bytes
    };
    let (read, bytes) = tokio::join!(reading, collecting);
    read.expect("log");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How many machines run at once: each has a containerd, and all share the processors.
const AT_ONCE: usize = 4;
static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of the machines that run.
struct Turn;

impl Turn {
    fn take() -> Self {
        let (running, changed) = &RUNNING;
        let mut running = running.lock().expect("no test panics with it");
        while *running >= AT_ONCE {
            running = changed.wait(running).expect("no test panics with it");
        }
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (running, changed) = &RUNNING;
        *running.lock().expect("no test panics with it") -= 1;
        changed.notify_one();
    }
}

/// Runs a test on a thread of its own, so that everything started from it is in
/// a network namespace of its own.
pub fn run(test: impl AsyncFnOnce(&mut Machine) + Send + 'static) {
    let _turn = Turn::take();
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace (needs root)");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip");
        assert!(up.success(), "loopback is up");
        let runtime = event_loop(4);
        daemon::tls::install_crypto();
        let mut machine = Machine::start();
        runtime.block_on(test(&mut machine));
        // The tasks end before what they work on does.
        drop(runtime);
        drop(machine);
    });
    thread.join().expect("the test passes");
}
