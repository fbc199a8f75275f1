//! The OCI runtime specification of a container, as a pure function of the pod,
//! the image and what the kubelet prepared.
//!
//! It is written as JSON, which is what it is at rest, and starts from nothing:
//! the type's default value elsewhere carries odd limits and names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use api::types::core::v1::{Capabilities, Container, Pod, SeccompProfile, SecurityContext};
use serde_json::{Value, json};

use super::containerd::RuntimeError;
use super::seccomp;
use super::users::User;
use crate::cgroups::{Version, limits};
use crate::pod;

/// What an image says about the process to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Environment, `NAME=value`.
    pub environment: Vec<String>,
    /// Entry point.
    pub entrypoint: Vec<String>,
    /// Arguments.
    pub command: Vec<String>,
    /// User, with an optional group after a colon.
    pub user: String,
    /// Working directory.
    pub working_dir: String,
    /// Signal that stops it.
    pub stop_signal: String,
}

/// A mount from the host into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMount {
    /// Path in the container.
    pub target: String,
    /// Path on the host.
    pub source: PathBuf,
    /// Not writable.
    pub is_read_only: bool,
    /// Kernel's word for propagation: `rprivate`, `rslave`, `rshared`.
    pub propagation: &'static str,
}

/// The namespaces to join; `None` means the host's.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    /// Pinned network namespace.
    pub network: Option<PathBuf>,
    /// Pinned IPC namespace.
    pub ipc: Option<PathBuf>,
    /// Pinned UTS namespace.
    pub uts: Option<PathBuf>,
    /// Process namespace.
    pub process: ProcessNamespace,
}

/// The annotation by which containerd groups containers under one shim.
pub(super) const SHIM_GROUP: &str = "io.containerd.runc.v2.group";

/// Where a container's processes live.
#[derive(Clone, Debug, Default)]
pub enum ProcessNamespace {
    /// By themselves.
    #[default]
    Own,
    /// With the host's.
    Host,
    /// With the pod's other containers.
    Shared(PathBuf),
}

/// Facts about the machine that specifications depend on.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Control group interface.
    pub cgroups: Version,
    /// Memory, in bytes.
    pub memory: u64,
    /// Capabilities that we have and can give.
    pub capabilities: Vec<&'static str>,
    /// The lowest OOM score adjustment that we may set.
    pub lowest_oom_score_adj: i64,
    /// Directory of seccomp profiles named by pods.
    pub seccomp_profiles: PathBuf,
}

/// Everything that a specification is made of.
#[derive(Clone, Debug)]
pub struct Blueprint<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// Its image.
    pub image: &'a ImageConfig,
    /// The identity it runs as.
    pub user: &'a User,
    /// The pod's environment for it, expanded, in order.
    pub environment: &'a [(String, String)],
    /// Mounts from the host.
    pub mounts: &'a [HostMount],
    /// Namespaces to join.
    pub namespaces: &'a Namespaces,
    /// The sandbox.
    pub sandbox_id: &'a str,
    /// The group of containers that share a shim.
    pub shim: &'a str,
    /// The container's control group.
    pub cgroup: String,
    /// The machine.
    pub machine: &'a Machine,
}

/// Capabilities of an ordinary container.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// All capabilities, in the kernel's order.
pub const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The OCI specification.
///
/// # Errors
/// When the pod names something that does not exist (a seccomp profile) or
/// there is nothing to run.
pub fn oci_spec(blueprint: &Blueprint<'_>) -> Result<Value, RuntimeError> {
    let container = blueprint.container;
    let security = container.security_context.clone().unwrap_or_default();
    let is_privileged = security.privileged == Some(true);
    let mut process = process(blueprint, &security)?;
    let seccomp = if is_privileged { None } else { seccomp_of(blueprint, &security)? };
    let mut resources = limits::of_container(container, blueprint.machine.cgroups);
    resources["devices"] = json!([{"allow": is_privileged, "access": "rwm"}]);
    let mut linux = json!({
        "resources": resources,
        "cgroupsPath": blueprint.cgroup,
        "namespaces": namespaces(blueprint),
    });
    if is_privileged {
        linux["devices"] = host_devices();
    } else if security.proc_mount.as_deref() != Some("Unmasked") {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
    }
    if let Some(profile) = seccomp {
        linux["seccomp"] = profile;
    }
    if container.tty == Some(true) {
        process["terminal"] = true.into();
    }
    let is_shared = blueprint.mounts.iter().any(|mount| mount.propagation == "rshared");
    let is_slave = blueprint.mounts.iter().any(|mount| mount.propagation == "rslave");
    if is_shared || is_slave {
        linux["rootfsPropagation"] = if is_shared { "rshared" } else { "rslave" }.into();
    }
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": security.read_only_root_filesystem == Some(true)},
        "mounts": mounts(blueprint, is_privileged),
        "linux": linux,
        "annotations": {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": blueprint.sandbox_id,
            SHIM_GROUP: blueprint.shim,
        },
    });
    if blueprint.namespaces.uts.is_none() && !pod::uses_host_network(blueprint.pod) {
        spec["hostname"] = pod::hostname(blueprint.pod).into();
    }
    Ok(spec)
}

fn process(blueprint: &Blueprint<'_>, security: &SecurityContext) -> Result<Value, RuntimeError> {
    let image = blueprint.image;
    let args = arguments(blueprint);
    if args.is_empty() {
        return Err(RuntimeError::Unfit(format!(
            "no command specified for container {} and its image has none",
            blueprint.container.name
        )));
    }
    let working_dir = blueprint.container.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let cwd = working_dir.unwrap_or(if image.working_dir.is_empty() { "/" } else { &image.working_dir });
    let is_privileged = security.privileged == Some(true);
    let capabilities =
        capabilities(security.capabilities.as_ref(), is_privileged, &blueprint.machine.capabilities);
    let adj = limits::oom_score_adj(blueprint.pod, blueprint.container, blueprint.machine.memory);
    Ok(json!({
        "user": {
            "uid": blueprint.user.uid,
            "gid": blueprint.user.gid,
            "additionalGids": blueprint.user.groups,
        },
        "args": args,
        "env": environment(blueprint),
        "cwd": cwd,
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
        },
        "noNewPrivileges": security.allow_privilege_escalation == Some(false) && !is_privileged,
        "oomScoreAdj": adj.max(blueprint.machine.lowest_oom_score_adj),
    }))
}

/// The image's environment, then the pod's over it.
fn environment(blueprint: &Blueprint<'_>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        if values.insert(name.to_owned(), value.to_owned()).is_none() {
            order.push(name.to_owned());
        }
    };
    set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set("HOSTNAME", &pod::hostname(blueprint.pod));
    if blueprint.container.tty == Some(true) {
        set("TERM", "xterm");
    }
    for entry in &blueprint.image.environment {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value);
    }
    for (name, value) in blueprint.environment {
        set(name, value);
    }
    order.into_iter().map(|name| format!("{name}={}", values[&name])).collect()
}

/// Command and arguments: a pod's command discards the image's arguments.
fn arguments(blueprint: &Blueprint<'_>) -> Vec<String> {
    let lookup: BTreeMap<&str, &str> =
        blueprint.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expand = |list: &Vec<String>| -> Vec<String> {
        list.iter()
            .map(|text| expand(text, |name| lookup.get(name).map(|value| (*value).to_owned())))
            .collect()
    };
    let given = |list: &Option<Vec<String>>| list.as_ref().filter(|list| !list.is_empty()).map(expand);
    let command = given(&blueprint.container.command);
    let args = given(&blueprint.container.args);
    match (command, args) {
        (Some(command), args) => command.into_iter().chain(args.unwrap_or_default()).collect(),
        (None, Some(args)) => blueprint.image.entrypoint.iter().cloned().chain(args).collect(),
        (None, None) => blueprint.image.entrypoint.iter().chain(&blueprint.image.command).cloned().collect(),
    }
}

/// Replaces `$(NAME)` by its value where there is one; `$$` is a dollar sign.
/// What cannot be replaced stays as it is.
#[must_use]
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            result.push('$');
            rest = tail;
        } else if let Some((name, tail)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => result.push_str(&value),
                None => {
                    result.push_str("$(");
                    result.push_str(name);
                    result.push(')');
                }
            }
            rest = tail;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    result
}

/// The capabilities that a container gets of those that we can give.
#[must_use]
pub fn capabilities(
    asked: Option<&Capabilities>,
    is_privileged: bool,
    available: &[&'static str],
) -> Vec<&'static str> {
    let full = |name: &String| {
        let upper = name.to_uppercase();
        if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
    };
    let list = |names: Option<&Vec<String>>| names.into_iter().flatten().map(full).collect::<Vec<_>>();
    let add = list(asked.and_then(|asked| asked.add.as_ref()));
    let drop = list(asked.and_then(|asked| asked.drop.as_ref()));
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    available
        .iter()
        .copied()
        .filter(|name| {
            let by_default = DEFAULT_CAPABILITIES.contains(name) && !has(&drop, "ALL");
            let named = has(&add, name);
            is_privileged || named || ((by_default || has(&add, "ALL")) && !has(&drop, name))
        })
        .collect()
}

fn seccomp_of(blueprint: &Blueprint<'_>, security: &SecurityContext) -> Result<Option<Value>, RuntimeError> {
    let pod_profile =
        pod::spec(blueprint.pod).security_context.as_ref().and_then(|c| c.seccomp_profile.as_ref());
    let Some(SeccompProfile { type_, localhost_profile }) = security.seccomp_profile.as_ref().or(pod_profile)
    else {
        return Ok(None);
    };
    match type_.as_str() {
        "RuntimeDefault" => Ok(Some(seccomp::runtime_default(&capabilities(
            security.capabilities.as_ref(),
            false,
            &blueprint.machine.capabilities,
        )))),
        "Localhost" => {
            let path =
                blueprint.machine.seccomp_profiles.join(localhost_profile.as_deref().unwrap_or_default());
            let text = std::fs::read(&path)
                .map_err(RuntimeError::io(format!("read seccomp profile {}", path.display())))?;
            let profile = serde_json::from_slice(&text).map_err(|error| {
                RuntimeError::Unfit(format!("seccomp profile {}: {error}", path.display()))
            })?;
            Ok(Some(profile))
        }
        _ => Ok(None),
    }
}

fn namespaces(blueprint: &Blueprint<'_>) -> Value {
    let mut list = vec![json!({"type": "mount"})];
    let mut join = |kind: &str, path: Option<&PathBuf>| {
        if let Some(path) = path {
            list.push(json!({"type": kind, "path": path}));
        }
    };
    join("network", blueprint.namespaces.network.as_ref());
    join("ipc", blueprint.namespaces.ipc.as_ref());
    join("uts", blueprint.namespaces.uts.as_ref());
    match &blueprint.namespaces.process {
        ProcessNamespace::Own => list.push(json!({"type": "pid"})),
        ProcessNamespace::Host => {}
        ProcessNamespace::Shared(path) => list.push(json!({"type": "pid", "path": path})),
    }
    if blueprint.machine.cgroups == Version::V2 {
        list.push(json!({"type": "cgroup"}));
    }
    Value::Array(list)
}

fn mounts(blueprint: &Blueprint<'_>, is_privileged: bool) -> Value {
    let system = if is_privileged { "rw" } else { "ro" };
    let standard = [
        ("/proc", "proc", "proc", vec!["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", "tmpfs", vec!["nosuid", "strictatime", "mode=755", "size=65536k"]),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        ("/dev/mqueue", "mqueue", "mqueue", vec!["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", "sysfs", vec!["nosuid", "noexec", "nodev", system]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", vec!["nosuid", "noexec", "nodev", "relatime", system]),
    ];
    let is_replaced = |target: &str| blueprint.mounts.iter().any(|mount| mount.target == target);
    let mut list: Vec<Value> = standard
        .into_iter()
        .filter(|(target, ..)| !is_replaced(target))
        .map(|(target, kind, source, options)| {
            json!({"destination": target, "type": kind, "source": source, "options": options})
        })
        .collect();
    let mut ours: Vec<&HostMount> = blueprint.mounts.iter().collect();
    // A mount below another must come after it.
    ours.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
    list.extend(ours.into_iter().map(|mount| {
        let access = if mount.is_read_only { "ro" } else { "rw" };
        json!({
            "destination": mount.target, "type": "bind", "source": mount.source,
            "options": ["rbind", mount.propagation, access],
        })
    }));
    Value::Array(list)
}

/// The machine's devices, for privileged containers.
fn host_devices() -> Value {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let mut devices = Vec::new();
    let mut directories = vec![PathBuf::from("/dev")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
            let kind = meta.file_type();
            let is_excluded = ["/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/console"]
                .iter()
                .any(|excluded| path == std::path::Path::new(excluded));
            if is_excluded {
                continue;
            }
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_char_device() || kind.is_block_device() {
                let device = meta.rdev();
                devices.push(json!({
                    "path": path, "type": if kind.is_block_device() { "b" } else { "c" },
                    "major": nix::sys::stat::major(device), "minor": nix::sys::stat::minor(device),
                    "fileMode": meta.mode() & 0o7777, "uid": meta.uid(), "gid": meta.gid(),
                }));
            }
        }
    }
    Value::Array(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion() {
        let lookup = |name: &str| (name == "A").then(|| "value".to_owned());
        for (text, expected) in [
            ("plain", "plain"),
            ("$(A)", "value"),
            ("x$(A)y$(B)", "xvaluey$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$value"),
            ("$A $(A", "$A $(A"),
            ("end$", "end$"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }

    #[test]
    fn capability_rules() {
        let of = |add: &[&str], drop: &[&str], privileged| {
            let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
            let asked = Capabilities { add: list(add), drop: list(drop) };
            capabilities(Some(&asked), privileged, &ALL_CAPABILITIES)
        };
        assert_eq!(of(&[], &[], false).len(), DEFAULT_CAPABILITIES.len());
        assert!(of(&["NET_ADMIN"], &[], false).contains(&"CAP_NET_ADMIN"));
        assert_eq!(of(&["NET_BIND_SERVICE"], &["ALL"], false), ["CAP_NET_BIND_SERVICE"]);
        assert!(!of(&[], &["chown"], false).contains(&"CAP_CHOWN"));
        assert_eq!(of(&["ALL"], &[], false).len(), ALL_CAPABILITIES.len());
        assert!(!of(&["ALL"], &["SYS_ADMIN"], false).contains(&"CAP_SYS_ADMIN"));
        assert_eq!(of(&[], &["ALL"], true).len(), ALL_CAPABILITIES.len());
    }

    fn blueprint_of(container: Value, check: impl FnOnce(&Value)) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [container]}
        }))
        .expect("a pod");
        let machine = Machine {
            cgroups: Version::V2,
            memory: 1 << 30,
            capabilities: ALL_CAPABILITIES.to_vec(),
            lowest_oom_score_adj: 0,
            seccomp_profiles: PathBuf::new(),
        };
        let image = ImageConfig {
            environment: vec!["A=image".to_owned(), "B=image".to_owned()],
            entrypoint: vec!["/entry".to_owned()],
            command: vec!["arg".to_owned()],
            ..ImageConfig::default()
        };
        let spec = oci_spec(&Blueprint {
            pod: &pod,
            container: &pod::spec(&pod).containers[0],
            image: &image,
            user: &User::default(),
            environment: &[("A".to_owned(), "pod".to_owned())],
            mounts: &[HostMount {
                target: "/data".to_owned(),
                source: "/host".into(),
                is_read_only: true,
                propagation: "rprivate",
            }],
            namespaces: &Namespaces::default(),
            sandbox_id: "s",
            shim: "s",
            cgroup: "/kubepods/podu/c".to_owned(),
            machine: &machine,
        })
        .expect("a specification");
        check(&spec);
    }

    #[test]
    fn commands_and_environment() {
        let cases = [
            (json!({"name": "c"}), json!(["/entry", "arg"])),
            (json!({"name": "c", "args": ["x$(A)"]}), json!(["/entry", "xpod"])),
            (json!({"name": "c", "command": ["/own"]}), json!(["/own"])),
            (json!({"name": "c", "command": ["/own"], "args": ["1"]}), json!(["/own", "1"])),
        ];
        for (container, expected) in cases {
            blueprint_of(container, |spec| {
                assert_eq!(spec["process"]["args"], expected);
                let environment = spec["process"]["env"].as_array().expect("a list");
                assert!(environment.contains(&json!("A=pod")) && environment.contains(&json!("B=image")));
            });
        }
    }

    #[test]
    fn security() {
        blueprint_of(json!({"name": "c", "securityContext": {"privileged": true}}), |spec| {
            assert_eq!(spec["linux"]["maskedPaths"], Value::Null);
            assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], true);
        });
        let restricted = json!({"name": "c", "securityContext": {
            "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "seccompProfile": {"type": "RuntimeDefault"}}});
        blueprint_of(restricted, |spec| {
            assert_eq!(spec["root"]["readonly"], true);
            assert_eq!(spec["process"]["noNewPrivileges"], true);
            assert!(spec["linux"]["seccomp"]["syscalls"].is_array());
            assert_eq!(spec["linux"]["maskedPaths"][0], "/proc/acpi");
        });
    }
}
