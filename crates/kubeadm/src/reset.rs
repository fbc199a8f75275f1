//! `kubeadm reset`: takes everything of a cluster from this host again, whatever
//! state it is in. What others own (containerd, its images, other CNI
//! configurations, other rules) stays.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::host::{CONTROL_PLANE_KUBECONFIGS, Host, NODE_KUBECONFIGS};
use crate::leftovers::{remove_cgroups, unmount_below};
use crate::{systemd, units};

/// The namespace of pods' containers in containerd.
const NAMESPACE: &str = "k8s.io";
/// The rules of kube-proxy.
const RULES: [&str; 2] = ["inet", "corten"];
/// The protocol number that kube-proxy's routes carry.
const ROUTES: &str = "199";
/// The bridge of the pod network, where we configured it.
const BRIDGE: &str = "cni0";
const OWN_CNI_CONFIGURATION: &str = "10-corten.conflist";

/// What could not be removed, if anything.
pub type Troubles = Vec<String>;

/// Removes everything; goes on after a failure, and returns all of them.
#[must_use]
pub fn reset(host: &Host, say: &dyn Fn(&str)) -> Troubles {
    let mut troubles = Troubles::new();
    let mut step = |text: &str, outcome: anyhow::Result<()>| {
        say(&format!("[reset] {text}"));
        if let Err(error) = outcome {
            troubles.push(format!("{text}: {error:#}"));
        }
    };
    step("Stopping and removing the daemons' units", systemd::remove(&host.units, &units::all_names()));
    step("Removing containers", remove_containers());
    step("Removing rules, routes and links of the pod network", remove_network());
    for folder in [&host.kubelet, &host.kubelet_state] {
        step(&format!("Unmounting what is mounted below {}", folder.display()), unmount_below(folder));
    }
    remove_cgroups("/kubepods");
    for folder in folders(host) {
        step(&format!("Deleting {}", folder.display()), remove(&folder));
    }
    for file in files(host) {
        step(&format!("Deleting {}", file.display()), remove(&file));
    }
    for folder in [&host.pki, &host.configuration] {
        // Only if nothing of others is in it.
        let removed = fs::remove_dir(folder);
        if removed.is_ok() {
            step(&format!("Deleting {}", folder.display()), Ok(()));
        }
    }
    troubles
}

fn folders(host: &Host) -> Vec<std::path::PathBuf> {
    let store = host.data.parent().unwrap_or(&host.data).to_owned();
    let folders = [&store, &host.kubelet, &host.kubelet_state, &host.pod_logs, &host.cni_cache];
    folders.into_iter().filter(|folder| folder.exists()).cloned().collect()
}

fn files(host: &Host) -> Vec<std::path::PathBuf> {
    let keys = ["ca", "apiserver", "apiserver-kubelet-client", "front-proxy-ca", "front-proxy-client"];
    let mut files: Vec<_> = keys
        .iter()
        .flat_map(|name| ["crt", "key"].map(|end| host.pki.join(format!("{name}.{end}"))))
        .collect();
    files.extend(["sa.key", "sa.pub"].map(|name| host.pki.join(name)));
    files.extend(CONTROL_PLANE_KUBECONFIGS.iter().chain(&NODE_KUBECONFIGS).map(|name| host.kubeconfig(name)));
    files.push(host.cni_configuration.join(OWN_CNI_CONFIGURATION));
    files.retain(|file| file.exists());
    files
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Runs a program and returns what it printed; `None` where it is not there or fails.
fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    anyhow::ensure!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
    Ok(())
}

fn remove_containers() -> anyhow::Result<()> {
    let list = |what: &str| ask("ctr", &["-n", NAMESPACE, what, "list", "-q"]).unwrap_or_default();
    for task in list("tasks").lines() {
        run("ctr", &["-n", NAMESPACE, "tasks", "rm", "--force", task])?;
    }
    for container in list("containers").lines() {
        run("ctr", &["-n", NAMESPACE, "containers", "rm", container])?;
    }
    Ok(())
}

fn remove_network() -> anyhow::Result<()> {
    if ask("nft", &["list", "table", RULES[0], RULES[1]]).is_some() {
        run("nft", &["delete", "table", RULES[0], RULES[1]])?;
    }
    for family in ["-4", "-6"] {
        if ask("ip", &[family, "route", "show", "proto", ROUTES])
            .is_some_and(|routes| !routes.trim().is_empty())
        {
            run("ip", &[family, "route", "flush", "proto", ROUTES])?;
        }
    }
    if ask("ip", &["link", "show", BRIDGE]).is_some() {
        run("ip", &["link", "delete", BRIDGE])?;
    }
    Ok(())
}
