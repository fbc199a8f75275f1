//! The checks of the level `restricted`: only what hardened pods need.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::{is_contained, proc_mount, seccomp};
use super::checks::{Check, Finding, Pod, Versioned, list, plural, quoted, setters, text, these};

const fn check(
    name: &'static str,
    forms: &'static [(u32, Check)],
    replaces: Option<&'static str>,
) -> Versioned {
    Versioned { name, forms, replaces }
}

/// In the order of their names.
pub(super) const CHECKS: [Versioned; 7] = [
    check("allowPrivilegeEscalation", &[(8, escalation), (25, escalation_on_linux)], None),
    check(
        "capabilities_restricted",
        &[(22, capabilities), (25, capabilities_on_linux)],
        Some("capabilities_baseline"),
    ),
    check("procMount_restricted", &[(35, proc_mount)], Some("procMount")),
    check("restrictedVolumes", &[(0, volumes)], Some("hostPathVolumes")),
    check("runAsNonRoot", &[(0, not_root), (35, not_root_of_host)], None),
    check("runAsUser", &[(23, user), (35, user_of_host)], None),
    check(
        "seccompProfile_restricted",
        &[(19, profile), (25, profile_on_linux)],
        Some("seccompProfile_baseline"),
    ),
];

fn on_linux(pod: &Pod<'_>, check: Check) -> Option<Finding> {
    if pod.is_windows() { None } else { check(pod) }
}

fn with_users_of_host(pod: &Pod<'_>, check: Check) -> Option<Finding> {
    if pod.has_own_users() { None } else { check(pod) }
}

fn escalation(pod: &Pod<'_>) -> Option<Finding> {
    let containers = pod.containers_where(|one| one["securityContext"]["allowPrivilegeEscalation"] != false);
    (!containers.is_empty()).then(|| {
        let detail =
            format!("{} must set securityContext.allowPrivilegeEscalation=false", these(&containers));
        Finding::new("allowPrivilegeEscalation != false", detail)
    })
}

fn escalation_on_linux(pod: &Pod<'_>) -> Option<Finding> {
    on_linux(pod, escalation)
}

fn capabilities(pod: &Pod<'_>) -> Option<Finding> {
    let of = |container: &Value, field: &str| -> Vec<String> {
        let names = list(&container["securityContext"]["capabilities"], field).iter();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let added = |container: &Value| {
        let mut names = of(container, "add");
        names.retain(|name| name != "NET_BIND_SERVICE");
        names
    };
    let keeping = pod.containers_where(|one| !of(one, "drop").iter().any(|name| name == "ALL"));
    let adding = pod.containers_where(|one| !added(one).is_empty());
    let names: BTreeSet<String> = pod.containers().flat_map(added).collect();
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", these(&keeping)));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            these(&adding),
            quoted(names)
        ));
    }
    (!details.is_empty()).then(|| Finding::new("unrestricted capabilities", details.join("; ")))
}

fn capabilities_on_linux(pod: &Pod<'_>) -> Option<Finding> {
    on_linux(pod, capabilities)
}

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn volumes(pod: &Pod<'_>) -> Option<Finding> {
    let kind = |volume: &Value| -> String {
        let mut fields = volume.as_object().into_iter().flatten();
        let source = fields.find(|(name, value)| *name != "name" && value.is_object());
        source.map_or_else(|| "unknown".to_owned(), |(name, _)| name.clone())
    };
    let is_bad = |volume: &&Value| !VOLUMES.contains(&kind(volume).as_str());
    let bad: Vec<&Value> = list(pod.spec, "volumes").iter().filter(is_bad).collect();
    let names: Vec<&str> = bad.iter().map(|volume| text(volume, "name")).collect();
    let kinds: BTreeSet<String> = bad.iter().map(|volume| kind(volume)).collect();
    (!bad.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {} {}",
            plural("volume", "volumes", names.len()),
            quoted(&names),
            plural("uses", "use", names.len()),
            plural("restricted volume type", "restricted volume types", kinds.len()),
            quoted(kinds)
        );
        Finding::new("restricted volume types", detail)
    })
}

fn not_root(pod: &Pod<'_>) -> Option<Finding> {
    const FIELD: &str = "runAsNonRoot";
    let own = &pod.security()[FIELD];
    let explicit = pod.containers_where(|one| one["securityContext"][FIELD] == false);
    let who = setters(*own == false, &explicit);
    let reason = "runAsNonRoot != true";
    if !who.is_empty() {
        return Some(Finding::new(reason, format!("{who} must not set securityContext.runAsNonRoot=false")));
    }
    if *own == true {
        return None;
    }
    let silent = pod.containers_where(|one| !one["securityContext"][FIELD].is_boolean());
    (!silent.is_empty()).then(|| {
        Finding::new(reason, format!("pod or {} must set securityContext.runAsNonRoot=true", these(&silent)))
    })
}

fn not_root_of_host(pod: &Pod<'_>) -> Option<Finding> {
    with_users_of_host(pod, not_root)
}

fn user(pod: &Pod<'_>) -> Option<Finding> {
    let is_root = |security: &Value| security["runAsUser"] == 0;
    let containers = pod.containers_where(|one| is_root(&one["securityContext"]));
    let who = setters(is_root(pod.security()), &containers);
    (!who.is_empty()).then(|| Finding::new("runAsUser=0", format!("{who} must not set runAsUser=0")))
}

fn user_of_host(pod: &Pod<'_>) -> Option<Finding> {
    with_users_of_host(pod, user)
}

fn profile(pod: &Pod<'_>) -> Option<Finding> {
    if let Some(found) = seccomp(pod) {
        return Some(found);
    }
    if is_contained(text(&pod.security()["seccompProfile"], "type")) {
        return None;
    }
    let silent = pod.containers_where(|one| !one["securityContext"]["seccompProfile"].is_object());
    (!silent.is_empty()).then(|| {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            these(&silent)
        );
        Finding::new("seccompProfile", detail)
    })
}

fn profile_on_linux(pod: &Pod<'_>) -> Option<Finding> {
    on_linux(pod, profile)
}
