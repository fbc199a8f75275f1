//! Rules for environment variables and for references to fields, resources,
//! config maps and secrets.

use api::{ErrorList, Path};
use serde_json::Value;

use crate::fields::Fields;
use crate::names;
use crate::report::Report;

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Says what is wrong with a text.
type Rule = fn(&str) -> Vec<String>;

/// Rules for `env`.
pub(super) fn variables(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, variable) in list.iter().enumerate() {
        let at = path.index(index);
        let name = variable.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.invalid_all(&at.child("name"), name, names::env_var(name));
        }
        if variable.has("valueFrom") {
            value_from(variable, &at.child("valueFrom"), errors);
        }
    }
}

fn value_from(variable: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let from = variable.field("valueFrom");
    let mut sources = 0;
    if from.has("fieldRef") {
        sources += 1;
        field_ref(from.field("fieldRef"), &ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if from.has("resourceFieldRef") {
        sources += 1;
        resource_ref(from.field("resourceFieldRef"), false, &path.child("resourceFieldRef"), errors);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if from.has(kind) {
            sources += 1;
            key_ref(from.field(kind), &path.child(kind), errors);
        }
    }
    if from.has("fileKeyRef") {
        sources += 1;
        file_ref(from.field("fileKeyRef"), &path.child("fileKeyRef"), errors);
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(path, "", detail);
    } else if !variable.text("value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn key_ref(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (name, key) = (of.text("name"), of.text("key"));
    errors.invalid_all(&path.child("name"), name, names::subdomain(name));
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        errors.invalid_all(&path.child("key"), key, names::config_map_key(key));
    }
}

fn file_ref(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let checks: [(&str, Rule); 3] = [
        ("key", names::env_var),
        ("volumeName", names::label),
        ("path", |text| match text.split('/').any(|part| part == "..") {
            true => vec!["must not contain '..'".to_owned()],
            false => Vec::new(),
        }),
    ];
    for (name, check) in checks {
        let value = of.text(name);
        if value.is_empty() {
            errors.required(&path.child(name), "");
        } else {
            errors.invalid_all(&path.child(name), value, check(value));
        }
    }
}

/// Rules for a reference to a field of the pod from a volume.
pub(super) fn volume_field_ref(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    field_ref(of, &VOLUME_FIELDS, path, errors);
}

fn field_ref(of: &Value, allowed: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    let field = of.text("fieldPath");
    if of.text("apiVersion").is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    if field.is_empty() {
        errors.required(&path.child("fieldPath"), "");
        return;
    }
    if of.text("apiVersion") != "v1" {
        let detail =
            format!("error converting fieldPath: unsupported pod version: {}", of.text("apiVersion"));
        errors.invalid(&path.child("fieldPath"), field, detail);
        return;
    }
    let subscript = field.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    if let Some((map, key)) = subscript {
        match map {
            "metadata.annotations" => {
                errors.invalid_all(path, &key.to_lowercase(), names::qualified(&key.to_lowercase()))
            }
            "metadata.labels" => errors.invalid_all(path, key, names::qualified(key)),
            _ => unknown_label(field, path, errors),
        }
        return;
    }
    let known = ENV_FIELDS.contains(&field) || VOLUME_FIELDS.contains(&field);
    if !known && !matches!(field, "spec.restartPolicy" | "spec.schedulerName" | "status.phase") {
        unknown_label(field, path, errors);
    } else if !allowed.contains(&field) {
        errors.one_of(&path.child("fieldPath"), field, allowed);
    }
}

fn unknown_label(field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let detail = format!("error converting fieldPath: field label not supported: {field}");
    errors.invalid(&path.child("fieldPath"), field, detail);
}

/// Rules for a reference to a resource of a container.
pub(super) fn resource_ref(of: &Value, in_volume: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let resource = of.text("resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if in_volume && of.text("containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !huge {
        errors.one_of(&path.child("resource"), resource, &RESOURCES);
    }
    const SIZES: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let divisor = of.text("divisor");
    if divisor.is_empty() || divisor == "0" {
        return;
    }
    let (allowed, kind): (&[&str], &str) = match resource.split_once('.').map_or("", |(_, name)| name) {
        "cpu" => (&["1m", "1"], "cpu"),
        "memory" => (&SIZES, "memory"),
        "ephemeral-storage" => (&SIZES, "local ephemeral storage"),
        _ if huge => (&SIZES, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor) {
        let list = if kind == "cpu" { "1m and 1".to_owned() } else { SIZES.join(", ") };
        let detail = format!("only divisor's values {list} are supported with the {kind} resource");
        errors.invalid(&path.child("divisor"), resource, detail);
    }
}

/// Rules for `envFrom`.
pub(super) fn sources(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, source) in list.iter().enumerate() {
        let at = path.index(index);
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            errors.invalid_all(&at.child("prefix"), prefix, names::env_var(prefix));
        }
        let mut found = 0;
        for kind in ["configMapRef", "secretRef"] {
            if !source.has(kind) {
                continue;
            }
            found += 1;
            let name = source.field(kind).text("name");
            let at = at.child(kind);
            if name.is_empty() {
                errors.required(&at.child("name"), "");
            } else {
                errors.invalid_all(&at.child("name"), name, names::dns_subdomain(name, true));
            }
        }
        if found == 0 {
            errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if found > 1 {
            errors.invalid(path, "", "may not have more than one field specified at a time");
        }
    }
}
