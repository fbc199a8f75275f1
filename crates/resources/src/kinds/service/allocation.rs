//! What a service needs of the cluster's addresses and node ports, and what of
//! it survives a change. Pure: the API server allocates.

use api::Object;
use serde_json::Value;

use super::is_external;
use crate::fields::{Fields, object_in, objects_in, same};

/// Whether the service has an address of its own, or says that it has none.
#[must_use]
pub fn needs_cluster_ip(service: &Object) -> bool {
    matches!(service.field("spec").text("type"), "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Whether the service asked for no address.
#[must_use]
pub fn is_headless(service: &Object) -> bool {
    let spec = service.field("spec");
    spec.text("clusterIP") == "None" || spec.list("clusterIPs").first().is_some_and(|one| one == "None")
}

/// Whether each port needs a node port.
#[must_use]
pub fn needs_node_port(service: &Object) -> bool {
    let spec = service.field("spec");
    match spec.text("type") {
        "NodePort" => true,
        "LoadBalancer" => spec.field("allocateLoadBalancerNodePorts").as_bool().unwrap_or(true),
        _ => false,
    }
}

/// Whether the service needs a node port for health checks.
#[must_use]
pub fn needs_health_check(service: &Object) -> bool {
    let spec = service.field("spec");
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

/// The node ports that are named, with their protocols.
#[must_use]
pub fn requested_node_ports(service: &Object) -> Vec<(i64, String)> {
    let ports = service.field("spec").list("ports").iter();
    ports
        .map(|port| (port.int("nodePort").unwrap_or_default(), port.text("protocol").to_owned()))
        .filter(|(number, _)| *number != 0)
        .collect()
}

/// Brings `clusterIP` and `clusterIPs` together: the older field leads.
pub(super) fn normalize(service: &mut Object, old: Option<&Object>) {
    let field = |of: &Object| of.field("spec").text("clusterIP").to_owned();
    let list = |of: &Object| of.field("spec").list("clusterIPs").to_vec();
    let (one, all) = (field(service), list(service));
    match old {
        None if !one.is_empty() && all.is_empty() => {
            service.set_at(&["spec", "clusterIPs"], vec![Value::from(one)])
        }
        None => {}
        Some(old) if field(old) != one && list(old) == all => {
            if one.is_empty() {
                service.remove_at(&["spec", "clusterIPs"]);
            } else {
                service.set_at(&["spec", "clusterIPs"], vec![Value::from(one)]);
            }
        }
        Some(_) => {}
    }
}

/// Keeps what was allocated where the client left it out.
pub(super) fn keep(new: &mut Object, old: &Object) {
    let before = old.field("spec").clone();
    let (ip, ports, check) = (
        needs_cluster_ip(old) && needs_cluster_ip(new),
        needs_node_port(old) && needs_node_port(new),
        needs_health_check(old) && needs_health_check(new),
    );
    let Some(spec) = object_in(new.as_map_mut(), "spec") else { return };
    if ip {
        if spec.text("clusterIP").is_empty() && before.has("clusterIP") {
            spec.insert("clusterIP".into(), before.field("clusterIP").clone());
        }
        if spec.list("clusterIPs").is_empty()
            && spec.text("clusterIP") == before.text("clusterIP")
            && let Some(list) = before.get("clusterIPs")
        {
            spec.insert("clusterIPs".into(), list.clone());
        }
        // A service without families gets the ones it had.
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if !spec.has(field) && before.has(field) {
                spec.insert(field.into(), before.field(field).clone());
            }
        }
    }
    if ports {
        keep_node_ports(spec, &before);
    }
    if check && spec.int("healthCheckNodePort").unwrap_or_default() == 0 && before.has("healthCheckNodePort")
    {
        spec.insert("healthCheckNodePort".into(), before.field("healthCheckNodePort").clone());
    }
}

fn keep_node_ports(spec: &mut serde_json::Map<String, Value>, before: &Value) {
    let mut used: Vec<i64> = spec.list("ports").iter().filter_map(|port| port.int("nodePort")).collect();
    for port in objects_in(spec, "ports") {
        if port.int("nodePort").unwrap_or_default() != 0 {
            continue;
        }
        let same = |old: &&Value| {
            old.text("protocol") == port.text("protocol") && old.int("port") == port.int("port")
        };
        let was = before.list("ports").iter().find(same).and_then(|old| old.int("nodePort"));
        if let Some(number) = was.filter(|number| *number != 0 && !used.contains(number)) {
            used.push(number);
            port.insert("nodePort".into(), number.into());
        }
    }
}

/// Drops what the new type has no use for and the client did not touch.
pub(super) fn drop_unneeded(new: &mut Object, old: &Object) {
    let before = old.field("spec").clone();
    let untouched = |new: &Object, field: &str| same(new.field("spec").field(field), before.field(field));
    let mut dropped: Vec<&str> = Vec::new();
    if needs_cluster_ip(old)
        && !needs_cluster_ip(new)
        && untouched(new, "clusterIPs")
        && untouched(new, "clusterIP")
    {
        dropped.extend(["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
    }
    if needs_health_check(old) && !needs_health_check(new) && untouched(new, "healthCheckNodePort") {
        dropped.push("healthCheckNodePort");
    }
    let balanced = |of: &Object| of.field("spec").text("type") == "LoadBalancer";
    if balanced(old) && !balanced(new) {
        let fields = ["allocateLoadBalancerNodePorts", "loadBalancerClass"];
        dropped.extend(fields.into_iter().filter(|field| untouched(new, field)));
    }
    let external = |of: &Object| is_external(of.field("spec"));
    if external(old) && !external(new) && untouched(new, "externalTrafficPolicy") {
        dropped.push("externalTrafficPolicy");
    }
    let ports = needs_node_port(old) && !needs_node_port(new);
    let Some(spec) = object_in(new.as_map_mut(), "spec") else { return };
    for field in dropped {
        spec.remove(field);
    }
    if ports {
        let was: Vec<Option<i64>> = before.list("ports").iter().map(|port| port.int("nodePort")).collect();
        let all_known = spec.list("ports").iter().all(|port| was.contains(&port.int("nodePort")));
        if all_known {
            for port in objects_in(spec, "ports") {
                port.remove("nodePort");
            }
        }
    }
}
