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
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok());
    let lowest = if capabilities.contains(&"CAP_SYS_RESOURCE") { -1000 } else { own.unwrap_or(0) };
    Machine {
        cgroups,
        memory: memory(),
        capabilities,
        lowest_oom_score_adj: lowest,
        seccomp_profiles: root.join("seccomp"),
    }
}
