//! Endpoint slices, and the endpoints of a service's port in one line.

use serde_json::Value;

use super::text::{Text, items, joined, number, text, text_or};
use super::{Query, Subject};

/// So many addresses are shown in one line.
const SHOWN: usize = 3;

/// The slices of a service.
pub(super) fn of_service(namespace: &str, service: &str) -> Query {
    Query {
        api_version: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        namespace: namespace.to_owned(),
        labels: format!("kubernetes.io/service-name={service}"),
        ..Query::default()
    }
}

/// The ready addresses of a port, the first of them.
pub(super) fn addresses(slices: &[Value], port_name: &str) -> String {
    if slices.is_empty() {
        return "<none>".into();
    }
    let mut all = Vec::new();
    for slice in slices {
        let ready = || {
            items(&slice["endpoints"])
                .filter(|one| one["conditions"]["ready"] != false)
                .map(|one| text(&one["addresses"][0]))
        };
        if items(&slice["ports"]).next().is_none() {
            all.extend(ready().map(str::to_owned));
        }
        for port in items(&slice["ports"]).filter(|port| text(&port["name"]) == port_name) {
            all.extend(ready().map(|address| host_port(address, number(&port["port"]))));
        }
    }
    let more = all.len().saturating_sub(SHOWN);
    let first = all[..all.len() - more].join(",");
    if more > 0 { format!("{first} + {more} more...") } else { first }
}

fn host_port(host: &str, port: i64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let slice = subject.object;
    out.field("Name", text(&slice["metadata"]["name"]));
    out.field("Namespace", text(&slice["metadata"]["namespace"]));
    out.metadata(slice);
    out.field("AddressType", text(&slice["addressType"]));
    if items(&slice["ports"]).next().is_none() {
        out.line(0, "Ports: <unset>");
    } else {
        out.line(0, "Ports:");
        out.line(1, "Name\tPort\tProtocol");
        out.line(1, "----\t----\t--------");
        for port in items(&slice["ports"]) {
            let number = port["port"].as_i64().map_or("<unset>".to_owned(), |number| number.to_string());
            let protocol = text_or(&port["protocol"], "TCP");
            out.line(1, format_args!("{}\t{number}\t{protocol}", text_or(&port["name"], "<unset>")));
        }
    }
    if items(&slice["endpoints"]).next().is_none() {
        return out.line(0, "Endpoints: <none>");
    }
    out.line(0, "Endpoints:");
    for one in items(&slice["endpoints"]) {
        endpoint(out, one);
    }
}

fn endpoint(out: &mut Text, one: &Value) {
    let addresses = joined(&one["addresses"], ", ");
    out.field_at(1, "- Addresses", if addresses.is_empty() { "<none>" } else { &addresses });
    out.line(2, "Conditions:");
    let ready = one["conditions"]["ready"].as_bool().map_or("<unset>".to_owned(), |ready| ready.to_string());
    out.field_at(3, "Ready", ready);
    out.field_at(2, "Hostname", one["hostname"].as_str().unwrap_or("<unset>"));
    if let Some(target) = one.get("targetRef") {
        out.field_at(2, "TargetRef", format_args!("{}/{}", text(&target["kind"]), text(&target["name"])));
    }
    out.field_at(2, "NodeName", one["nodeName"].as_str().unwrap_or("<unset>"));
    out.field_at(2, "Zone", one["zone"].as_str().unwrap_or("<unset>"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_addresses_are_shown() {
        let endpoint = |address: &str| json!({"addresses": [address], "conditions": {"ready": true}});
        let slice = |count: usize| {
            json!({"ports": [{"name": "web", "port": 80}],
                   "endpoints": (0..count).map(|at| endpoint(&format!("10.0.0.{at}"))).collect::<Vec<_>>()})
        };
        assert_eq!(addresses(&[], "web"), "<none>");
        assert_eq!(addresses(&[slice(1)], "web"), "10.0.0.0:80");
        assert_eq!(addresses(&[slice(1)], "other"), "");
        assert_eq!(addresses(&[slice(5)], "web"), "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more...");
        let six = json!({"ports": [{"name": "", "port": 1}], "endpoints": [endpoint("fd00::1")]});
        assert_eq!(addresses(&[six], ""), "[fd00::1]:1");
    }
}
