//! What a group uses, read from its files.

use std::path::{Path, PathBuf};

use super::{Cgroups, Version};

/// Usage of a group and everything below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time so far, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Memory charged, in bytes.
    pub memory: u64,
    /// Memory without the page cache that can be dropped at once.
    pub working_set: u64,
    /// Anonymous memory.
    pub resident: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that needed the disk.
    pub major_page_faults: u64,
    /// Processes and threads.
    pub tasks: u64,
    /// How often memory ran out and a process was ended.
    pub oom_kills: u64,
}

impl Cgroups {
    fn controller(&self, controller: &str, group: &str) -> PathBuf {
        let group = group.trim_start_matches('/');
        match self.version {
            Version::V1 => self.mount.join(controller).join(group),
            Version::V2 => self.mount.join(group),
        }
    }

    /// What a group uses; `None` if there is no such group.
    #[must_use]
    pub fn usage(&self, group: &str) -> Option<Usage> {
        let memory = self.controller("memory", group);
        if !memory.is_dir() {
            return None;
        }
        Some(match self.version {
            Version::V1 => {
                let cpu = self.controller("cpuacct", group);
                v1(&cpu, &memory, &self.controller("pids", group))
            }
            Version::V2 => v2(&memory),
        })
    }

    /// Free memory of the whole machine as the kernel counts it for groups: the
    /// working set of everything.
    #[must_use]
    pub fn root_usage(&self) -> Usage {
        self.usage("").unwrap_or_default()
    }
}

fn number(directory: &Path, file: &str) -> u64 {
    std::fs::read_to_string(directory.join(file))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_default()
}

/// A value out of a file of `name value` lines.
fn field(directory: &Path, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(directory.join(file)).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or_default()
}

fn v1(cpu: &Path, memory: &Path, pids: &Path) -> Usage {
    let charged = number(memory, "memory.usage_in_bytes");
    Usage {
        cpu_nanoseconds: number(cpu, "cpuacct.usage"),
        memory: charged,
        working_set: charged.saturating_sub(field(memory, "memory.stat", "total_inactive_file")),
        resident: field(memory, "memory.stat", "total_rss"),
        page_faults: field(memory, "memory.stat", "total_pgfault"),
        major_page_faults: field(memory, "memory.stat", "total_pgmajfault"),
        tasks: number(pids, "pids.current"),
        oom_kills: field(memory, "memory.oom_control", "oom_kill"),
    }
}

fn v2(group: &Path) -> Usage {
    let charged = number(group, "memory.current");
    Usage {
        cpu_nanoseconds: field(group, "cpu.stat", "usage_usec") * 1000,
        memory: charged,
        working_set: charged.saturating_sub(field(group, "memory.stat", "inactive_file")),
        resident: field(group, "memory.stat", "anon"),
        page_faults: field(group, "memory.stat", "pgfault"),
        major_page_faults: field(group, "memory.stat", "pgmajfault"),
        tasks: number(group, "pids.current"),
        oom_kills: field(group, "memory.events", "oom_kill"),
    }
}
