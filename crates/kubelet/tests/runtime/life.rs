//! A pod's whole life on a real containerd of the test's own, in a network
//! namespace of the test's own, with the API server faked. Needs root and
//! Debian's containerd, runc, CNI plugins and busybox-static.

#![allow(
    clippy::too_many_lines,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test of the real thing is one story from start to end, on the machine's own clock, and says how quick it was"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::types::authentication::v1::TokenRequest;
use api::types::coordination::v1::Lease;
use api::types::core::v1::{ConfigMap, Node, Pod, Secret, Service};
use futures::FutureExt as _;
use kubelet::cgroups::Cgroups;
use kubelet::cluster::{Answer, Cluster, ClusterError, Happening, PodChange};
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
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const UID: &str = "0af1d3a0-1111-4222-8333-444455556666";
const PATIENCE: Duration = Duration::from_secs(30);

/// The API server, as far as this test needs one.
#[derive(Default)]
struct Fake {
    statuses: Mutex<BTreeMap<String, Value>>,
    deleted: Mutex<Vec<String>>,
    told: Mutex<Vec<String>>,
}

fn none<'a, T: Send + 'a>(what: &str) -> Answer<'a, T> {
    let what = what.to_owned();
    async move { Err(ClusterError::NotFound { what }) }.boxed()
}

impl Cluster for Fake {
    fn watch_pods(&self) -> mpsc::Receiver<PodChange> {
        mpsc::channel(1).1
    }
    fn pod<'a>(&'a self, _: &'a PodId) -> Answer<'a, Pod> {
        none("pod")
    }
    fn create_pod<'a>(&'a self, _: &'a Pod) -> Answer<'a, ()> {
        none("pod")
    }
    fn patch_pod_status<'a>(&'a self, id: &'a PodId, status: &'a Value) -> Answer<'a, ()> {
        self.statuses.lock().insert(id.name.clone(), status.clone());
        async { Ok(()) }.boxed()
    }
    fn delete_pod<'a>(&'a self, id: &'a PodId) -> Answer<'a, ()> {
        self.deleted.lock().push(id.name.clone());
        async { Ok(()) }.boxed()
    }
    fn config_map<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, Arc<ConfigMap>> {
        let map = serde_json::from_value(json!({"data": {"greeting": "hello"}})).expect("a config map");
        async move { Ok(Arc::new(map)) }.boxed()
    }
    fn secret<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, Arc<Secret>> {
        none("secret")
    }
    fn services<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<Arc<Service>>> {
        async { Ok(Vec::new()) }.boxed()
    }
    fn token<'a>(&'a self, _: &'a str, _: &'a str, _: &'a TokenRequest) -> Answer<'a, TokenRequest> {
        none("token")
    }
    fn node<'a>(&'a self, _: &'a str) -> Answer<'a, Node> {
        none("node")
    }
    fn create_node<'a>(&'a self, _: &'a Node) -> Answer<'a, ()> {
        none("node")
    }
    fn patch_node<'a>(&'a self, _: &'a str, _: &'a Value) -> Answer<'a, ()> {
        none("node")
    }
    fn patch_node_status<'a>(&'a self, _: &'a str, _: &'a Value) -> Answer<'a, ()> {
        none("node")
    }
    fn put_lease<'a>(&'a self, _: &'a Lease) -> Answer<'a, Lease> {
        none("lease")
    }
    fn lease<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, Lease> {
        none("lease")
    }
    fn tell_pod(&self, _: &Pod, happening: Happening) {
        self.told.lock().push(format!("{} {}", happening.reason, happening.message));
    }
    fn tell_node(&self, _: &str, _: Happening) {}
}

/// A containerd of our own, and everything that must be gone when we are.
struct Machine {
    dir: tempfile::TempDir,
    containerd: Child,
    cgroups: Cgroups,
}

impl Machine {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let config = dir.path().join("config.toml");
        std::fs::write(&config, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")
            .expect("write");
        let log = std::fs::File::create(dir.path().join("containerd.log")).expect("log");
        let containerd = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(dir.path().join("lib"))
            .arg("--state")
            .arg(dir.path().join("run"))
            .arg("--address")
            .arg(dir.path().join("c.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd starts");
        let root = format!("/corten-test-{}", std::process::id());
        let cgroups = Cgroups::detect(Path::new("/sys/fs/cgroup"), &root);
        Self { dir, containerd, cgroups }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn namespace(&self) -> String {
        format!("test-{}", std::process::id())
    }

    fn mounts(&self) -> Vec<String> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
        points.filter(|point| point.starts_with(&self.dir.path().display().to_string())).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let ctr = format!("ctr --address {} -n {}", self.path("c.sock").display(), self.namespace());
        let script = format!("for t in $({ctr} tasks ls -q); do {ctr} tasks rm -f $t; done");
        let _ = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.containerd.kill();
        let _ = self.containerd.wait();
        for point in self.mounts().iter().rev() {
            let _ = nix::mount::umount2(point.as_str(), nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = self.cgroups.remove_all();
        let _ = std::fs::remove_dir(Path::new("/run/containerd/runc").join(self.namespace()));
    }
}

/// `docker save` of an image with nothing but busybox.
fn image_archive(path: &Path) {
    let mut layer = tar::Builder::new(Vec::new());
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut header = tar::Header::new_gnu();
    header.set_size(busybox.len() as u64);
    header.set_mode(0o755);
    layer.append_data(&mut header, "bin/busybox", busybox.as_slice()).expect("tar");
    for name in ["sh", "sleep", "echo", "cat", "hostname", "id", "nc"] {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        link.set_mode(0o777);
        layer.append_link(&mut link, format!("bin/{name}"), "busybox").expect("tar");
    }
    let layer = layer.into_inner().expect("tar");
    let diff = kubelet::images::store::digest(&layer);
    let config = json!({
        "architecture": kubelet::images::store::architecture(), "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff]},
    })
    .to_string();
    let manifest =
        json!([{"Config": "config.json", "RepoTags": ["test.local/busybox:1"], "Layers": ["layer.tar"]}])
            .to_string();
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

fn test_pod() -> Value {
    let image = "test.local/busybox:1";
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "life", "namespace": "default", "uid": UID, "generation": 1},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}},
                {"name": "config", "configMap": {"name": "any"}},
            ],
            "initContainers": [
                {"name": "init", "image": image, "command": ["sh", "-c", "echo made-by-init > /scratch/file"],
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]},
                {"name": "side", "image": image, "restartPolicy": "Always",
                    "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]},
            ],
            "containers": [{
                "name": "main", "image": image,
                "command": ["sh", "-c", "echo out $GREETING $(MY_IP); echo err >&2; cat /scratch/file /config/greeting; trap 'exit 0' TERM; while :; do sleep 0.2; done"],
                "env": [
                    {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "any", "key": "greeting"}}},
                    {"name": "MY_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "echo hook > /memory/hook"]}}},
                "readinessProbe": {"exec": {"command": ["cat", "/memory/hook"]}, "periodSeconds": 1},
                "volumeMounts": [
                    {"name": "scratch", "mountPath": "/scratch"}, {"name": "memory", "mountPath": "/memory"},
                    {"name": "config", "mountPath": "/config"},
                    {"name": "scratch", "mountPath": "/part", "subPath": "a/b"},
                ],
            }],
        }
    })
}

fn pod(value: Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(value).expect("a pod"))
}

async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn tools(machine: &Machine, cluster: &Arc<Fake>) -> Arc<Tools> {
    let socket = machine.path("c.sock");
    let containerd =
        until("containerd", async || Containerd::connect(&socket, &machine.namespace()).await.ok()).await;
    until("a namespace", async || containerd.ensure_namespace().await.ok()).await;
    machine.cgroups.ensure_tree().expect("cgroups");
    let network = Network::new(network::Settings {
        bin_dirs: vec!["/usr/lib/cni".into()],
        conf_dir: machine.path("cni/net.d"),
        cache_dir: machine.path("cni/cache"),
        bridge: "cni0".to_owned(),
        mtu: 0,
    });
    network.ensure_configuration(&["10.88.7.0/24".parse().expect("a range")]).expect("network");
    let settings = Settings {
        root: machine.path("kubelet"),
        state: machine.path("state"),
        logs: machine.path("logs"),
        logger: env!("CARGO_BIN_EXE_kubelet").into(),
        log_max_size: 1 << 20,
        log_max_files: 3,
        dns: Dns::default(),
    };
    let facts = facts::machine(machine.cgroups.version(), &settings.root);
    let cluster: Arc<dyn Cluster> = Arc::<Fake>::clone(cluster);
    Arc::new(Tools {
        volumes: Volumes::new(settings.root.clone(), Arc::clone(&cluster)),
        runtime: Runtime::new(containerd.clone(), settings, facts, network, machine.cgroups.clone()),
        images: Images::new(Store::new(containerd), Registries::default()),
        writer: Writer::start(Arc::clone(&cluster)),
        cluster,
        addresses: vec!["192.0.2.1".parse::<IpAddr>().expect("an address")],
    })
}

struct Kubelet {
    pods: Arc<Pods>,
    changes: mpsc::Sender<PodChange>,
    task: tokio::task::JoinHandle<()>,
}

impl Kubelet {
    fn start(tools: &Arc<Tools>) -> Self {
        let pods = Pods::new(Arc::clone(tools));
        let (changes, receiver) = mpsc::channel(16);
        let task = tokio::spawn(Arc::clone(&pods).run(receiver));
        Self { pods, changes, task }
    }

    async fn send(&self, change: PodChange) {
        self.changes.send(change).await.expect("the kubelet listens");
    }

    /// As a crash: nothing is said to anybody.
    async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
        drop(self.pods);
    }
}

async fn log_of(tools: &Tools, container: &str) -> String {
    let id = PodId { uid: UID.to_owned(), namespace: "default".to_owned(), name: "life".to_owned() };
    let path = kubelet::logs::path(&tools.runtime.settings().logs, &id, container, 0);
    let (sender, mut receiver) = mpsc::channel(64);
    kubelet::logs::read::stream(&path, &kubelet::logs::read::Options::default(), || true, &sender)
        .await
        .expect("log");
    drop(sender);
    let mut text = String::new();
    while let Some(bytes) = receiver.recv().await {
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    text
}

async fn life(machine: &Machine) {
    let cluster = Arc::new(Fake::default());
    let tools = tools(machine, &cluster).await;
    let archive_path = machine.path("busybox.tar");
    image_archive(&archive_path);
    let images = archive::import(tools.images.store(), &archive_path).await.expect("import");
    assert_eq!(images[0].name, "test.local/busybox:1");

    let kubelet = Kubelet::start(&tools);
    kubelet.send(PodChange::Synced).await;
    let begun = Instant::now();
    kubelet.send(PodChange::Set(pod(test_pod()))).await;
    let status = until("a ready pod", async || {
        let status = cluster.statuses.lock().get("life").cloned()?;
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True").then_some(status)
    })
    .await;
    println!("ready after {:?}", begun.elapsed());
    assert_eq!(status["phase"], "Running", "{status:#}");
    assert_eq!(
        status["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed",
        "{status:#}"
    );
    assert_eq!(status["initContainerStatuses"][1]["started"], true);
    assert_eq!(status["qosClass"], "Burstable");
    let ip = status["podIP"].as_str().expect("an address").to_owned();
    assert!(ip.starts_with("10.88.7."), "{ip}");

    let observed = tools.runtime.observe(UID).await.expect("observe");
    let main = observed.latest("main").expect("main").clone();
    let command = ["sh", "-c", "hostname; cat /memory/hook; echo x > /part/y; cat /scratch/a/b/y; exit 7"]
        .map(str::to_owned);
    let outcome = tools.runtime.exec_to_end(&main.id, &command, PATIENCE).await.expect("exec");
    assert_eq!((outcome.code, String::from_utf8_lossy(&outcome.output).as_ref()), (7, "life\nhook\nx\n"));
    let expected = format!("out hello {ip}\nerr\nmade-by-init\nhello");
    until("the log", async || {
        let text = log_of(&tools, "main").await;
        let has_all = expected.lines().all(|line| text.lines().any(|have| have == line));
        has_all.then_some(())
    })
    .await;

    // A crash and a restart: the same processes, untouched.
    kubelet.crash().await;
    let kubelet = Kubelet::start(&tools);
    let mut seen = test_pod();
    seen["status"] = status;
    kubelet.send(PodChange::Set(pod(seen.clone()))).await;
    kubelet.send(PodChange::Synced).await;
    until("rediscovery", async || {
        let (_, shown) = kubelet.pods.find("default", "life", UID)?;
        shown.observed.latest("main").filter(|record| record.is_running() && record.id == main.id).map(drop)
    })
    .await;
    let again = tools.runtime.observe(UID).await.expect("observe");
    assert_eq!(
        again.latest("main").map(|record| &record.state),
        Some(&main.state),
        "the process is the same"
    );
    assert_eq!(again.containers.len(), 3, "nothing was started");

    // A container that dies is started again.
    tools.runtime.kill(&main.id, nix::sys::signal::Signal::SIGKILL).await.expect("kill");
    let second = until("a restart", async || {
        let (_, shown) = kubelet.pods.find("default", "life", UID)?;
        shown.observed.latest("main").filter(|record| record.is_running() && record.attempt == 1).cloned()
    })
    .await;
    assert_ne!(second.id, main.id);
    until("the restart in the status", async || {
        let status = cluster.statuses.lock().get("life").cloned()?;
        let container = &status["containerStatuses"][0];
        (container["restartCount"] == 1 && container["lastState"]["terminated"]["exitCode"] == 137)
            .then_some(())
    })
    .await;

    // Deletion: everything goes.
    seen["metadata"]["deletionTimestamp"] =
        json!((jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5)).to_string());
    seen["metadata"]["deletionGracePeriodSeconds"] = json!(5);
    kubelet.send(PodChange::Set(pod(seen))).await;
    until("the deletion", async || cluster.deleted.lock().contains(&"life".to_owned()).then_some(())).await;
    let id = PodId { uid: UID.to_owned(), namespace: "default".to_owned(), name: "life".to_owned() };
    kubelet.send(PodChange::Gone(id)).await;

    assert!(tools.runtime.pods().await.expect("pods").is_empty(), "no container remains");
    assert!(machine.cgroups.pods().is_empty(), "no control group remains");
    assert!(machine.mounts().is_empty(), "no mount remains: {:?}", machine.mounts());
    assert!(!machine.path("logs").join(format!("default_life_{UID}")).exists(), "no log remains");
    assert!(!machine.path("kubelet/pods").join(UID).exists(), "no volume remains");
    let sandboxes = std::fs::read_dir(machine.path("state/sandboxes")).expect("state").count();
    assert_eq!(sandboxes, 0, "no sandbox remains");
    kubelet.crash().await;
}

async fn speed(machine: &Machine) {
    let cluster = Arc::new(Fake::default());
    let tools = tools(machine, &cluster).await;
    let kubelet = Kubelet::start(&tools);
    kubelet.send(PodChange::Synced).await;
    let simple = |number: u32| {
        pod(json!({
            "metadata": {"name": format!("quick-{number}"), "namespace": "default", "uid": format!("0af1d3a0-1111-4222-8333-{number:012}")},
            "spec": {"containers": [{"name": "c", "image": "test.local/busybox:1", "command": ["sleep", "1000"]}]}
        }))
    };
    for number in 0..3 {
        let begun = Instant::now();
        let wanted = simple(number);
        kubelet.send(PodChange::Set(Arc::clone(&wanted))).await;
        let name = format!("quick-{number}");
        until("a running pod", async || {
            let status = cluster.statuses.lock().get(&name).cloned()?;
            (status["phase"] == "Running").then_some(())
        })
        .await;
        println!("{name} running after {:?}", begun.elapsed());
    }
    for number in 0..3 {
        kubelet.send(PodChange::Gone(kubelet::pod::id(&simple(number)))).await;
    }
    until("the end of all", async || tools.runtime.pods().await.ok()?.is_empty().then_some(())).await;
    until("no mounts", async || machine.mounts().is_empty().then_some(())).await;
    kubelet.crash().await;
}

#[test]
fn a_pods_whole_life() {
    // On a thread of its own, so that everything started from it is in a new
    // network namespace.
    let test = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace (needs root)");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .expect("runtime");
        let machine = Machine::start();
        runtime.block_on(async {
            life(&machine).await;
            speed(&machine).await;
        });
        drop(runtime);
    });
    test.join().expect("the test passes");
}
