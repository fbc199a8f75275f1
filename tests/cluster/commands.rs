//! What people type, by our kubectl and by a stock one.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::IpAddr;
use std::process::{Child, Stdio};

use crate::cluster::{Cluster, Kubectl, eventually};
use crate::probe::{ask, inside};

/// The example's service: on its cluster address, and on a node's port.
pub(crate) fn service_targets(kubectl: &Kubectl) -> Vec<(IpAddr, u16)> {
    let spec = &kubectl.get(&["service", "web"])["spec"];
    let cluster_address = spec["clusterIP"].as_str().expect("address").parse().expect("an address");
    let node_port = spec["ports"][0]["nodePort"].as_u64().expect("node port");
    let node = "10.200.0.12".parse().expect("an address");
    vec![(cluster_address, 80), (node, u16::try_from(node_port).expect("a port"))]
}

pub(crate) fn the_example_runs(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let applied = kubectl.run(&["apply", "-f", "docs/examples"]);
    assert!(applied.contains("deployment.apps/web created"), "{applied}");
    kubectl.run(&["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"]);
    kubectl.run(&["wait", "--for=condition=Complete", "job/greet", "--timeout=60s"]);
    assert_eq!(kubectl.run(&["logs", "job/greet"]), "the job ran\n");
    let again = kubectl.run(&["apply", "-f", "docs/examples"]);
    assert!(again.contains("deployment.apps/web unchanged"), "{again}");
}

pub(crate) fn the_example_answers(cluster: &Cluster) {
    let targets = service_targets(&cluster.kubectl());
    for node in ["node1", "node2"] {
        for (address, port) in &targets {
            let text = inside(&cluster.namespace(node), || {
                eventually(&format!("{address}:{port} answers on {node}"), || ask(*address, *port))
            });
            assert!(text.contains("hello from Corten"), "{text}");
        }
    }
    let mut lookup = std::process::Command::new("nsenter");
    lookup.arg(format!("--net={}", cluster.namespace("node1").display()));
    lookup.args(["busybox", "nslookup", "web.default.svc.cluster.local", "10.96.0.10"]);
    let output = lookup.output().expect("run nslookup");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&targets[0].0.to_string()), "{text}");
}

/// A command that runs on, ended when it is dropped.
struct Running(Child);

impl Running {
    fn start(kubectl: &Kubectl, arguments: &[&str]) -> Self {
        let mut command = kubectl.command(arguments);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("run kubectl"))
    }

    /// Reads lines until one contains a text.
    fn until(&mut self, wanted: &str) -> String {
        let output = self.0.stdout.as_mut().expect("piped");
        let mut lines = BufReader::new(output).lines();
        let found = lines.find_map(|line| line.ok().filter(|line| line.contains(wanted)));
        found.unwrap_or_else(|| panic!("the command ended without {wanted:?}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) fn both_kubectls_work(cluster: &Cluster) {
    let ours = cluster.kubectl();
    everyday(&ours);
    let Some(stock) = cluster.stock_kubectl() else {
        println!("no stock kubectl on this machine: only ours was tried");
        return;
    };
    everyday(&stock);
    for arguments in [
        vec!["get", "nodes", "-o", "wide"],
        vec!["get", "pods", "-A"],
        vec!["get", "pods", "-A", "-o", "wide"],
        vec!["get", "deployments,replicasets,services,jobs,configmaps", "-o", "wide"],
        vec!["get", "events", "--field-selector=reason=NoSuchReason"],
        vec!["get", "pods", "-o", "name", "-l", "app=web"],
        vec!["get", "endpointslices", "--show-labels"],
        vec!["describe", "service", "web"],
        vec!["explain", "pod.spec.containers.ports"],
        vec!["explain", "deployment.spec", "--recursive"],
        vec!["rollout", "history", "deployment/web"],
        vec!["api-resources", "-o", "wide"],
    ] {
        same_text(&ours, &stock, &arguments);
    }
}

/// Both print the same, ages apart.
fn same_text(ours: &Kubectl, stock: &Kubectl, arguments: &[&str]) {
    eventually(&format!("both print the same on {arguments:?}"), || {
        let (a, b) = (without_ages(&ours.try_run(arguments)?), without_ages(&stock.try_run(arguments)?));
        if a == b { Ok(()) } else { Err(format!("\nours:\n{a}\nstock:\n{b}")) }
    });
}

/// Replaces ages, which differ from second to second, and runs of blanks, whose
/// length follows from them.
fn without_ages(text: &str) -> String {
    let is_age = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.ends_with(['s', 'm', 'h', 'd'])
            && word.chars().all(|c| c.is_ascii_digit() || "smhd".contains(c))
    };
    let line = |line: &str| {
        let words = line.split_whitespace().map(|word| if is_age(word) { "AGE" } else { word });
        words.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// What everybody does in their first hour.
fn everyday(kubectl: &Kubectl) {
    let pod = kubectl.run(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"]);
    execs(kubectl, &pod);
    copies(kubectl, &pod);
    forwards(kubectl, &pod);
    watches_and_follows(kubectl);
    let text = kubectl.run(&["explain", "pod.spec"]);
    assert!(text.contains("KIND:       Pod") && text.contains("containers"), "{text}");
    let text = without_ages(&kubectl.run(&["describe", "pod", &pod]));
    for wanted in ["Name: web-", "Controlled By: ReplicaSet/web-", "\nReady True\n", "Container started"] {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
    // Last: it may take the pod.
    scales(kubectl);
}

fn execs(kubectl: &Kubectl, pod: &str) {
    let output = kubectl.output(&["exec", pod, "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("err\n"));
    // A terminal, as `script` makes it.
    let line = kubectl.command(&["exec", "-it", pod, "--", "tty"]);
    let program = line.get_program().to_string_lossy().into_owned();
    let mut script = std::process::Command::new("script");
    script.envs(line.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.args(["-qec", &format!("{program} exec -it {pod} -- tty"), "/dev/null"]).stdin(Stdio::null());
    let output = script.output().expect("run script");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("/dev/pts/"), "{text}");
}

fn copies(kubectl: &Kubectl, pod: &str) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let back = folder.path().join("back");
    kubectl.run(&["cp", "Cargo.lock", &format!("{pod}:/tmp/there")]);
    kubectl.run(&["cp", &format!("{pod}:/tmp/there"), back.to_str().expect("text")]);
    let original = std::fs::read(crate::cluster::workspace().join("Cargo.lock")).expect("the file");
    assert!(std::fs::read(back).expect("the copy") == original, "the copy differs");
}

fn forwards(kubectl: &Kubectl, pod: &str) {
    let mut forward = Running::start(kubectl, &["port-forward", pod, ":8080"]);
    let line = forward.until("Forwarding from 127.0.0.1:");
    let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).expect("a port");
    let port = port.parse().expect("a number");
    for _ in 0..3 {
        let text = ask(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port).expect("an answer");
        assert!(text.contains("hello from Corten"), "{text}");
    }
}

fn watches_and_follows(kubectl: &Kubectl) {
    let mut watch = Running::start(kubectl, &["get", "configmaps", "-w"]);
    watch.until("page");
    let mut follow = Running::start(kubectl, &["logs", "-f", "job/greet"]);
    kubectl.run(&["create", "configmap", "watched"]);
    watch.until("watched");
    kubectl.run(&["delete", "configmap", "watched"]);
    let mut text = String::new();
    follow.0.stdout.as_mut().expect("piped").read_to_string(&mut text).expect("read");
    assert_eq!(text, "the job ran\n", "it ends with the container");
}

fn scales(kubectl: &Kubectl) {
    for replicas in ["5", "3"] {
        kubectl.run(&["scale", "deployment/web", &format!("--replicas={replicas}")]);
        let text = kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        assert!(text.contains("deployment \"web\" successfully rolled out"), "{text}");
    }
    eventually("surplus pods are gone", || {
        let pods = kubectl.run(&["get", "pods", "-l", "app=web", "-o", "name"]);
        (pods.lines().count() == 3).then_some(()).ok_or(pods)
    });
}
