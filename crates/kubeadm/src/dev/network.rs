//! The network of a development cluster: a namespace with a bridge for the
//! control plane, one namespace for each node, and no way out of them.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::Layout;

const BRIDGE: &str = "fabric";

/// Makes what is missing.
pub(super) fn make(layout: &Layout) -> anyhow::Result<()> {
    let fabric = layout.fabric();
    if namespace_is_missing(&fabric) {
        ip(&["netns", "add", &fabric])?;
    }
    if ip(&["-n", &fabric, "link", "show", BRIDGE]).is_err() {
        ip(&["-n", &fabric, "link", "set", "lo", "up"])?;
        ip(&["-n", &fabric, "link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["-n", &fabric, "addr", "add", &format!("{}/24", layout.control_address()), "dev", BRIDGE])?;
        ip(&["-n", &fabric, "link", "set", BRIDGE, "up"])?;
        // Whatever asks for a pod or service here must not wander.
        for range in [layout.pod_range(), layout.service_range()] {
            ip(&["-n", &fabric, "route", "add", "unreachable", range])?;
        }
    }
    for node in layout.nodes() {
        make_node(layout, &node.name, &format!("{}/24", node.address))?;
    }
    Ok(())
}

fn make_node(layout: &Layout, node: &str, address: &str) -> anyhow::Result<()> {
    let (fabric, namespace) = (layout.fabric(), layout.namespace(node));
    if namespace_is_missing(&namespace) {
        ip(&["netns", "add", &namespace])?;
    }
    if ip(&["-n", &namespace, "link", "show", "eth0"]).is_ok() {
        return Ok(());
    }
    ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
    ip(&["-n", &fabric, "link", "add", node, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
    ip(&["-n", &fabric, "link", "set", node, "master", BRIDGE, "up"])?;
    ip(&["-n", &namespace, "addr", "add", address, "dev", "eth0"])?;
    ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
    // Service addresses need a route to be translated; it ends at the control plane.
    ip(&["-n", &namespace, "route", "add", "default", "via", &layout.control_address().to_string()])
}

/// Removes the namespaces, and with them all links.
pub(super) fn remove(layout: &Layout) -> anyhow::Result<()> {
    let own = format!("{}-", layout.fabric());
    for namespace in namespaces() {
        if namespace == layout.fabric() || namespace.starts_with(&own) {
            ip(&["netns", "delete", &namespace])?;
        }
    }
    Ok(())
}

fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn namespace_is_missing(name: &str) -> bool {
    !namespaces().iter().any(|one| one == name)
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("run ip")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
