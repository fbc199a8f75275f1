//! The profile that `RuntimeDefault` stands for.
//!
//! It names the system calls that a container must not make, rather than those
//! that it may: a new kernel's harmless calls work at once, and what is refused
//! is short enough to be reviewed. Calls that a capability governs are allowed
//! together with the capability.

use serde_json::{Value, json};

/// Calls that nothing in a container needs.
const NEVER: &[&str] = &[
    "add_key",
    "keyctl",
    "request_key",
    "get_mempolicy",
    "mbind",
    "migrate_pages",
    "move_pages",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "kcmp",
    "nfsservctl",
    "personality",
    "pivot_root",
    "swapoff",
    "swapon",
    "sysfs",
    "_sysctl",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "lookup_dcookie",
    "vmsplice",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
];

/// Calls that need a capability: allowed with it.
const WITH_CAPABILITY: &[(&str, &[&str])] = &[
    (
        "CAP_SYS_ADMIN",
        &[
            "mount",
            "umount",
            "umount2",
            "unshare",
            "setns",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "fanotify_init",
        ],
    ),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
    ("CAP_SYS_BOOT", &["reboot", "kexec_load", "kexec_file_load"]),
    ("CAP_SYS_MODULE", &["init_module", "finit_module", "delete_module"]),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    ("CAP_SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64", "clock_adjtime"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_SYS_PTRACE", &["process_vm_readv", "process_vm_writev", "process_madvise"]),
];

/// Flags of `clone` that make namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The profile for a container with these capabilities.
#[must_use]
pub fn runtime_default(capabilities: &[&str]) -> Value {
    let mut refused: Vec<&str> = NEVER.to_vec();
    for (capability, calls) in WITH_CAPABILITY {
        if !capabilities.contains(capability) {
            refused.extend(*calls);
        }
    }
    let mut rules = vec![json!({"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM})];
    if !capabilities.contains(&"CAP_SYS_ADMIN") {
        // Each flag by itself: the filter compares one masked value at a time.
        for bit in (0..32).map(|bit| 1_u64 << bit).filter(|flag| flag & NEW_NAMESPACES != 0) {
            rules.push(json!({
                "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM,
                "args": [{"index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ"}],
            }));
        }
        // Its flags are behind a pointer; libraries fall back to clone.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": architectures(),
        "syscalls": rules,
    })
}

fn architectures() -> &'static [&'static str] {
    if cfg!(target_arch = "x86_64") {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    } else {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_opens_its_calls() {
        let refuses = |capabilities: &[&str], call: &str| {
            runtime_default(capabilities)["syscalls"][0]["names"]
                .as_array()
                .expect("names")
                .iter()
                .any(|name| name == call)
        };
        assert!(refuses(&[], "mount") && refuses(&["CAP_SYS_TIME"], "mount"));
        assert!(!refuses(&["CAP_SYS_ADMIN"], "mount"));
        assert!(refuses(&["CAP_SYS_ADMIN"], "add_key"));
    }
}
