//! Endpoints and endpoint slices.

use std::collections::HashSet;
use std::net::IpAddr;

use api::{ErrorList, FieldError, Object, Path};
use jiff::Timestamp;
use serde_json::Value;

use super::cells;
use crate::fields::{Fields, default_text, default_to, objects_in};
use crate::report::Report;
use crate::{Part, Strategy, metadata, names};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// The behaviour of endpoints.
pub(super) struct Endpoints;
/// The behaviour of endpoint slices.
pub(super) struct EndpointSlice;

/// Rules for an address that traffic can be sent to (`ValidateEndpointIP`).
pub(super) fn reachable(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(ip) = names::parse_ip(text) else {
        errors.invalid(path, text, "must be a valid IP address");
        return;
    };
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0 == 0xfe80, ip.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        errors.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        errors.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        errors.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        errors.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

impl Strategy for Endpoints {
    fn default(&self, object: &mut Object) {
        for subset in objects_in(object.as_map_mut(), "subsets") {
            for port in objects_in(subset, "ports") {
                default_text(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("subsets");
        for (index, subset) in object.list("subsets").iter().enumerate() {
            let at = path.index(index);
            if subset.list("addresses").is_empty() && subset.list("notReadyAddresses").is_empty() {
                errors.required(&at, "must specify `addresses` or `notReadyAddresses`");
            }
            for list in ["addresses", "notReadyAddresses"] {
                for (index, one) in subset.list(list).iter().enumerate() {
                    address(one, &at.child(list).index(index), &mut errors);
                }
            }
            let ports = subset.list("ports");
            for (index, one) in ports.iter().enumerate() {
                port(one, ports.len() > 1, &at.child("ports").index(index), &mut errors);
            }
        }
        errors
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn warnings(&self, _new: &Object, _old: Option<&Object>) -> Vec<String> {
        vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()]
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let mut all = Vec::new();
        for subset in object.list("subsets") {
            let addresses = subset.list("addresses").iter().map(|one| one.text("ip"));
            if subset.list("ports").is_empty() {
                all.extend(addresses.map(str::to_owned));
                continue;
            }
            for port in subset.list("ports") {
                let number = port.int("port").unwrap_or_default();
                all.extend(addresses.clone().map(|ip| match ip.contains(':') {
                    true => format!("[{ip}]:{number}"),
                    false => format!("{ip}:{number}"),
                }));
            }
        }
        let shown = match object.list("subsets").is_empty() {
            true => "<none>".to_owned(),
            false => cells::first_few(&all, 3),
        };
        vec![object.name().into(), shown.into(), metadata::age(object, now).into()]
    }
}

fn address(one: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let ip = one.text("ip");
    errors.invalid_all(&path.child("ip"), ip, names::ip(ip));
    if !one.text("hostname").is_empty() {
        errors.invalid_all(&path.child("hostname"), one.text("hostname"), names::label(one.text("hostname")));
    }
    if one.has("nodeName") {
        errors.invalid_all(
            &path.child("nodeName"),
            one.text("nodeName"),
            names::subdomain(one.text("nodeName")),
        );
    }
    reachable(ip, &path.child("ip"), errors);
}

fn port(one: &Value, named: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let name = one.text("name");
    if !name.is_empty() {
        errors.invalid_all(&path.child("name"), name, names::label(name));
    } else if named {
        errors.required(&path.child("name"), "");
    }
    let number = one.int("port").unwrap_or_default();
    errors.port(&path.child("port"), number);
    errors.required_one_of(&path.child("protocol"), one.text("protocol"), &PROTOCOLS);
    if one.has("appProtocol") {
        let text = one.text("appProtocol");
        errors.invalid_all(&path.child("appProtocol"), text, names::qualified(text));
    }
}

impl Strategy for EndpointSlice {
    fn default(&self, object: &mut Object) {
        for port in objects_in(object.as_map_mut(), "ports") {
            default_to(port, "name", "");
            default_to(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, object: &mut Object) {
        metadata::first_generation(object);
    }

    fn prepare_update(&self, _part: Part<'_>, new: &mut Object, old: &Object) {
        let changed = ["ports", "endpoints"]
            .iter()
            .any(|field| !crate::fields::same(new.field(field), old.field(field)));
        let labels = new.field("metadata").field("labels") != old.field("metadata").field("labels");
        new.set_at(&["metadata", "generation"], old.generation() + i64::from(changed || labels));
    }

    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let kind = object.text(&["addressType"]);
        errors.required_one_of(&Path::new("addressType"), kind, &["FQDN", "IPv4", "IPv6"]);
        slice_ports(object.list("ports"), &Path::new("ports"), &mut errors);
        let (endpoints, path) = (object.list("endpoints"), Path::new("endpoints"));
        if endpoints.len() > 1000 {
            errors.add(FieldError::too_many(&path, endpoints.len(), 1000));
            return errors;
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            slice_endpoint(endpoint, kind, &path.index(index), &mut errors);
        }
        errors
    }

    fn validate_update(&self, _part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("addressType");
        metadata::immutable(new.field("addressType"), old.field("addressType"), &path, &mut errors);
        errors
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let ports: Vec<String> = object
            .list("ports")
            .iter()
            .map(|port| match (port.int("port"), port.field("name").as_str()) {
                (Some(number), _) => number.to_string(),
                (None, Some(name)) => name.to_owned(),
                (None, None) => "*".to_owned(),
            })
            .collect();
        let addresses: Vec<String> = object
            .list("endpoints")
            .iter()
            .flat_map(|one| one.list("addresses"))
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect();
        vec![
            object.name().into(),
            object.text(&["addressType"]).into(),
            cells::or(&cells::first_few(&ports, 3), "<unset>").into(),
            cells::or(&cells::first_few(&addresses, 3), "<unset>").into(),
            metadata::age(object, now).into(),
        ]
    }
}

fn slice_ports(ports: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    if ports.len() > 20_000 {
        errors.add(FieldError::too_many(path, ports.len(), 20_000));
        return;
    }
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (name, at) = (port.text("name"), path.index(index));
        if !name.is_empty() {
            errors.invalid_all(&at.child("name"), name, names::label(name));
        }
        if !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        errors.required_one_of(&at.child("protocol"), port.text("protocol"), &PROTOCOLS);
        if port.has("appProtocol") {
            let text = port.text("appProtocol");
            errors.invalid_all(&at.child("appProtocol"), text, names::qualified(text));
        }
    }
}

fn slice_endpoint(endpoint: &Value, kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let (addresses, at) = (endpoint.list("addresses"), path.child("addresses"));
    if addresses.is_empty() {
        errors.required(&at, "must contain at least 1 address");
    } else if addresses.len() > 100 {
        errors.add(FieldError::too_many(&at, addresses.len(), 100));
    }
    for (index, address) in addresses.iter().enumerate() {
        let (address, one) = (address.as_str().unwrap_or_default(), at.index(index));
        if kind == "FQDN" {
            errors.invalid_all(&one, address, names::subdomain(address.strip_suffix('.').unwrap_or(address)));
            continue;
        }
        let found = names::ip(address);
        if !found.is_empty() {
            errors.invalid_all(&one, address, found);
            continue;
        }
        if (kind == "IPv6") != address.contains(':') {
            let article = format!("must be an {kind} address");
            errors.invalid(&at, address, article);
        }
        reachable(address, &one, errors);
    }
    if endpoint.has("nodeName") {
        let name = endpoint.text("nodeName");
        errors.invalid_all(&path.child("nodeName"), name, names::subdomain(name));
    }
    metadata::labels(endpoint.field("deprecatedTopology"), &path.child("deprecatedTopology"), errors);
    if endpoint.has("hostname") {
        let name = endpoint.text("hostname");
        errors.invalid_all(&path.child("hostname"), name, names::label(name));
    }
    let (hints, path) = (endpoint.field("hints"), path.child("hints"));
    for (list, check) in [("forZones", names::label_value as fn(&str) -> _), ("forNodes", names::subdomain)] {
        let (all, at) = (hints.list(list), path.child(list));
        if all.len() > 8 {
            errors.add(FieldError::too_many(&at, all.len(), 8));
            continue;
        }
        let mut seen = HashSet::new();
        for (index, one) in all.iter().enumerate() {
            let (name, at) = (one.text("name"), at.index(index));
            if !seen.insert(name) {
                errors.duplicate(&at.child("name"), name);
            }
            errors.invalid_all(&at.child("name"), name, check(name));
        }
    }
}
