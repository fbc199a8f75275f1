//! The network of the hosts: a bridge in a namespace without a route out.

use std::process::Command;

use anyhow::{Context as _, ensure};

/// The bridge's name.
pub(crate) const BRIDGE: &str = "fabric";
/// The bridge's own address; to hosts, a way for everything that leads nowhere.
pub(crate) const GATEWAY: &str = "10.211.0.254";

/// The namespace; gone when dropped.
pub(crate) struct Fabric(String);

fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("run ip")?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "ip {arguments}: {said}");
    Ok(())
}

impl Fabric {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let name = format!("corten-systemd-{}", std::process::id());
        ip(&format!("netns add {name}"))?;
        let fabric = Self(name);
        let name = &fabric.0;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} link add {BRIDGE} type bridge"))?;
        ip(&format!("-n {name} address add {GATEWAY}/24 dev {BRIDGE}"))?;
        ip(&format!("-n {name} link set {BRIDGE} up"))?;
        Ok(fabric)
    }

    /// The namespace's name.
    pub(crate) fn namespace(&self) -> &str {
        &self.0
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("netns delete {}", self.0)) {
            eprintln!("cannot remove the hosts' network: {error:#}");
        }
    }
}
