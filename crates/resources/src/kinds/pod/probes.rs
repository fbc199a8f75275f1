//! Rules for probes and lifecycle hooks.

use api::{ErrorList, Path};
use serde_json::Value;

use super::spec::Context;
use crate::fields::Fields;
use crate::names;
use crate::report::Report;

/// Rules for a probe; `kind` is the field that holds it.
pub(super) fn probe(
    context: &Context<'_>,
    probe: &Value,
    kind: &str,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    if probe.is_null() {
        return;
    }
    handler(context, probe, &["exec", "httpGet", "tcpSocket", "grpc"], path, errors);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        errors.not_negative(probe, field, path);
    }
    let grace = probe.int("terminationGracePeriodSeconds");
    if let Some(grace) = grace.filter(|grace| *grace <= 0) {
        errors.invalid(&path.child("terminationGracePeriodSeconds"), grace, "must be greater than 0");
    }
    if kind == "readinessProbe" {
        if let Some(grace) = grace {
            let detail = "must not be set for readinessProbes";
            errors.invalid(&path.child("terminationGracePeriodSeconds"), grace, detail);
        }
    } else {
        let threshold = probe.int("successThreshold").unwrap_or_default();
        if threshold != 1 {
            errors.invalid(&path.child("successThreshold"), threshold, "must be 1");
        }
    }
}

/// Rules for lifecycle hooks.
pub(super) fn lifecycle(context: &Context<'_>, lifecycle: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for hook in ["postStart", "preStop"] {
        if lifecycle.has(hook) {
            let kinds = ["exec", "httpGet", "tcpSocket", "sleep"];
            handler(context, lifecycle.field(hook), &kinds, &path.child(hook), errors);
        }
    }
    if lifecycle.has("stopSignal") {
        let (signal, path) = (lifecycle.text("stopSignal"), path.child("stopSignal"));
        match context.spec.field("os").text("name") {
            "" => errors.forbidden(&path, "may not be set for containers with empty `spec.os.name`"),
            "windows" => errors.one_of(&path, signal, &["SIGKILL", "SIGTERM"]),
            _ if !signal.starts_with("SIG") => errors.one_of(&path, signal, &["SIGKILL", "SIGTERM"]),
            _ => {}
        }
    }
}

fn handler(context: &Context<'_>, owner: &Value, kinds: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    let mut found = 0;
    for kind in kinds.iter().copied().filter(|kind| owner.has(kind)) {
        let at = path.child(kind);
        found += 1;
        if found > 1 {
            errors.forbidden(&at, "may not specify more than 1 handler type");
            continue;
        }
        let action = owner.field(kind);
        match kind {
            "exec" if action.list("command").is_empty() => errors.required(&at.child("command"), ""),
            "httpGet" => http_get(action, &at, errors),
            "tcpSocket" | "grpc" => port(action.field("port"), &at.child("port"), errors),
            "sleep" => {
                let (seconds, grace) = (action.int("seconds").unwrap_or_default(), context.grace());
                if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
                    let detail =
                        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.invalid(&at, seconds, detail);
                }
            }
            _ => {}
        }
    }
    if found == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(action: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    errors.required_text(action, "path", path);
    port(action.field("port"), &path.child("port"), errors);
    errors.one_of(&path.child("scheme"), action.text("scheme"), &["HTTP", "HTTPS"]);
    for header in action.list("httpHeaders") {
        let name = header.text("name");
        errors.invalid_all(&path.child("httpHeaders"), name, names::http_header(name));
    }
}

/// Rules for a port by number or name.
pub(crate) fn port(port: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(name) = port.as_str() {
        errors.invalid_all(path, name, names::port_name(name));
        return;
    }
    errors.port(path, port.as_i64().unwrap_or_default());
}
