//! Services. Addresses and node ports are allocated by the API server; what it
//! needs to know about that is [`allocation`].

pub mod allocation;
mod validate;

use api::{ErrorList, Object};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use crate::fields::{Fields, default_text, default_to, object_at, objects_in};
use crate::{Part, Strategy, metadata, names};

pub use allocation::{
    is_headless, needs_cluster_ip, needs_health_check, needs_node_port, requested_node_ports,
};

/// The behaviour of services.
pub(super) struct Service;

/// How long a client keeps its endpoint where nothing else is said, in seconds.
const AFFINITY_SECONDS: i64 = 10_800;

/// Whether clients outside the cluster can reach it.
pub(crate) fn is_external(spec: &Value) -> bool {
    match spec.text("type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.list("externalIPs").is_empty(),
        _ => false,
    }
}

impl Strategy for Service {
    fn default(&self, object: &mut Object) {
        let Some(spec) = object_at(object.as_map_mut(), "spec") else { return };
        default_text(spec, "sessionAffinity", "None");
        match spec.text("sessionAffinity") {
            "None" => {
                spec.remove("sessionAffinityConfig");
            }
            "ClientIP" => {
                if let Some(config) = object_at(spec, "sessionAffinityConfig")
                    && let Some(client) = object_at(config, "clientIP")
                {
                    default_to(client, "timeoutSeconds", AFFINITY_SECONDS);
                }
            }
            _ => {}
        }
        default_text(spec, "type", "ClusterIP");
        for port in objects_in(spec, "ports") {
            default_text(port, "protocol", "TCP");
            let target = port.field("targetPort");
            if target.is_null() || *target == json!(0) || *target == json!("") {
                let number = port.field("port").clone();
                port.insert("targetPort".into(), number);
            }
        }
        let kind = spec.text("type").to_owned();
        if is_external(&Value::Object(spec.clone())) {
            default_text(spec, "externalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
            default_to(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind != "LoadBalancer" {
            return;
        }
        default_to(spec, "allocateLoadBalancerNodePorts", true);
        let status = crate::fields::object_in(object.as_map_mut(), "status");
        if let Some(balancer) = status.and_then(|status| crate::fields::object_in(status, "loadBalancer")) {
            for ingress in objects_in(balancer, "ingress") {
                if !ingress.text("ip").is_empty() {
                    default_to(ingress, "ipMode", "VIP");
                }
            }
        }
    }

    fn prepare_create(&self, object: &mut Object) {
        object.set("status", json!({"loadBalancer": {}}));
        allocation::normalize(object, None);
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        metadata::keep_other_parts(part, new, old);
        if part == Part::Main {
            allocation::normalize(new, Some(old));
            allocation::keep(new, old);
            allocation::drop_unneeded(new, old);
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        validate::by_itself(object)
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        match part {
            Part::Main => validate::update(new, old),
            Part::Status => validate::status(new),
            Part::Other(_) => ErrorList::new(),
        }
    }

    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns_label(name, prefix)
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn selectable_names(&self) -> Vec<&str> {
        vec!["spec.clusterIP", "spec.type"]
    }

    fn selectable(&self, object: &Object) -> Vec<(&'static str, String)> {
        let spec = object.field("spec");
        vec![
            ("spec.clusterIP", spec.text("clusterIP").to_owned()),
            ("spec.type", spec.text("type").to_owned()),
        ]
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let spec = object.field("spec");
        let address = spec.list("clusterIPs").first().and_then(Value::as_str).unwrap_or("<none>");
        let ports: Vec<String> = spec.list("ports").iter().map(port_text).collect();
        vec![
            object.name().into(),
            spec.text("type").into(),
            address.into(),
            external_address(object).into(),
            cells::or_none(&ports.join(",")).into(),
            metadata::age(object, now).into(),
            cells::labels(spec.field("selector")).into(),
        ]
    }
}

fn port_text(port: &Value) -> String {
    let (number, protocol) = (port.int("port").unwrap_or_default(), port.text("protocol"));
    match port.int("nodePort").unwrap_or_default() {
        0 => format!("{number}/{protocol}"),
        node => format!("{number}:{node}/{protocol}"),
    }
}

fn external_address(object: &Object) -> String {
    let spec = object.field("spec");
    let external: Vec<&str> = spec.list("externalIPs").iter().filter_map(Value::as_str).collect();
    match spec.text("type") {
        "ClusterIP" | "NodePort" => cells::or_none(&external.join(",")).to_owned(),
        "LoadBalancer" => {
            let balancer = cells::load_balancer(object.field("status"));
            let all: Vec<&str> =
                [balancer.as_str()].into_iter().filter(|one| !one.is_empty()).chain(external).collect();
            cells::or(&all.join(","), "<pending>").to_owned()
        }
        "ExternalName" => spec.text("externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}
