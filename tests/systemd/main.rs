//! A cluster on two hosts with systemd: `kubeadm init` on one, `join` on the
//! other, pods and a service over both, daemons that are killed and come back,
//! and `reset` that leaves nothing.
//!
//! The hosts are containers of `systemd-nspawn`, booted from overlays of one
//! Debian base, in a network namespace without a route out. Needs root, and the
//! packages of `deploy/install-packages`.

mod base;
mod fabric;
mod machine;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fabric::Fabric;
use machine::Machine;

const CONTROL_PLANE: [&str; 4] = ["kube-apiserver", "kube-scheduler", "kube-controller-manager", "kube-dns"];
const NODE: [&str; 2] = ["kubelet", "kube-proxy"];
const IMAGES: &str = "/srv/archives";
const APPLICATION: &str = include_str!("application.yaml");

/// Looks until something holds.
fn wait(what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let started = now();
    while !holds().unwrap_or(false) {
        if started.elapsed() > Duration::from_secs(90) {
            return match holds() {
                Ok(_) => bail!("waited in vain: {what}"),
                Err(error) => Err(error).with_context(|| format!("waited in vain: {what}")),
            };
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "real machines have real time")]
fn now() -> Instant {
    Instant::now()
}

fn kubectl(machine: &Machine, arguments: &str) -> anyhow::Result<String> {
    machine.run(&format!("kubectl --kubeconfig=/etc/kubernetes/admin.conf {arguments}"))
}

fn is_ready(machine: &Machine, node: &str) -> anyhow::Result<bool> {
    let nodes = kubectl(machine, "get nodes --no-headers")?;
    Ok(nodes.lines().any(|line| {
        let mut cells = line.split_whitespace();
        cells.next() == Some(node) && cells.next() == Some("Ready")
    }))
}

/// The daemon runs, has told systemd that it is ready, and this is its process.
fn running(machine: &Machine, daemon: &str) -> anyhow::Result<String> {
    let shown = machine.run(&format!("systemctl show -p Type,ActiveState,SubState,MainPID {daemon}"))?;
    let value =
        |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or("");
    let state = (value("Type"), value("ActiveState"), value("SubState"));
    ensure!(state == ("notify", "active", "running"), "{daemon} on {}: {state:?}", machine.name());
    Ok(value("MainPID").to_owned())
}

/// Everything that a cluster leaves on a host, as text.
fn traces(machine: &Machine) -> anyhow::Result<String> {
    machine.run(
        "for path in /etc/kubernetes /var/lib/kubelet /var/lib/corten /var/lib/cni /run/kubelet /var/log/pods; do \
           [ ! -e $path ] || echo file $path; done; \
         ls /etc/systemd/system /etc/cni/net.d 2>/dev/null | sed 's/^/unit /'; \
         find /etc/systemd/system/*.wants -name 'kube*' | sed 's/^/enabled /'; \
         cut -d' ' -f2 /proc/self/mounts | sort | sed 's/^/mount /'; \
         ip -o link | cut -d: -f2 | cut -d@ -f1 | sort | sed 's/^/link /'; \
         ip route | sort | sed 's/^/route /'; \
         nft list tables | sed 's/^/rules /'; \
         find /sys/fs/cgroup -name 'kubepods*' -o -name 'kube*.service' | sed 's/^/cgroup /'; \
         ctr -n k8s.io containers list -q | sed 's/^/container /'; \
         ps -eo comm= | grep -E 'kube|containerd-shim' | sed 's/^/process /' || true",
    )
}

struct Cluster {
    hosts: [Machine; 2],
}

impl Cluster {
    fn init(&self) -> anyhow::Result<()> {
        let [first, _] = &self.hosts;
        let said = first.run(&format!("kubeadm init --image-archives {IMAGES}"))?;
        ensure!(said.contains("--discovery-token-ca-cert-hash sha256:"), "no join command in:\n{said}");
        ensure!(is_ready(first, first.name())?, "init ended before its node was ready");
        let mut before = Vec::new();
        for daemon in CONTROL_PLANE.iter().chain(&NODE) {
            before.push(running(first, daemon)?);
        }
        let again = first.run("kubeadm init")?;
        ensure!(again.contains("already; nothing was changed"), "a second init said:\n{again}");
        for (daemon, process) in CONTROL_PLANE.iter().chain(&NODE).zip(before) {
            ensure!(running(first, daemon)? == process, "a second init restarted {daemon}");
        }
        Ok(())
    }

    /// The join command, as words that can be changed.
    fn join_command(&self) -> anyhow::Result<String> {
        let said = self.hosts[0].run("kubeadm token create --print-join-command")?;
        Ok(format!("{} --image-archives {IMAGES}", said.trim()))
    }

    fn refuses_strangers(&self) -> anyhow::Result<()> {
        let [_, second] = &self.hosts;
        let command = self.join_command()?;
        let (_, digest) = command.split_once("sha256:").context("a digest")?;
        let digest = &digest[..64];
        let other = command.replace(digest, &digest.chars().rev().collect::<String>());
        let error = second.refused(&other)?;
        ensure!(error.contains("no authority with a digest that was given"), "another cluster: {error}");
        let (_, token) = command.split_once("--token ").context("a token")?;
        let other = command.replace(&token[..23], "abcdef.0123456789abcdef");
        let error = second.refused(&other)?;
        ensure!(error.contains("does not know the token"), "another token: {error}");
        second
            .run("test ! -e /etc/kubernetes && test ! -e /var/lib/kubelet")
            .context("a join that failed left files")?;
        Ok(())
    }

    fn join(&self) -> anyhow::Result<()> {
        let [first, second] = &self.hosts;
        second.run(&self.join_command()?)?;
        for host in &self.hosts {
            ensure!(is_ready(first, host.name())?, "join ended before {} was ready", host.name());
        }
        for daemon in NODE {
            running(second, daemon)?;
        }
        Ok(())
    }

    /// A pod on each host, and a service that is answered by both from both.
    fn serves(&self) -> anyhow::Result<()> {
        let [first, _] = &self.hosts;
        first.write("/root/application.yaml", APPLICATION)?;
        kubectl(first, "apply -f /root/application.yaml")?;
        self.answers()?;
        let name = "web.default.svc.cluster.local";
        for host in &self.hosts {
            let answer = host.run(&format!("busybox nslookup {name} 10.96.0.10"))?;
            ensure!(answer.contains(name), "{}: {answer}", host.name());
        }
        Ok(())
    }

    fn answers(&self) -> anyhow::Result<()> {
        let [first, _] = &self.hosts;
        wait("a running pod on each host", || {
            let pods = kubectl(first, "get pods -l app=web -o wide --no-headers")?;
            let runs = |host: &Machine| {
                pods.lines().any(|line| {
                    line.contains("Running") && line.contains(" 1/1 ") && line.contains(host.name())
                })
            };
            Ok(self.hosts.iter().all(runs))
        })?;
        let address = kubectl(first, "get service web -o jsonpath={.spec.clusterIP}")?;
        for host in &self.hosts {
            let mut seen = std::collections::BTreeSet::new();
            wait(&format!("answers of both pods, asked from {}", host.name()), || {
                seen.insert(host.run(&format!("busybox wget -q -O - http://{address}/"))?.trim().to_owned());
                Ok(self.hosts.iter().all(|host| seen.contains(host.name())))
            })?;
        }
        // The API server calls each kubelet, and verifies whom it reaches.
        let pods = kubectl(first, "get pods -l app=web -o name")?;
        for pod in pods.lines() {
            let log = kubectl(first, &format!("logs {}", pod.trim_start_matches("pod/")))?;
            ensure!(log.contains("serving"), "the log of {pod}: {log:?}");
        }
        Ok(())
    }

    fn heals(&self) -> anyhow::Result<()> {
        let [first, second] = &self.hosts;
        let containers = second.run("ctr -n k8s.io tasks list | sort")?;
        ensure!(containers.contains("RUNNING"), "no container runs on {}: {containers}", second.name());
        let killed = [
            (first, "kube-controller-manager"),
            (first, "kube-apiserver"),
            (second, "kubelet"),
            (second, "kube-proxy"),
        ];
        for (host, daemon) in killed {
            let before = running(host, daemon)?;
            host.run(&format!("systemctl kill --signal=KILL {daemon}"))?;
            wait(&format!("{daemon} comes back"), || Ok(running(host, daemon)? != before))?;
        }
        second.run("systemctl stop kubelet")?;
        let without = second.run("ctr -n k8s.io tasks list | sort")?;
        ensure!(
            without == containers,
            "containers must live on without a kubelet:\n{containers}\nbecame\n{without}"
        );
        second.run("systemctl start kubelet")?;
        for host in &self.hosts {
            wait(&format!("{} is ready again", host.name()), || is_ready(first, host.name()))?;
        }
        self.answers()
    }

    /// What runs again by itself after a boot is what was enabled.
    fn boots_again(&self) -> anyhow::Result<()> {
        let [first, _] = &self.hosts;
        for host in self.hosts.iter().rev() {
            host.reboot()?;
        }
        for daemon in CONTROL_PLANE.iter().chain(&NODE) {
            running(first, daemon)?;
        }
        for host in &self.hosts {
            wait(&format!("{} is ready again", host.name()), || is_ready(first, host.name()))?;
        }
        self.answers()
    }

    fn renews_certificates(&self) -> anyhow::Result<()> {
        let [first, second] = &self.hosts;
        let digest = "sha256sum /etc/kubernetes/*.conf /var/lib/kubelet/pki/* | sort -k2";
        for host in &self.hosts {
            let before = host.run(digest)?;
            let said = host.run("kubeadm certs renew all")?;
            ensure!(said.contains("certificate of kubelet-serving renewed"), "{}: {said}", host.name());
            ensure!(before != host.run(digest)?, "{} has the same certificates", host.name());
            let none = host.run("kubeadm certs renew all --if-expires-within=720h")?;
            ensure!(none.contains("no certificate is due"), "{}: {none}", host.name());
            // What systemd runs each day is what was just run.
            host.run("systemctl start kubeadm-certs-renew.service")?;
            host.run("systemctl is-active kubeadm-certs-renew.timer")?;
        }
        for daemon in CONTROL_PLANE.iter().chain(&NODE) {
            running(first, daemon)?;
        }
        second.run("systemctl restart kubelet")?;
        wait("the node is ready with its new certificates", || is_ready(first, second.name()))?;
        self.answers()
    }

    fn resets(&self, before: &[String]) -> anyhow::Result<()> {
        let [first, second] = &self.hosts;
        let reset = |host: &Machine, before: &String| {
            host.run("kubeadm reset --force")?;
            let after = traces(host)?;
            ensure!(after == *before, "reset of {} leaves:\n{}", host.name(), difference(before, &after));
            Ok(())
        };
        reset(second, &before[1])?;
        kubectl(first, &format!("delete node {}", second.name()))?;
        self.join().context("join again after a reset")?;
        reset(second, &before[1])?;
        reset(first, &before[0])
    }
}

fn difference(before: &str, after: &str) -> String {
    let only = |one: &str, other: &str, sign: &str| -> String {
        one.lines()
            .filter(|line| !other.lines().any(|known| known == *line))
            .map(|line| format!("{sign} {line}\n"))
            .collect()
    };
    only(after, before, "+") + &only(before, after, "-")
}

fn programs() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find this test's own path")?;
    let folder = own.ancestors().nth(2).context("the folder of the programs")?.to_owned();
    for name in CONTROL_PLANE.iter().chain(&NODE).chain(&["kubeadm", "kubectl"]) {
        ensure!(
            folder.join(name).exists(),
            "{name} is not in {}; build it: cargo build --bins",
            folder.display()
        );
    }
    Ok(folder)
}

fn make_image(archive: &Path) -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/make-image");
    let made = Command::new(script).arg("docker.io/library/busybox:latest").arg(archive).status();
    ensure!(made.context("run deploy/make-image")?.success(), "deploy/make-image failed");
    Ok(())
}

fn scenario(cluster: &Cluster) -> anyhow::Result<()> {
    let mut before = Vec::new();
    for host in &cluster.hosts {
        host.wait_until_booted()?;
        before.push(traces(host)?);
    }
    let step = |name: &str, outcome: anyhow::Result<()>| {
        eprintln!("{name}: {}", if outcome.is_ok() { "ok" } else { "failed" });
        outcome.with_context(|| name.to_owned())
    };
    step("init", cluster.init())?;
    step("strangers are refused", cluster.refuses_strangers())?;
    step("join", cluster.join())?;
    step("pods and a service", cluster.serves())?;
    step("killed daemons come back", cluster.heals())?;
    step("hosts boot again", cluster.boots_again())?;
    step("certificates are renewed", cluster.renews_certificates())?;
    step("reset leaves nothing", cluster.resets(&before))
}

#[test]
fn a_cluster_on_two_hosts() -> anyhow::Result<()> {
    let programs = programs()?;
    let base = base::ensure()?;
    let fabric = Fabric::new()?;
    let archives = tempfile::tempdir().context("make a temporary folder")?;
    make_image(&archives.path().join("busybox.tar"))?;
    let boot = |number| {
        let binds = [(programs.as_path(), "/opt/corten"), (archives.path(), IMAGES)];
        Machine::boot(number, &base, &fabric, &binds)
    };
    let cluster = Cluster { hosts: [boot(1)?, boot(2)?] };
    let outcome = scenario(&cluster);
    if outcome.is_err() {
        for host in &cluster.hosts {
            eprintln!("==== the last words of {}:\n{}", host.name(), host.last_words());
        }
    }
    outcome
}
