use std::path::Path;

use super::*;

fn daemon_of(name: &'static str) -> Daemon {
    Daemon { name, flags: vec![("kubeconfig".to_owned(), "/etc/kubernetes/a b.conf".to_owned())] }
}

fn unit_of(name: &'static str) -> String {
    daemon(&daemon_of(name), Path::new(&format!("/usr/local/bin/{name}"))).text
}

#[test]
fn a_unit_in_full() {
    let expected = "\
# Written by kubeadm, which may write it again. For changes of your own: systemctl edit kubelet
[Unit]
Description=Kubernetes node agent
Wants=network-online.target containerd.service
After=network-online.target containerd.service kube-apiserver.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/local/bin/kubelet \\
  \"--kubeconfig=/etc/kubernetes/a b.conf\"
Restart=always
RestartSec=1
TimeoutStartSec=infinity
TimeoutStopSec=60
CPUAccounting=yes
MemoryAccounting=yes
TasksAccounting=yes
Delegate=yes
KillMode=process
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
";
    assert_eq!(unit_of("kubelet"), expected);
}

#[test]
fn all_but_the_kubelet_are_hardened_and_only_what_must_has_capabilities() {
    let capabilities = |name| {
        let text = unit_of(name);
        let line =
            text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=").map(str::to_owned));
        assert_eq!(line.is_some(), text.contains("ProtectSystem=strict"), "{name}");
        line
    };
    assert_eq!(capabilities("kubelet"), None);
    for name in ["kube-apiserver", "kube-scheduler", "kube-controller-manager"] {
        assert_eq!(capabilities(name).as_deref(), Some(""), "{name}");
    }
    assert_eq!(capabilities("kube-dns").as_deref(), Some("CAP_NET_BIND_SERVICE"));
    assert!(unit_of("kube-apiserver").contains("ReadWritePaths=/var/lib/corten\n"));
    assert!(!unit_of("kube-proxy").contains("ProtectKernelTunables"), "it switches forwarding on");
}

#[test]
fn arguments_stay_one_word_and_are_never_expanded() {
    for (argument, expected) in [
        ("--a=b", "--a=b"),
        ("--a=b c", "\"--a=b c\""),
        ("--a=100%", "--a=100%%"),
        ("--a=$HOME", "--a=$$HOME"),
        ("--a=\"x\"", "\"--a=\\\"x\\\"\""),
        ("", "\"\""),
        ("-x", "\"-x\""),
    ] {
        assert_eq!(quote(argument), expected);
    }
}

#[test]
fn every_unit_that_is_written_is_known_to_reset() {
    let known = all_names();
    for name in
        ["kube-apiserver", "kube-scheduler", "kube-controller-manager", "kube-dns", "kube-proxy", "kubelet"]
    {
        let unit = daemon(&daemon_of(name), Path::new("/x"));
        assert!(known.contains(&unit.name), "{name}");
    }
    for unit in renewal(Path::new("/usr/bin/kubeadm"), Path::new("/etc/kubernetes/pki")) {
        assert!(known.contains(&unit.name), "{}", unit.name);
    }
}
