//! Services.

use serde_json::Value;

use super::text::{Text, inline_labels, items, joined, number, text, text_or};
use super::{Query, Subject, endpointslice};

pub(super) fn related(service: &Value) -> Vec<Query> {
    let metadata = &service["metadata"];
    vec![endpointslice::of_service(text(&metadata["namespace"]), text(&metadata["name"]))]
}

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let or_none = |value: &Value| match joined(value, ",") {
        none if none.is_empty() => "<none>".to_owned(),
        some => some,
    };
    out.field("Name", text(&metadata["name"]));
    out.field("Namespace", text(&metadata["namespace"]));
    out.metadata(object);
    out.field("Selector", inline_labels(&spec["selector"]));
    out.field("Type", text(&spec["type"]));
    if spec.get("ipFamilyPolicy").is_some() {
        out.field("IP Family Policy", text(&spec["ipFamilyPolicy"]));
    }
    out.field("IP Families", or_none(&spec["ipFamilies"]));
    out.field("IP", text(&spec["clusterIP"]));
    out.field("IPs", or_none(&spec["clusterIPs"]));
    if items(&spec["externalIPs"]).next().is_some() {
        out.field("External IPs", joined(&spec["externalIPs"], ","));
    }
    for (title, field) in [("Desired LoadBalancer IP", "loadBalancerIP"), ("External Name", "externalName")] {
        if !text(&spec[field]).is_empty() {
            out.field(title, text(&spec[field]));
        }
    }
    if items(&status["loadBalancer"]["ingress"]).next().is_some() {
        out.field("LoadBalancer Ingress", balancers(&status["loadBalancer"]["ingress"]));
    }
    for port in items(&spec["ports"]) {
        write_port(out, port, subject.related(0));
    }
    out.field("Session Affinity", text(&spec["sessionAffinity"]));
    for (title, field) in [
        ("External Traffic Policy", "externalTrafficPolicy"),
        ("Internal Traffic Policy", "internalTrafficPolicy"),
    ] {
        if !text(&spec[field]).is_empty() {
            out.field(title, text(&spec[field]));
        }
    }
    if number(&spec["healthCheckNodePort"]) != 0 {
        out.field("HealthCheck NodePort", number(&spec["healthCheckNodePort"]));
    }
    if items(&spec["loadBalancerSourceRanges"]).next().is_some() {
        out.field("LoadBalancer Source Ranges", joined(&spec["loadBalancerSourceRanges"], ","));
    }
    if spec.get("trafficDistribution").is_some() {
        out.field("Traffic Distribution", text(&spec["trafficDistribution"]));
    }
}

fn balancers(list: &Value) -> String {
    let shown = |one: &Value| match (text(&one["ip"]), text(&one["ipMode"])) {
        ("", _) => text(&one["hostname"]).to_owned(),
        (ip, "") => ip.to_owned(),
        (ip, mode) => format!("{ip} ({mode})"),
    };
    items(list).map(shown).collect::<Vec<_>>().join(", ")
}

fn write_port(out: &mut Text, port: &Value, slices: &[Value]) {
    let name = text_or(&port["name"], "<unset>");
    let protocol = text_or(&port["protocol"], "TCP");
    out.field("Port", format_args!("{name}\t{}/{protocol}", number(&port["port"])));
    let target = match &port["targetPort"] {
        Value::Null => "0".to_owned(),
        target => crate::jsonpath::plain(target),
    };
    out.field("TargetPort", format_args!("{target}/{protocol}"));
    if port.get("appProtocol").is_some() {
        out.field("AppProtocol", text(&port["appProtocol"]));
    }
    if number(&port["nodePort"]) != 0 {
        out.field("NodePort", format_args!("{name}\t{}/{protocol}", number(&port["nodePort"])));
    }
    out.field("Endpoints", endpointslice::addresses(slices, text(&port["name"])));
}
