//! What must hold while daemons die: the application serves, no acknowledged
//! write is lost, no running pod is disturbed, and the cluster goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt as _;

use crate::cluster::{Cluster, Kubectl, eventually};
use crate::commands::service_targets;
use crate::probe::Probe;

/// How many answers a dead daemon must not cost, before it is started again.
const WITHOUT: u64 = 60;
/// How often the API server is killed at its start.
const STARTS: usize = 12;

/// A client that writes config maps and remembers which were acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(kubectl: Kubectl) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
        let thread = std::thread::spawn({
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let name = format!("written-{number}");
                    let created = kubectl.try_run(&["create", "configmap", &name, "--from-literal=a=b"]);
                    if created.is_ok() {
                        acknowledged.lock().push(name);
                    }
                }
            }
        });
        Self { stop, acknowledged, thread: Some(thread) }
    }

    /// Stops; gives the names of what was acknowledged.
    fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("runs").join().expect("the writer");
        self.acknowledged.lock().clone()
    }
}

/// The pods of the application: uid and restarts by name.
fn pods(kubectl: &Kubectl) -> BTreeMap<String, (String, u64)> {
    let list = kubectl.get(&["pods", "-l", "app=web"]);
    let items = list["items"].as_array().expect("items");
    items
        .iter()
        .map(|pod| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(99);
            (text(&pod["metadata"]["name"]), (text(&pod["metadata"]["uid"]), restarts))
        })
        .collect()
}

/// A pod that is made, runs on a node, and ends: every daemon but the proxy and DNS takes part.
fn a_new_pod_runs(kubectl: &Kubectl, name: &str, node: &str) {
    let manifest = serde_json::json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never", "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [{"name": "c", "image": "docker.io/library/busybox:latest",
                "imagePullPolicy": "IfNotPresent", "command": ["true"]}]}}}
    });
    let file = tempfile::NamedTempFile::with_suffix(".json").expect("temporary file");
    std::fs::write(file.path(), manifest.to_string()).expect("write the manifest");
    eventually("a job is made", || kubectl.try_run(&["apply", "-f", file.path().to_str().expect("text")]));
    eventually(&format!("job {name} on {node} completes"), || {
        let job = kubectl.get(&["job", name]);
        (job["status"]["succeeded"] == 1).then_some(()).ok_or_else(|| job["status"].to_string())
    });
}

/// Services are programmed: a new one answers.
fn a_new_service_answers(cluster: &Cluster, kubectl: &Kubectl, name: &str) {
    let manifest = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
    });
    let file = tempfile::NamedTempFile::with_suffix(".json").expect("temporary file");
    std::fs::write(file.path(), manifest.to_string()).expect("write the manifest");
    kubectl.run(&["apply", "-f", file.path().to_str().expect("text")]);
    let address = kubectl.get(&["service", name])["spec"]["clusterIP"].as_str().expect("address").to_owned();
    let address = address.parse().expect("an address");
    for node in ["node1", "node2"] {
        crate::probe::inside(&cluster.namespace(node), || {
            eventually(&format!("service {name} answers on {node}"), || crate::probe::ask(address, 80))
        });
    }
}

pub(crate) fn each_daemon_is_killed_while_the_application_serves(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let before = pods(&kubectl);
    let probe = Probe::start(&cluster.namespace("node1"), service_targets(&kubectl));
    let names: Vec<String> = cluster.processes().into_keys().collect();
    assert_eq!(names.len(), 11, "{names:?}");
    let mut lost = Vec::new();
    for name in &names {
        println!("kill -9 {name}");
        let writer = Writer::start(kubectl.clone());
        let answered = probe.answered();
        cluster.kill(name);
        eventually(&format!("the application answers without {name}"), || {
            let count = probe.answered() - answered;
            (count >= WITHOUT).then_some(()).ok_or_else(|| format!("{count}: {:?}", probe.failures()))
        });
        cluster.up().unwrap_or_else(|error| panic!("after kill -9 of {name}: {error}"));
        a_new_pod_runs(&kubectl, &format!("after-{name}-1"), "node1");
        a_new_pod_runs(&kubectl, &format!("after-{name}-2"), "node2");
        a_new_service_answers(cluster, &kubectl, &format!("after-{name}"));
        let acknowledged = writer.end();
        assert!(!acknowledged.is_empty(), "nothing was written while {name} died");
        let list = kubectl.get(&["configmaps"]).to_string();
        lost.extend(acknowledged.into_iter().filter(|one| !list.contains(&format!("\"{one}\""))));
        kubectl.run(&[
            "delete",
            "configmaps",
            "--field-selector=metadata.name!=page,metadata.name!=kube-root-ca.crt",
        ]);
        assert_eq!(pods(&kubectl), before, "kill -9 of {name} disturbed running pods");
    }
    assert_eq!(lost, Vec::<String>::new(), "acknowledged writes are lost");
    println!("{} answers", probe.answered());
    assert_eq!(probe.failures(), Vec::<String>::new(), "requests failed");
}

pub(crate) fn the_api_server_is_killed_while_it_opens_its_store(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let before = kubectl.get(&["deployments,services,jobs,pods"])["items"].as_array().map(Vec::len);
    let probe = Probe::start(&cluster.namespace("node2"), service_targets(&kubectl));
    for _ in 0..STARTS {
        let old = cluster.processes().get("kube-apiserver").copied();
        cluster.kill("kube-apiserver");
        let mut up = cluster.begin_up();
        let killed = eventually("the API server is started", || {
            let new = cluster.processes().get("kube-apiserver").copied();
            (new != old).then_some(new).ok_or_else(|| format!("{new:?}"))
        });
        assert!(killed.is_some(), "it is among the processes");
        // Anywhere between its first instruction and its first answer.
        std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..80_000)));
        cluster.kill("kube-apiserver");
        // It says that the server ended, or came too early to notice.
        drop(up.wait());
    }
    cluster.up().expect("the API server starts again");
    let after = kubectl.get(&["deployments,services,jobs,pods"])["items"].as_array().map(Vec::len);
    assert_eq!(after, before, "objects are lost");
    a_new_pod_runs(&kubectl, "after-starts", "node1");
    assert_eq!(probe.failures(), Vec::<String>::new(), "requests failed");
}

pub(crate) fn pods_go_with_their_deployment(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    kubectl.run(&["delete", "-f", "docs/examples"]);
    eventually("the pods are gone", || match pods(&kubectl) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}
