//! Network policies.

use serde_json::Value;

use super::Subject;
use super::text::{Text, items, joined, selector, text, text_or};

/// What a direction is called.
struct Direction {
    name: &'static str,
    rules: &'static str,
    peers: &'static str,
    title: &'static str,
    end: &'static str,
}

const DIRECTIONS: [Direction; 2] = [
    Direction { name: "Ingress", rules: "ingress", peers: "from", title: "From", end: "source" },
    Direction { name: "Egress", rules: "egress", peers: "to", title: "To", end: "destination" },
];

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    out.field("Name", text(&metadata["name"]));
    out.field("Namespace", text(&metadata["namespace"]));
    out.field("Created on", created(&metadata["creationTimestamp"]));
    out.metadata(object);
    out.line(0, "Spec:");
    match crate::pods::selector_text(&spec["podSelector"]) {
        none if none.is_empty() => out
            .line(1, "PodSelector:     <none> (Allowing the specific traffic to all pods in this namespace)"),
        selector => out.line(1, format_args!("PodSelector:     {selector}")),
    }
    for direction in &DIRECTIONS {
        let name = direction.name.to_lowercase();
        if items(&spec["policyTypes"]).any(|one| one == direction.name) {
            out.line(1, format_args!("Allowing {name} traffic:"));
            rules(out, &spec[direction.rules], direction);
        } else {
            out.line(1, format_args!("Not affecting {name} traffic"));
        }
    }
    let types = joined(&spec["policyTypes"], ", ");
    out.line(1, format_args!("Policy Types: {}", if types.is_empty() { "<none>" } else { &types }));
}

/// A time as Go prints it.
fn created(value: &Value) -> String {
    match value.as_str().and_then(api::time::parse) {
        Some(time) => {
            time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
        }
        None => "0001-01-01 00:00:00 +0000 UTC".into(),
    }
}

fn rules(out: &mut Text, rules: &Value, direction: &Direction) {
    let name = direction.name.to_lowercase();
    let count = items(rules).count();
    if count == 0 {
        return out.line(2, format_args!("<none> (Selected pods are isolated for {name} connectivity)"));
    }
    for (index, rule) in items(rules).enumerate() {
        if items(&rule["ports"]).next().is_none() {
            out.line(2, "To Port: <any> (traffic allowed to all ports)");
        }
        for port in items(&rule["ports"]) {
            let protocol = text_or(&port["protocol"], "TCP");
            let start = match &port["port"] {
                Value::Null => "<nil>".to_owned(),
                port => crate::jsonpath::plain(port),
            };
            match port["endPort"].as_i64() {
                None => out.line(2, format_args!("To Port: {start}/{protocol}")),
                Some(end) => out.line(2, format_args!("To Port Range: {start}-{end}/{protocol}")),
            }
        }
        if items(&rule[direction.peers]).next().is_none() {
            let Direction { title, end, .. } = direction;
            out.line(2, format_args!("{title}: <any> (traffic not restricted by {end})"));
        }
        for peer in items(&rule[direction.peers]) {
            out.line(2, format_args!("{}:", direction.title));
            write_peer(out, peer);
        }
        if index + 1 < count {
            out.line(2, "----------");
        }
    }
}

fn write_peer(out: &mut Text, peer: &Value) {
    for (title, field) in [("NamespaceSelector", "namespaceSelector"), ("PodSelector", "podSelector")] {
        if peer.get(field).is_some() {
            out.line(3, format_args!("{title}: {}", selector(&peer[field])));
        }
    }
    if let Some(block) = peer.get("ipBlock") {
        out.line(3, "IPBlock:");
        out.line(4, format_args!("CIDR: {}", text(&block["cidr"])));
        out.line(4, format_args!("Except: {}", joined(&block["except"], ", ")));
    }
}
