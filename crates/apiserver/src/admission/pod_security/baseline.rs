//! The checks of the level `baseline`: nothing that is a known way out of the pod.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checks::{Check, Finding, Pod, Versioned, list, plural, quoted, setters, text, these};

const fn check(name: &'static str, forms: &'static [(u32, Check)]) -> Versioned {
    Versioned { name, forms, replaces: None }
}

/// In the order of their names.
pub(super) const CHECKS: [Versioned; 12] = [
    check("appArmorProfile", &[(0, app_armor)]),
    check("capabilities_baseline", &[(0, capabilities)]),
    check("hostNamespaces", &[(0, host_namespaces)]),
    check("hostPathVolumes", &[(0, host_paths)]),
    check("hostPorts", &[(0, host_ports)]),
    check("hostProbesAndHostLifecycle", &[(34, hosts_of_probes)]),
    check("privileged", &[(0, privileged)]),
    check("procMount", &[(0, proc_mount), (35, proc_mount_of_host_users)]),
    check("seLinuxOptions", &[(0, se_linux_0), (31, se_linux_31)]),
    check("seccompProfile_baseline", &[(0, seccomp_annotations), (19, seccomp)]),
    check("sysctls", &[(0, sysctls_0), (27, sysctls_27), (29, sysctls_29), (32, sysctls_32)]),
    check("windowsHostProcess", &[(0, host_process)]),
];

fn annotations<'a>(pod: &Pod<'a>) -> impl Iterator<Item = (&'a String, &'a str)> {
    let map = pod.metadata["annotations"].as_object();
    map.into_iter().flatten().map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}

fn app_armor(pod: &Pod<'_>) -> Option<Finding> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let bad = |security: &'_ Value| -> Option<String> {
        let kind = security["appArmorProfile"].get("type")?.as_str()?;
        (!matches!(kind, "RuntimeDefault" | "Localhost")).then(|| kind.to_owned())
    };
    let mut values: BTreeSet<String> = BTreeSet::new();
    let own = bad(pod.security());
    let is_own = own.is_some();
    values.extend(own);
    let mut containers = Vec::new();
    for container in pod.containers() {
        if let Some(value) = bad(&container["securityContext"]) {
            values.insert(value);
            containers.push(text(container, "name"));
        }
    }
    let allowed =
        |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let mut notes: Vec<String> = annotations(pod)
        .filter(|(key, value)| key.starts_with(ANNOTATION) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    notes.sort();
    let mut who = setters(is_own, &containers);
    if !notes.is_empty() {
        let word = plural("annotation", "annotations", notes.len());
        who = if who.is_empty() { word.to_owned() } else { format!("{who} and {word}") };
    }
    if who.is_empty() {
        return None;
    }
    let all: Vec<String> = values.into_iter().chain(notes).collect();
    Some(Finding::new(
        plural("forbidden AppArmor profile", "forbidden AppArmor profiles", all.len()),
        format!("{who} must not set AppArmor profile type to {}", quoted(all)),
    ))
}

fn capabilities(pod: &Pod<'_>) -> Option<Finding> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let added = |container: &Value| -> Vec<String> {
        let list = list(&container["securityContext"]["capabilities"], "add").iter();
        let names = list.filter_map(Value::as_str).filter(|name| !ALLOWED.contains(name));
        names.map(str::to_owned).collect()
    };
    let containers = pod.containers_where(|container| !added(container).is_empty());
    let names: BTreeSet<String> = pod.containers().flat_map(added).collect();
    (!containers.is_empty()).then(|| {
        let detail = format!(
            "{} must not include {} in securityContext.capabilities.add",
            these(&containers),
            quoted(names)
        );
        Finding::new("non-default capabilities", detail)
    })
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Finding> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.spec[*field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    (!shared.is_empty()).then(|| Finding::new("host namespaces", shared.join(", ")))
}

fn host_paths(pod: &Pod<'_>) -> Option<Finding> {
    let volumes = list(pod.spec, "volumes").iter().filter(|volume| volume["hostPath"].is_object());
    let names: Vec<&str> = volumes.map(|volume| text(volume, "name")).collect();
    (!names.is_empty()).then(|| {
        let word = plural("volume", "volumes", names.len());
        Finding::new("hostPath volumes", format!("{word} {}", quoted(&names)))
    })
}

fn host_ports(pod: &Pod<'_>) -> Option<Finding> {
    let ports = |container: &Value| -> Vec<String> {
        let ports = list(container, "ports").iter().filter_map(|port| port["hostPort"].as_i64());
        ports.filter(|port| *port != 0).map(|port| port.to_string()).collect()
    };
    let containers = pod.containers_where(|container| !ports(container).is_empty());
    let all: BTreeSet<String> = pod.containers().flat_map(ports).collect();
    (!containers.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {}",
            these(&containers),
            plural("uses", "use", containers.len()),
            plural("hostPort", "hostPorts", all.len()),
            all.into_iter().collect::<Vec<_>>().join(", ")
        );
        Finding::new("hostPort", detail)
    })
}

fn hosts_of_probes(pod: &Pod<'_>) -> Option<Finding> {
    let hosts = |container: &Value| -> Vec<String> {
        let lifecycle = &container["lifecycle"];
        let asked = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
        let hooks = [&lifecycle["postStart"], &lifecycle["preStop"]];
        let hosts = asked
            .into_iter()
            .chain(hooks)
            .flat_map(|handler| [text(&handler["httpGet"], "host"), text(&handler["tcpSocket"], "host")]);
        hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect()
    };
    let names: BTreeSet<&str> =
        pod.containers_where(|container| !hosts(container).is_empty()).into_iter().collect();
    let all: BTreeSet<String> = pod.containers().flat_map(hosts).collect();
    let containers: Vec<&str> = names.into_iter().collect();
    (!containers.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {}",
            these(&containers),
            plural("uses", "use", containers.len()),
            plural("probe or lifecycle host", "probe or lifecycle hosts", all.len()),
            quoted(all)
        );
        Finding::new("probe or lifecycle host", detail)
    })
}

fn privileged(pod: &Pod<'_>) -> Option<Finding> {
    let containers = pod.containers_where(|container| container["securityContext"]["privileged"] == true);
    (!containers.is_empty()).then(|| {
        let detail = format!("{} must not set securityContext.privileged=true", these(&containers));
        Finding::new("privileged", detail)
    })
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Finding> {
    let mount = |container: &Value| {
        let mount = container["securityContext"]["procMount"].as_str();
        mount.filter(|mount| *mount != "Default").map(str::to_owned)
    };
    let containers = pod.containers_where(|container| mount(container).is_some());
    let kinds: BTreeSet<String> = pod.containers().filter_map(mount).collect();
    (!containers.is_empty()).then(|| {
        let detail =
            format!("{} must not set securityContext.procMount to {}", these(&containers), quoted(kinds));
        Finding::new("procMount", detail)
    })
}

fn proc_mount_of_host_users(pod: &Pod<'_>) -> Option<Finding> {
    if pod.has_own_users() { None } else { proc_mount(pod) }
}

fn se_linux_0(pod: &Pod<'_>) -> Option<Finding> {
    se_linux(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

fn se_linux_31(pod: &Pod<'_>) -> Option<Finding> {
    se_linux(pod, &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"])
}

fn se_linux(pod: &Pod<'_>, allowed: &[&str]) -> Option<Finding> {
    let options = |security: &Value| security["seLinuxOptions"].clone();
    let is_bad = |options: &Value| {
        !allowed.contains(&text(options, "type"))
            || !text(options, "user").is_empty()
            || !text(options, "role").is_empty()
    };
    let own = options(pod.security());
    let of_containers: Vec<(&str, Value)> = pod
        .containers()
        .map(|container| (text(container, "name"), options(&container["securityContext"])))
        .filter(|(_, options)| is_bad(options))
        .collect();
    let names: Vec<&str> = of_containers.iter().map(|(name, _)| *name).collect();
    let who = setters(is_bad(&own), &names);
    if who.is_empty() {
        return None;
    }
    let all: Vec<&Value> = std::iter::once(&own).chain(of_containers.iter().map(|(_, one)| one)).collect();
    let types: BTreeSet<&str> =
        all.iter().map(|one| text(one, "type")).filter(|kind| !allowed.contains(kind)).collect();
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    for field in ["user", "role"] {
        if all.iter().any(|one| !text(one, field).is_empty()) {
            data.push(format!("{field} may not be set"));
        }
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", data.join("; "));
    Some(Finding::new("seLinuxOptions", detail))
}

fn seccomp_annotations(pod: &Pod<'_>) -> Option<Finding> {
    const OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    let allowed = |value: &str| {
        matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
    };
    let keys: BTreeSet<String> = std::iter::once(OF_POD.to_owned())
        .chain(pod.containers().map(|container| {
            format!("container.seccomp.security.alpha.kubernetes.io/{}", text(container, "name"))
        }))
        .collect();
    let bad = annotations(pod).filter(|(key, value)| keys.contains(*key) && !allowed(value));
    let mut bad: Vec<String> = bad.map(|(key, value)| format!("{key}={value:?}")).collect();
    bad.sort();
    (!bad.is_empty()).then(|| {
        let word = plural("annotation", "annotations", bad.len());
        Finding::new("seccompProfile", format!("forbidden {word} {}", bad.join(", ")))
    })
}

pub(super) fn is_contained(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

/// Profiles that are set, and let everything through.
pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Finding> {
    let bad = |security: &'_ Value| {
        let profile = &security["seccompProfile"];
        profile.is_object().then(|| text(profile, "type").to_owned()).filter(|kind| !is_contained(kind))
    };
    let own = bad(pod.security());
    let containers = pod.containers_where(|container| bad(&container["securityContext"]).is_some());
    let who = setters(own.is_some(), &containers);
    if who.is_empty() {
        return None;
    }
    let of_containers = pod.containers().filter_map(|container| bad(&container["securityContext"]));
    let kinds: BTreeSet<String> = own.into_iter().chain(of_containers).collect();
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(kinds));
    Some(Finding::new("seccompProfile", detail))
}

const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn sysctls_0(pod: &Pod<'_>) -> Option<Finding> {
    sysctls(pod, &SYSCTLS[..5])
}

fn sysctls_27(pod: &Pod<'_>) -> Option<Finding> {
    sysctls(pod, &SYSCTLS[..6])
}

fn sysctls_29(pod: &Pod<'_>) -> Option<Finding> {
    sysctls(pod, &SYSCTLS[..10])
}

fn sysctls_32(pod: &Pod<'_>) -> Option<Finding> {
    sysctls(pod, &SYSCTLS)
}

fn sysctls(pod: &Pod<'_>, allowed: &[&str]) -> Option<Finding> {
    let names = list(pod.security(), "sysctls").iter().map(|sysctl| text(sysctl, "name"));
    let bad: Vec<&str> = names.filter(|name| !allowed.contains(name)).collect();
    (!bad.is_empty()).then(|| Finding::new("forbidden sysctls", bad.join(", ")))
}

fn host_process(pod: &Pod<'_>) -> Option<Finding> {
    let is_on = |security: &Value| security["windowsOptions"]["hostProcess"] == true;
    let containers = pod.containers_where(|container| is_on(&container["securityContext"]));
    let who = setters(is_on(pod.security()), &containers);
    (!who.is_empty()).then(|| {
        let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
        Finding::new("hostProcess", detail)
    })
}
