//! The daemons as systemd units: the same values that a development cluster
//! runs, as text. Units are computed here and written by [`crate::systemd`].
//!
//! Hardening takes away what a daemon never needs. The kubelet keeps all: it
//! makes mounts that containerd must see, so it cannot live in a mount namespace
//! of its own, and its pods must outlive it.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::path::Path;

use crate::daemons::Daemon;

/// The service that renews certificates, and its timer.
pub const RENEWAL: &str = "kubeadm-certs-renew";

/// A unit's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// With its suffix.
    pub name: String,
    /// The content.
    pub text: String,
}

/// What differs between daemons besides their flags.
struct Nature {
    description: &'static str,
    after: &'static [&'static str],
    wants: &'static [&'static str],
    capabilities: Option<&'static str>,
    writes: &'static str,
    extra: &'static [&'static str],
}

const HEAD: &str = "# Written by kubeadm, which may write it again. For changes of your own: systemctl edit";
/// What no daemon needs, but the kubelet.
const HARDENED: [&str; 14] = [
    "NoNewPrivileges=yes",
    "PrivateTmp=yes",
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "ProtectControlGroups=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectClock=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
];
const ACCOUNTED: [&str; 3] = ["CPUAccounting=yes", "MemoryAccounting=yes", "TasksAccounting=yes"];

fn nature(name: &str) -> Nature {
    let plain = Nature {
        description: "Kubernetes daemon",
        after: &["network-online.target", "kube-apiserver.service"],
        wants: &["network-online.target"],
        capabilities: Some(""),
        writes: "",
        extra: &["PrivateDevices=yes", "ProtectKernelTunables=yes"],
    };
    match name {
        "kube-apiserver" => Nature {
            description: "Kubernetes API server",
            after: &["network-online.target", "time-sync.target"],
            writes: "/var/lib/corten",
            extra: &[
                "PrivateDevices=yes",
                "ProtectKernelTunables=yes",
                "StateDirectory=corten",
                "StateDirectoryMode=0700",
                "LimitNOFILE=1048576",
                "OOMScoreAdjust=-999",
            ],
            ..plain
        },
        "kube-scheduler" => Nature { description: "Kubernetes scheduler", ..plain },
        "kube-controller-manager" => Nature { description: "Kubernetes controllers", ..plain },
        "kube-dns" => Nature {
            description: "Kubernetes cluster DNS",
            capabilities: Some("CAP_NET_BIND_SERVICE"),
            ..plain
        },
        // It switches packet forwarding on, and programs rules and routes.
        "kube-proxy" => Nature {
            description: "Kubernetes service proxy",
            capabilities: Some("CAP_NET_ADMIN CAP_NET_RAW"),
            writes: "-/run/xtables.lock",
            extra: &[],
            ..plain
        },
        "kubelet" => Nature {
            description: "Kubernetes node agent",
            after: &["network-online.target", "containerd.service", "kube-apiserver.service"],
            wants: &["network-online.target", "containerd.service"],
            capabilities: None,
            writes: "",
            extra: &[
                "Delegate=yes",
                "KillMode=process",
                "LimitNOFILE=1048576",
                "LimitNPROC=infinity",
                "LimitCORE=infinity",
                "TasksMax=infinity",
                "OOMScoreAdjust=-999",
            ],
        },
        _ => plain,
    }
}

/// A daemon's unit; `program` is the path of its binary.
#[must_use]
pub fn daemon(daemon: &Daemon, program: &Path) -> Unit {
    let nature = nature(daemon.name);
    let mut text = format!("{HEAD} {}\n[Unit]\n", daemon.name);
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line(&format!("Description={}", nature.description));
    line(&format!("Wants={}", nature.wants.join(" ")));
    line(&format!("After={}", nature.after.join(" ")));
    // Whatever ends it, it comes back; how often is no reason to give up.
    line("StartLimitIntervalSec=0");
    line("\n[Service]");
    line("Type=notify");
    line("NotifyAccess=main");
    line(&command(program, daemon.arguments()));
    line("Restart=always");
    line("RestartSec=1");
    // A node waits for its control plane, however long that takes.
    line("TimeoutStartSec=infinity");
    line("TimeoutStopSec=60");
    ACCOUNTED.iter().for_each(|one| line(one));
    if let Some(capabilities) = nature.capabilities {
        HARDENED.iter().for_each(|one| line(one));
        line(&format!("CapabilityBoundingSet={capabilities}"));
    }
    if !nature.writes.is_empty() {
        line(&format!("ReadWritePaths={}", nature.writes));
    }
    nature.extra.iter().for_each(|one| line(one));
    line("\n[Install]");
    line("WantedBy=multi-user.target");
    Unit { name: format!("{}.service", daemon.name), text }
}

/// The units that renew this host's certificates before they expire.
#[must_use]
pub fn renewal(kubeadm: &Path, pki: &Path) -> Vec<Unit> {
    let arguments = [
        "certs".to_owned(),
        "renew".to_owned(),
        "all".to_owned(),
        "--if-expires-within=720h".to_owned(),
        format!("--cert-dir={}", pki.display()),
    ];
    let service = format!(
        "{HEAD} {RENEWAL}\n[Unit]\nDescription=Renewal of this host's Kubernetes certificates\n\
         After=network-online.target kube-apiserver.service\n\n[Service]\nType=oneshot\n{}\n",
        command(kubeadm, arguments)
    );
    let timer = format!(
        "{HEAD} {RENEWAL}.timer\n[Unit]\nDescription=Daily renewal of this host's Kubernetes certificates\n\n\
         [Timer]\nOnCalendar=daily\nRandomizedDelaySec=6h\nPersistent=yes\n\n[Install]\nWantedBy=timers.target\n"
    );
    vec![
        Unit { name: format!("{RENEWAL}.service"), text: service },
        Unit { name: format!("{RENEWAL}.timer"), text: timer },
    ]
}

/// All units that `init` and `join` may have written, in the order in which they stop.
#[must_use]
pub fn all_names() -> Vec<String> {
    let mut names = vec![format!("{RENEWAL}.timer"), format!("{RENEWAL}.service")];
    let daemons =
        ["kubelet", "kube-proxy", "kube-dns", "kube-controller-manager", "kube-scheduler", "kube-apiserver"];
    names.extend(daemons.map(|name| format!("{name}.service")));
    names
}

fn command(program: &Path, arguments: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("ExecStart={}", quote(&program.display().to_string()));
    for argument in arguments {
        // Writing into a string cannot fail.
        let _ = write!(text, " \\\n  {}", quote(&argument));
    }
    text
}

/// An argument as systemd reads it: no specifiers, no variables, one word.
fn quote(argument: &str) -> String {
    let escaped = argument.replace('\\', "\\\\").replace('%', "%%").replace('$', "$$").replace('"', "\\\"");
    let is_plain = (escaped.starts_with("--")
        || escaped.starts_with(|first: char| first == '/' || first.is_alphanumeric()))
        && escaped
            .chars()
            .all(|letter| !letter.is_whitespace() && !matches!(letter, '"' | '\'' | '\\' | ';'));
    if is_plain { escaped } else { format!("\"{escaped}\"") }
}
