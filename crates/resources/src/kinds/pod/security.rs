//! Rules for security contexts and for the operating system of a pod.

use std::collections::HashSet;

use api::{ErrorList, Path};
use serde_json::Value;

use super::spec::Context;
use super::volumes;
use crate::fields::Fields;
use crate::names;
use crate::report::Report;

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn ids(of: &Value, fields: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    for field in fields {
        let Some(id) = of.int(field) else { continue };
        for message in names::user_id(id) {
            errors.invalid(&path.child(field), id, message);
        }
    }
}

/// Rules for the security context of a pod.
pub(super) fn pod(context: &Value, spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], path, errors);
    for (index, id) in context.list("supplementalGroups").iter().enumerate() {
        let id = id.as_i64().unwrap_or_default();
        for message in names::user_id(id) {
            errors.invalid(&path.child("supplementalGroups").index(index), id, message);
        }
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    sysctls(context, spec, &path.child("sysctls"), errors);
    let choices: [(&str, &[&str]); 3] = [
        ("fsGroupChangePolicy", &["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &["MountOption", "Recursive"]),
    ];
    for (field, allowed) in choices {
        if context.has(field) {
            errors.one_of(&path.child(field), context.text(field), allowed);
        }
    }
    profiles(context, path, errors);
}

fn sysctls(context: &Value, spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, sysctl) in context.list("sysctls").iter().enumerate() {
        let list = path.index(index);
        let (name, at) = (sysctl.text("name"), list.child("name"));
        if name.is_empty() {
            errors.required(&at, "");
        } else if !is_sysctl(name) {
            let detail = "must have at most 253 characters and match regex ^[a-z0-9]([-_a-z0-9]*[a-z0-9])?([\\./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$";
            errors.invalid(&at, name, detail);
        } else if !seen.insert(name) {
            errors.duplicate(&at, name);
        }
        let dotted = name.replace('/', ".");
        if spec.flag("hostNetwork") && dotted.starts_with("net.") {
            errors.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
        }
        let shared = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
        if spec.flag("hostIPC") && shared.iter().any(|prefix| dotted.starts_with(prefix)) {
            errors.invalid(&at, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = part.as_bytes();
        bytes.first().copied().is_some_and(inner)
            && bytes.last().copied().is_some_and(inner)
            && bytes.iter().all(|byte| inner(*byte) || b"-_".contains(byte))
    };
    name.len() <= 253 && name.split(['.', '/']).all(part)
}

fn profiles(context: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (field, title) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let profile = context.field(field);
        if profile.is_null() {
            continue;
        }
        let at = path.child(field);
        match profile.text("type") {
            "" => errors.required(&at.child("type"), &format!("type is required when {field} is set")),
            kind => errors.one_of(&at.child("type"), kind, &PROFILES),
        }
        let (local, at) = (profile.text("localhostProfile"), at.child("localhostProfile"));
        if profile.text("type") != "Localhost" {
            if profile.has("localhostProfile") {
                let detail = format!("can only be set when {title} type is Localhost");
                let shown = if title == "seccomp" { profile.clone() } else { local.into() };
                errors.invalid(&at, shown, detail);
            }
        } else if local.is_empty() {
            errors.required(&at, &format!("must be set when {title} type is Localhost"));
        } else if title == "seccomp" {
            volumes::descending(local, &at, errors);
        } else if local.trim() != local {
            errors.invalid(&at, local, "must not be padded with whitespace");
        }
    }
}

/// Rules for the security context of a container.
pub(super) fn container(context: &Context<'_>, security: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if security.is_null() {
        return;
    }
    ids(security, &["runAsUser", "runAsGroup"], path, errors);
    if security.has("procMount") {
        let (mount, at) = (security.text("procMount"), path.child("procMount"));
        errors.one_of(&at, mount, &["Default", "Unmasked"]);
        if context.host_users() && mount == "Unmasked" {
            errors.invalid(&at, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    if security.field("allowPrivilegeEscalation") == &Value::Bool(false) {
        if security.flag("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, security.clone(), detail);
        }
        if security.field("capabilities").list("add").iter().any(|one| one == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, security.clone(), detail);
        }
    }
    profiles(security, path, errors);
}

/// What a pod with a user namespace of its own may not share with the host.
pub(super) fn host_users(context: &Context<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    if context.host_users() {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if context.spec.flag(field) {
            errors.forbidden(&path.child(shown), "when `hostUsers` is false");
        }
    }
}

/// Rules for `os`, and what an operating system refuses.
pub(super) fn operating_system(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if !spec.has("os") {
        return;
    }
    let name = spec.field("os").text("name");
    errors.required_one_of(&path.child("os").child("name"), name, &["linux", "windows"]);
    if name != "linux" {
        return;
    }
    let detail = "windows options cannot be set for a linux pod";
    if spec.field("securityContext").has("windowsOptions") {
        errors.forbidden(&path.child("securityContext").child("windowsOptions"), detail);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in spec.list(list).iter().enumerate() {
            if container.field("securityContext").has("windowsOptions") {
                let at = path.child(list);
                errors.forbidden(&at.index(index).child("securityContext").child("windowsOptions"), detail);
            }
        }
    }
}
