//! Rules for volumes, their mounts and devices.

use std::collections::{HashMap, HashSet};

use api::{ErrorList, Path};
use serde_json::Value;

use super::env;
use super::spec::Context;
use crate::fields::Fields;
use crate::names;
use crate::report::Report;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Rules for `volumes`; gives the well-formed ones by name.
pub(super) fn validate<'a>(
    volumes: &'a [Value],
    pod_name: Option<&str>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) -> HashMap<&'a str, &'a Value> {
    let created: HashSet<String> = volumes
        .iter()
        .filter(|volume| volume.has("ephemeral"))
        .filter_map(|volume| Some(format!("{}-{}", pod_name?, volume.text("name"))))
        .collect();
    let mut found = HashMap::new();
    for (index, volume) in volumes.iter().enumerate() {
        let at = path.index(index);
        let before = errors.len();
        source(volume, &at, errors);
        let name = volume.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.invalid_all(&at.child("name"), name, names::label(name));
        }
        if found.contains_key(name) {
            errors.duplicate(&at.child("name"), name);
        }
        if errors.len() == before {
            found.insert(name, volume);
        }
        let claim = volume.field("persistentVolumeClaim").text("claimName");
        if created.contains(claim) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&at.child("persistentVolumeClaim").child("claimName"), claim, detail);
        }
    }
    found
}

fn source(volume: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut found = 0;
    for (kind, source) in volume.as_object().into_iter().flatten().filter(|(kind, _)| *kind != "name") {
        let at = path.child(kind);
        found += 1;
        if found > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        match kind.as_str() {
            "emptyDir" if super::resources::quantity(source.field("sizeLimit")).is_negative() => {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.forbidden(&at.child("sizeLimit"), detail);
            }
            "hostPath" => host_path(source, &at, errors),
            "secret" => keyed(source, "secretName", &at, errors),
            "configMap" => keyed(source, "name", &at, errors),
            "downwardAPI" => {
                mode(source, "defaultMode", &at, errors);
                for file in source.list("items") {
                    downward_file(file, &at, errors);
                }
            }
            "projected" => projected(source, &at, errors),
            "persistentVolumeClaim" => errors.required_text(source, "claimName", &at),
            "ephemeral" if !source.has("volumeClaimTemplate") => {
                errors.required(&at.child("volumeClaimTemplate"), "");
            }
            "nfs" => nfs(source, &at, errors),
            "csi" => errors.required_text(source, "driver", &at),
            "image" => {
                errors.required_text(source, "reference", &at);
                let policies = ["Always", "IfNotPresent", "Never"];
                errors.required_one_of(&at.child("pullPolicy"), source.text("pullPolicy"), &policies);
            }
            _ => {}
        }
    }
    if found == 0 {
        errors.required(path, "must specify a volume type");
    }
}

/// Rules for an NFS export.
pub(crate) fn nfs(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    errors.required_text(source, "server", path);
    errors.required_text(source, "path", path);
    if !source.text("path").starts_with('/') {
        errors.invalid(&path.child("path"), source.text("path"), "must be an absolute path");
    }
}

/// Rules for a path of the node.
pub(crate) fn host_path(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let text = source.text("path");
    if text.is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    no_backsteps(text, &path.child("path"), errors);
    errors.one_of(&path.child("type"), source.text("type"), &TYPES);
}

fn mode(of: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(mode) = of.int(name).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(&path.child(name), mode, FILE_MODE);
    }
}

fn keyed(source: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    errors.required_text(source, name, path);
    mode(source, "defaultMode", path, errors);
    for (index, item) in source.list("items").iter().enumerate() {
        key_to_path(item, &path.child("items").index(index), errors);
    }
}

fn key_to_path(item: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    errors.required_text(item, "key", path);
    errors.required_text(item, "path", path);
    local_path(item.text("path"), &path.child("path"), errors);
    mode(item, "mode", path, errors);
}

fn downward_file(file: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    errors.required_text(file, "path", path);
    local_path(file.text("path"), &path.child("path"), errors);
    if file.has("fieldRef") {
        env::volume_field_ref(file.field("fieldRef"), &path.child("fieldRef"), errors);
        if file.has("resourceFieldRef") {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.invalid(path, "resource", detail);
        }
    } else if file.has("resourceFieldRef") {
        env::resource_ref(file.field("resourceFieldRef"), true, &path.child("resourceFieldRef"), errors);
    } else {
        errors.required(path, "one of fieldRef and resourceFieldRef is required");
    }
    mode(file, "mode", path, errors);
}

fn projected<'a>(source: &'a Value, path: &Path<'_>, errors: &mut ErrorList) {
    mode(source, "defaultMode", path, errors);
    let mut seen: HashSet<&'a str> = HashSet::new();
    for (index, one) in source.list("sources").iter().enumerate() {
        let sources = path.child("sources");
        let at = sources.index(index);
        for kind in ["secret", "configMap"] {
            let of = one.field(kind);
            if of.is_null() {
                continue;
            }
            let at = at.child(kind);
            errors.required_text(of, "name", &at);
            for (index, item) in of.list("items").iter().enumerate() {
                key_to_path(item, &at.child("items").index(index), errors);
                if !item.text("path").is_empty() && !seen.insert(item.text("path")) {
                    errors.invalid(path, of.text("name"), "conflicting duplicate paths");
                }
            }
        }
        for file in one.field("downwardAPI").list("items") {
            downward_file(file, &at.child("downwardAPI"), errors);
            if !file.text("path").is_empty() && !seen.insert(file.text("path")) {
                errors.invalid(path, file.text("path"), "conflicting duplicate paths");
            }
        }
        let token = one.field("serviceAccountToken");
        if !token.is_null() {
            token_projection(token, path, &at.child("serviceAccountToken"), errors);
        }
        if one.as_object().is_some_and(|one| one.len() > 1) {
            errors.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

fn token_projection(token: &Value, volume: &Path<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let seconds = token.int("expirationSeconds").unwrap_or_default();
    if seconds < 600 {
        let detail = "may not specify a duration less than 10 minutes";
        errors.invalid(&path.child("expirationSeconds"), seconds, detail);
    }
    if seconds > 1 << 32 {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.invalid(&path.child("expirationSeconds"), seconds, detail);
    }
    if token.text("path").is_empty() {
        errors.required(&volume.child("path"), "");
    } else {
        local_path(token.text("path"), &volume.child("path"), errors);
    }
}

/// No way up.
pub(crate) fn no_backsteps(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if text.split('/').any(|part| part == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}

pub(super) fn descending(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_backsteps(text, path, errors);
}

fn local_path(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    descending(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.invalid(path, text, "must not start with '..'");
    }
}

/// Rules for `volumeMounts`.
pub(super) fn mounts(context: &Context<'_>, container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let devices = container.list("volumeDevices");
    let mut seen = HashSet::new();
    for (index, mount) in container.list("volumeMounts").iter().enumerate() {
        let at = path.index(index);
        let (name, target) = (mount.text("name"), mount.text("mountPath"));
        errors.required_text(mount, "name", &at);
        if !context.volumes.contains_key(name) {
            errors.not_found(&at.child("name"), name);
        }
        errors.required_text(mount, "mountPath", &at);
        if !seen.insert(target) {
            errors.invalid(&at.child("mountPath"), target, "must be unique");
        }
        if devices.iter().any(|device| device.text("name") == name) {
            errors.invalid(&at.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| device.text("devicePath") == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid(&at.child("mountPath"), target, detail);
        }
        let (sub, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
        // Upstream leaves out the index here.
        descending(sub, &path.child("subPath"), errors);
        if !expression.is_empty() && !sub.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&at.child("subPathExpr"), expression, detail);
        }
        descending(expression, &path.child("subPathExpr"), errors);
        propagation(container, mount, path, errors);
    }
}

fn propagation(container: &Value, mount: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let propagation = mount.text("mountPropagation");
    if mount.has("mountPropagation") {
        let at = path.child("mountPropagation");
        errors.one_of(&at, propagation, &["Bidirectional", "HostToContainer", "None"]);
        if propagation == "Bidirectional" && !container.field("securityContext").flag("privileged") {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            errors.forbidden(&at, detail);
        }
    }
    let at = path.child("recursiveReadOnly");
    match mount.text("recursiveReadOnly") {
        "" | "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.flag("readOnly") {
                errors.forbidden(&at, "may only be specified when readOnly is true");
            }
            if !matches!(propagation, "" | "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(&at, detail);
            }
        }
        other => errors.one_of(&at, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

/// Rules for `volumeDevices`.
pub(super) fn devices(context: &Context<'_>, container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mounts = container.list("volumeMounts");
    let (mut seen_names, mut seen_paths) = (HashSet::new(), HashSet::new());
    for (index, device) in container.list("volumeDevices").iter().enumerate() {
        let at = path.index(index);
        let (name, target) = (device.text("name"), device.text("devicePath"));
        errors.required_text(device, "name", &at);
        if !name.is_empty() && !seen_names.insert(name) {
            errors.invalid(&at.child("name"), name, "must be unique");
        }
        match context.volumes.get(name) {
            Some(volume) if volume.has("persistentVolumeClaim") || volume.has("ephemeral") => {}
            Some(_) => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&at.child("name"), name, detail);
            }
            None => errors.not_found(&at.child("name"), name),
        }
        errors.required_text(device, "devicePath", &at);
        if seen_paths.contains(target) {
            errors.invalid(&at.child("devicePath"), target, "must be unique");
        }
        if target.split('/').any(|part| part == "..") {
            errors.invalid(&at.child("devicePath"), target, "can not contain backsteps ('..')");
        } else {
            seen_paths.insert(target);
        }
        if mounts.iter().any(|mount| mount.text("name") == name) {
            errors.invalid(&at.child("name"), name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.text("mountPath") == target) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.invalid(&at.child("devicePath"), target, detail);
        }
    }
}
