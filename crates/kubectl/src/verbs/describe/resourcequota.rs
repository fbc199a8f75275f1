//! Resource quotas.

use serde_json::Value;

use super::Subject;
use super::text::{Text, entries, items, text};

const SCOPES: [(&str, &str); 4] = [
    (
        "Terminating",
        "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being \
         actively terminated by the system.",
    ),
    (
        "NotTerminating",
        "Matches all pods that do not have an active deadline. These pods usually include long running pods whose \
         container command is not expected to terminate.",
    ),
    (
        "BestEffort",
        "Matches all pods that do not have resource requirements set. These pods have a best effort quality of \
         service.",
    ),
    (
        "NotBestEffort",
        "Matches all pods that have at least one resource requirement set. These pods have a burstable or \
         guaranteed quality of service.",
    ),
];

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let quota = subject.object;
    out.field("Name", text(&quota["metadata"]["name"]));
    out.field("Namespace", text(&quota["metadata"]["namespace"]));
    scopes(out, quota, 0, " * ");
    out.line(0, "Resource\tUsed\tHard");
    out.line(0, "--------\t----\t----");
    figures(out, quota, 0);
}

/// All quotas of a namespace.
pub(super) fn of_namespace(out: &mut Text, quotas: &[Value]) {
    if quotas.is_empty() {
        return out.line(0, "No resource quota.");
    }
    out.line(0, "Resource Quotas");
    for quota in quotas {
        out.field_at(1, "Name", text(&quota["metadata"]["name"]));
        scopes(out, quota, 1, "* ");
        out.line(1, "Resource\tUsed\tHard");
        out.line(1, "--------\t---\t---");
        figures(out, quota, 1);
    }
}

fn scopes(out: &mut Text, quota: &Value, level: usize, bullet: &str) {
    let mut scopes: Vec<&str> = items(&quota["spec"]["scopes"]).map(text).collect();
    scopes.sort_unstable();
    if scopes.is_empty() {
        return;
    }
    out.field_at(level, "Scopes", scopes.join(", "));
    for scope in scopes {
        if let Some((_, help)) = SCOPES.iter().find(|(name, _)| *name == scope) {
            out.line(level, format_args!("{bullet}{help}"));
        }
    }
}

fn figures(out: &mut Text, quota: &Value, level: usize) {
    for (name, hard) in entries(&quota["status"]["hard"]) {
        let used = match &quota["status"]["used"][name] {
            Value::Null => "0".to_owned(),
            used => crate::jsonpath::plain(used),
        };
        out.line(level, format_args!("{name}\t{used}\t{}", crate::jsonpath::plain(hard)));
    }
}
