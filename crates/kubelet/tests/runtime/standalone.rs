//! The daemon itself, with manifests and nothing else.

use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::json;

use crate::fake::Fake;
use crate::machine::{IMAGE, Machine, PATIENCE, run, until};

fn daemon(machine: &Machine) -> std::process::Child {
    let flag = |name: &str, path: &str| format!("--{name}={}", machine.path(path).display());
    let log = std::fs::OpenOptions::new().create(true).append(true).open(machine.path("kubelet.log"));
    Command::new(env!("CARGO_BIN_EXE_kubelet"))
        .args([
            flag("pod-manifest-path", "manifests"),
            flag("root-dir", "kubelet"),
            flag("state-dir", "state"),
            flag("pod-logs-dir", "logs"),
            flag("cni-conf-dir", "cni/net.d"),
            flag("cni-cache-dir", "cni/cache"),
            flag("container-runtime-endpoint", "c.sock"),
            format!("--containerd-namespace={}", machine.namespace()),
            format!("--cgroup-root={}", machine.cgroup_root()),
            "--hostname-override=alone".to_owned(),
            "--pod-cidr=10.88.7.0/24".to_owned(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("log"))
        .spawn()
        .expect("the kubelet starts")
}

fn stop(mut daemon: std::process::Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signal");
    assert!(daemon.wait().expect("wait").success(), "the kubelet ends as asked");
}

async fn alone(machine: &Machine) {
    let tools = machine.tools(&Arc::new(Fake::default())).await;
    std::fs::create_dir(machine.path("manifests")).expect("mkdir");
    let file = machine.path("manifests/a.yaml");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "uid": "by-hand"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "c", "image": IMAGE, "command": ["sleep", "1000"]}]}});
    std::fs::write(&file, pod.to_string()).expect("write");
    let first = daemon(machine);
    let running = async || {
        let observed = tools.runtime.observe("by-hand").await.ok()?;
        observed.latest("c").filter(|record| record.is_running()).map(|record| record.id.clone())
    };
    let id = until("the pod", running).await;
    stop(first);
    assert_eq!(running().await.as_ref(), Some(&id), "a container outlives the kubelet");
    let second = daemon(machine);
    std::fs::remove_file(&file).expect("remove");
    until("the end", async || tools.runtime.pods().await.ok()?.is_empty().then_some(())).await;
    until("the directory's end", async || (!machine.path("kubelet/pods/by-hand").exists()).then_some(()))
        .await;
    stop(second);
    machine.assert_clean(&tools).await;
    println!("stood alone within {PATIENCE:?}");
}

#[test]
fn a_node_without_an_api_server() {
    run(async |machine| alone(machine).await);
}
