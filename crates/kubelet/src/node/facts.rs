//! Facts about the machine, read from the kernel.

use crate::cgroups::Version;
use crate::runtime::spec::{ALL_CAPABILITIES, Machine};
use std::path::Path;

/// Memory of the machine, in bytes.
#[must_use]
pub fn memory() -> u64 {
    meminfo("MemTotal")
}

/// Memory that could be given to a new process, in bytes.
#[must_use]
pub fn memory_available() -> u64 {
    meminfo("MemAvailable")
}

fn meminfo(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or_default()
        * 1024
}

/// The machine, as container specifications depend on it.
#[must_use]
pub fn machine(cgroups: Version, root: &Path) -> Machine {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    let capabilities: Vec<&'static str> = ALL_CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask & (1 << bit) != 0)
        .map(|(_, name)| *name)
        .collect();
    // Without the capability a process can only be made more willing to die.
    let own =
        std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok());
    let lowest = if capabilities.contains(&"CAP_SYS_RESOURCE") { -1000 } else { own.unwrap_or(0) };
    Machine {
        cgroups,
        memory: memory(),
        capabilities,
        lowest_oom_score_adj: lowest,
        seccomp_profiles: root.join("seccomp"),
    }
}

/// The machine's own addresses: that of the default route.
#[must_use]
pub fn addresses() -> Vec<std::net::IpAddr> {
    // Connecting a datagram socket sends nothing; it only chooses a route.
    let local = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let found = local().or_else(|| {
        let own = nix::ifaddrs::getifaddrs().ok()?;
        own.filter_map(|interface| Some(std::net::IpAddr::V4(interface.address?.as_sockaddr_in()?.ip())))
            .find(|address| !address.is_loopback())
    });
    found.into_iter().collect()
}

/// Size and free space of the file system that holds a path, in bytes.
#[must_use]
pub fn disk(path: &Path) -> (u64, u64) {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("/"));
    nix::sys::statvfs::statvfs(existing)
        .map_or((0, 0), |fs| (fs.blocks() * fs.fragment_size(), fs.blocks_available() * fs.fragment_size()))
}

/// Whether the machine runs out of process numbers.
#[must_use]
pub fn processes_are_short() -> bool {
    let number =
        |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let limit = number("/proc/sys/kernel/pid_max").unwrap_or(u64::MAX);
    let loadavg = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let now = loadavg.split(['/', ' ']).nth(4).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    now > limit / 10 * 9
}

/// `status.nodeInfo`.
#[must_use]
pub fn node_info(containerd: &str) -> serde_json::Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let os = read("/etc/os-release");
    let image = os
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or_default()
        .trim_matches('"')
        .to_owned();
    let machine = read("/etc/machine-id");
    let uuid = read("/sys/class/dmi/id/product_uuid");
    serde_json::json!({
        "architecture": crate::images::store::architecture(),
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "containerRuntimeVersion": format!("containerd://{containerd}"),
        "kernelVersion": read("/proc/sys/kernel/osrelease"),
        "kubeProxyVersion": "",
        "kubeletVersion": format!("v1.36.0-corten.{}", env!("CARGO_PKG_VERSION")),
        "machineID": machine.clone(),
        "operatingSystem": "linux",
        "osImage": image,
        "systemUUID": if uuid.is_empty() { machine } else { uuid },
    })
}
