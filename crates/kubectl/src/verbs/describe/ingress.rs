//! Ingresses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::text::{Text, items, joined, number, text, text_or};
use super::{Query, Subject, endpointslice};

/// The services and slices of the namespace: any of them may be a backend.
pub(super) fn related(ingress: &Value) -> Vec<Query> {
    let namespace = text(&ingress["metadata"]["namespace"]).to_owned();
    vec![
        Query { api_version: "v1", kind: "Service", namespace: namespace.clone(), ..Query::default() },
        Query { api_version: "discovery.k8s.io/v1", kind: "EndpointSlice", namespace, ..Query::default() },
    ]
}

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    out.field("Name", text(&metadata["name"]));
    out.labels("Labels", &metadata["labels"]);
    out.field("Namespace", text(&metadata["namespace"]));
    let addresses: BTreeSet<&str> = items(&object["status"]["loadBalancer"]["ingress"])
        .map(|one| text_or(&one["ip"], text(&one["hostname"])))
        .filter(|address| !address.is_empty())
        .collect();
    out.field("Address", addresses.into_iter().collect::<Vec<_>>().join(","));
    out.field("Ingress Class", text_or(&spec["ingressClassName"], "<none>"));
    let default = match spec.get("defaultBackend") {
        Some(of) => backend(of, subject),
        None => "<default>".to_owned(),
    };
    out.field("Default backend", &default);
    if items(&spec["tls"]).next().is_some() {
        out.line(0, "TLS:");
    }
    for one in items(&spec["tls"]) {
        let hosts = joined(&one["hosts"], ",");
        match text(&one["secretName"]) {
            "" => out.line(1, format_args!("SNI routes {hosts}")),
            secret => out.line(1, format_args!("{secret} terminates {hosts}")),
        }
    }
    out.line(0, "Rules:\n  Host\tPath\tBackends");
    out.line(1, "----\t----\t--------");
    let mut any = false;
    for rule in items(&spec["rules"]).filter(|rule| rule.get("http").is_some()) {
        any = true;
        out.line(1, format_args!("{}\t", text_or(&rule["host"], "*")));
        for path in items(&rule["http"]["paths"]) {
            out.line(2, format_args!("\t{} \t{}", text(&path["path"]), backend(&path["backend"], subject)));
        }
    }
    if !any {
        out.line(1, format_args!("*\t*\t{default}"));
    }
    out.annotations("Annotations", &metadata["annotations"]);
}

fn backend(backend: &Value, subject: &Subject<'_>) -> String {
    if let Some(resource) = backend.get("resource") {
        return format!(
            "APIGroup: {}, Kind: {}, Name: {}",
            text_or(&resource["apiGroup"], "<none>"),
            text(&resource["kind"]),
            text(&resource["name"])
        );
    }
    let wanted = &backend["service"];
    let (name, port) = (text(&wanted["name"]), &wanted["port"]);
    let shown_port = match number(&port["number"]) {
        0 => text(&port["name"]).to_owned(),
        number => number.to_string(),
    };
    let label = format!("{name}:{shown_port}");
    let Some(service) = subject.related(0).iter().find(|one| one["metadata"]["name"] == name) else {
        return format!("{label} (<error: services {name:?} not found>)");
    };
    let is_meant = |one: &&Value| match number(&port["number"]) {
        0 => !text(&port["name"]).is_empty() && one["name"] == port["name"],
        number => one["port"] == number,
    };
    let port_name = items(&service["spec"]["ports"]).find(is_meant).map_or("", |one| text(&one["name"]));
    let slices: Vec<Value> = subject
        .related(1)
        .iter()
        .filter(|one| one["metadata"]["labels"]["kubernetes.io/service-name"] == name)
        .cloned()
        .collect();
    format!("{label} ({})", endpointslice::addresses(&slices, port_name))
}
