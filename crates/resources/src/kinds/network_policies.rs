//! Rules for network policies (`ValidateNetworkPolicy`).

use api::{ErrorList, Object, Path};
use ipnet::IpNet;
use serde_json::Value;

use super::pod::scheduling::label_selector;
use crate::fields::Fields;
use crate::names;
use crate::report::Report;

const TYPES: [&str; 2] = ["Ingress", "Egress"];

/// Rules for a policy by itself.
pub(super) fn policy(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    label_selector(spec.field("podSelector"), &path.child("podSelector"), &mut errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let list = path.child(direction);
        for (index, rule) in spec.list(direction).iter().enumerate() {
            let at = list.index(index);
            for (index, one) in rule.list("ports").iter().enumerate() {
                port(one, &at.child("ports").index(index), &mut errors);
            }
            for (index, one) in rule.list(peers).iter().enumerate() {
                peer(one, &at.child(peers).index(index), &mut errors);
            }
        }
    }
    let (types, at) = (spec.list("policyTypes"), path.child("policyTypes"));
    if types.len() > TYPES.len() {
        errors.invalid(&at, types.to_vec(), "may not specify more than two policyTypes");
        return errors;
    }
    for (index, one) in types.iter().enumerate() {
        errors.one_of(&at.index(index), one.as_str().unwrap_or_default(), &TYPES);
    }
    errors
}

fn port(port: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if port.has("protocol") {
        errors.one_of(&path.child("protocol"), port.text("protocol"), &["TCP", "UDP", "SCTP"]);
    }
    let (number, last) = (port.field("port"), port.int("endPort"));
    let (at, end) = (path.child("port"), path.child("endPort"));
    if let Some(first) = number.as_i64() {
        errors.port(&at, first);
        if let Some(last) = last {
            if last < first {
                errors.invalid(&end, first, "must be greater than or equal to `port`");
            }
            errors.port(&end, last);
        }
        return;
    }
    if let Some(last) = last {
        let what = if number.is_null() { "not specified" } else { "non-numeric" };
        errors.invalid(&end, last, format!("may not be specified when `port` is {what}"));
    }
    if let Some(name) = number.as_str() {
        errors.invalid_all(&at, name, names::port_name(name));
    }
}

fn peer(peer: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut found = 0;
    for field in ["podSelector", "namespaceSelector"].into_iter().filter(|field| peer.has(field)) {
        found += 1;
        label_selector(peer.field(field), &path.child(field), errors);
    }
    if peer.has("ipBlock") {
        found += 1;
        block(peer.field("ipBlock"), &path.child("ipBlock"), errors);
    }
    if found == 0 {
        errors.required(path, "must specify a peer");
    } else if found > 1 && peer.has("ipBlock") {
        errors.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

fn block(block: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (text, at) = (block.text("cidr"), path.child("cidr"));
    if text.is_empty() {
        errors.required(&at, "");
        return;
    }
    let Some(all) = cidr(text, &at, errors) else { return };
    let at = path.child("except");
    for (index, one) in block.list("except").iter().enumerate() {
        let (text, at) = (one.as_str().unwrap_or_default(), at.index(index));
        let Some(net) = cidr(text, &at, errors) else { continue };
        if !all.contains(&net.addr()) || all.prefix_len() >= net.prefix_len() {
            errors.invalid(&at, text, "must be a strict subset of `cidr`");
        }
    }
}

/// Bits beyond the prefix are taken, as the field always took them.
fn cidr(text: &str, path: &Path<'_>, errors: &mut ErrorList) -> Option<IpNet> {
    let net = text.parse().ok();
    if net.is_none() {
        errors.invalid_all(path, text, names::cidr(text));
    }
    net
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(spec: Value) -> Vec<String> {
        let object = Object::from_value(json!({"spec": spec})).expect("an object");
        policy(&object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn policies() {
        let rule = |field: &str, value: Value| json!({"podSelector": {}, "ingress": [{field: [value]}]});
        for good in [
            json!({"podSelector": {"matchLabels": {"a": "b"}}}),
            rule("ports", json!({"protocol": "TCP", "port": 80, "endPort": 90})),
            rule("ports", json!({"port": "http"})),
            rule("from", json!({"podSelector": {}, "namespaceSelector": {}})),
            rule("from", json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}})),
        ] {
            assert_eq!(told(good), Vec::<String>::new());
        }
        let port = "spec.ingress[0].ports[0]";
        let peer = "spec.ingress[0].from[0]";
        let table = [
            (
                rule("ports", json!({"protocol": "ICMP"})),
                format!(
                    "{port}.protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\""
                ),
            ),
            (
                rule("ports", json!({"port": 0})),
                format!("{port}.port: Invalid value: 0: must be between 1 and 65535, inclusive"),
            ),
            (
                rule("ports", json!({"port": 90, "endPort": 80})),
                format!("{port}.endPort: Invalid value: 90: must be greater than or equal to `port`"),
            ),
            (
                rule("ports", json!({"endPort": 80})),
                format!(
                    "{port}.endPort: Invalid value: 80: may not be specified when `port` is not specified"
                ),
            ),
            (rule("from", json!({})), format!("{peer}: Required value: must specify a peer")),
            (
                rule("from", json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
                format!("{peer}: Forbidden: may not specify both ipBlock and another peer"),
            ),
            (rule("from", json!({"ipBlock": {}})), format!("{peer}.ipBlock.cidr: Required value")),
            (
                rule("from", json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}})),
                format!(
                    "{peer}.ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"
                ),
            ),
            (
                json!({"podSelector": {}, "policyTypes": ["Both"]}),
                "spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\""
                    .into(),
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(told(spec), [expected]);
        }
    }
}
