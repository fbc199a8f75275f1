//! Rules for services (`ValidateService`).

use std::collections::HashSet;

use api::{ErrorList, Object, Path};
use serde_json::Value;

use super::{is_external, is_headless, needs_health_check};
use crate::fields::Fields;
use crate::kinds::endpoints::reachable;
use crate::kinds::pod::port_rules;
use crate::metadata;
use crate::names;
use crate::report::Report;

const ONCE: &str = "may not change once set";

/// Rules for a service by itself.
pub(super) fn by_itself(service: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (service.field("spec"), Path::new("spec"));
    let (kind, headless) = (spec.text("type"), is_headless(service));
    if spec.list("ports").is_empty() && !headless && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    if headless && matches!(kind, "LoadBalancer" | "NodePort") {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.invalid(&path.child("clusterIPs").index(0), "None", detail);
    }
    if kind == "ExternalName" {
        external_name(spec, &path, &mut errors);
    }
    ports(spec, &path.child("ports"), &mut errors);
    metadata::labels(spec.field("selector"), &path.child("selector"), &mut errors);
    affinity(spec, &path, &mut errors);
    if kind != "ExternalName" {
        addresses(service, &path, &mut errors);
    }
    for (index, ip) in spec.list("externalIPs").iter().enumerate() {
        let ip = ip.as_str().unwrap_or_default();
        let list = path.child("externalIPs");
        let (at, found) = (list.index(index), names::ip(ip));
        if found.is_empty() {
            reachable(ip, &at, &mut errors);
        }
        errors.invalid_all(&at, ip, found);
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    errors.required_one_of(&path.child("type"), kind, &types);
    balancer(service, &path, &mut errors);
    traffic(service, &path, &mut errors);
    errors
}

fn external_name(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["clusterIPs", "ipFamilies"] {
        if !spec.list(field).is_empty() {
            errors.forbidden(&path.child(field), "may not be set for ExternalName services");
        }
    }
    if spec.has("ipFamilyPolicy") {
        errors.forbidden(&path.child("ipFamilyPolicy"), "may not be set for ExternalName services");
    }
    let name = spec.text("externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.required(&path.child("externalName"), "");
    } else {
        errors.invalid_all(&path.child("externalName"), name, names::subdomain(name));
    }
}

fn ports(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let ports = spec.list("ports");
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (at, name) = (path.index(index), port.text("name"));
        if !name.is_empty() {
            errors.invalid_all(&at.child("name"), name, names::label(name));
            if !seen.insert(name) {
                errors.duplicate(&at.child("name"), name);
            }
        } else if ports.len() > 1 {
            errors.required(&at.child("name"), "");
        }
        let number = port.int("port").unwrap_or_default();
        errors.port(&at.child("port"), number);
        errors.required_one_of(&at.child("protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
        port_rules(port.field("targetPort"), &at.child("targetPort"), errors);
        if port.has("appProtocol") {
            let text = port.text("appProtocol");
            errors.invalid_all(&at.child("appProtocol"), text, names::qualified(text));
        }
    }
    if spec.text("type") == "ClusterIP" {
        for (index, port) in ports.iter().enumerate() {
            if port.int("nodePort").unwrap_or_default() != 0 {
                let detail = "may not be used when `type` is 'ClusterIP'";
                errors.forbidden(&path.index(index).child("nodePort"), detail);
            }
        }
    }
    let (mut nodes, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        let (at, protocol) = (path.index(index), port.text("protocol"));
        let node = port.int("nodePort").unwrap_or_default();
        if node != 0 && !nodes.insert((protocol, node)) {
            errors.duplicate(&at.child("nodePort"), node);
        }
        let number = port.int("port").unwrap_or_default();
        if !numbers.insert((protocol, number)) {
            let shown = format!(
                r#"{{"Name":"","Protocol":{protocol:?},"AppProtocol":null,"Port":{number},"TargetPort":0,"NodePort":0}}"#
            );
            errors.add_shown(api::FieldError::duplicate(&at, Value::Null), &shown);
        }
    }
}

fn affinity(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (affinity, config) = (spec.text("sessionAffinity"), spec.field("sessionAffinityConfig"));
    errors.required_one_of(&path.child("sessionAffinity"), affinity, &["ClientIP", "None"]);
    let at = path.child("sessionAffinityConfig");
    match affinity {
        "ClientIP" => {
            let client = at.child("clientIP");
            let seconds_path = client.child("timeoutSeconds");
            let when = "when session affinity type is ClientIP";
            match config.field("clientIP").int("timeoutSeconds") {
                _ if config.is_null() => errors.required(&at, when),
                _ if !config.has("clientIP") => errors.required(&client, when),
                None => errors.required(&seconds_path, when),
                Some(seconds) if !(1..=86_400).contains(&seconds) => {
                    errors.invalid(&seconds_path, seconds, "must be greater than 0 and less than 86400");
                }
                Some(_) => {}
            }
        }
        "None" if !config.is_null() => {
            errors.forbidden(&at, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn addresses(service: &Object, path: &Path<'_>, errors: &mut ErrorList) {
    let spec = service.field("spec");
    let (one, all, at) = (spec.text("clusterIP"), spec.list("clusterIPs"), path.child("clusterIPs"));
    let shown = || spec.field("clusterIPs").clone();
    if one.is_empty() {
        if !all.is_empty() {
            errors.invalid(&at, shown(), "must be empty when `clusterIP` is not specified");
        }
    } else if all.is_empty() {
        errors.required(&at, "");
    } else if all[0] != one {
        errors.invalid(&at, shown(), "first value must match `clusterIP`");
    }
    let (families, families_path) = (spec.list("ipFamilies"), path.child("ipFamilies"));
    for (index, family) in families.iter().enumerate() {
        let text = family.as_str().unwrap_or_default();
        errors.one_of(&families_path.index(index), text, &["IPv4", "IPv6"]);
        if families[..index].contains(family) {
            errors.duplicate(&families_path.index(index), text);
        }
    }
    if spec.has("ipFamilyPolicy") {
        let allowed = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.one_of(&path.child("ipFamilyPolicy"), spec.text("ipFamilyPolicy"), &allowed);
    }
    let mut bad = false;
    for (index, ip) in all.iter().enumerate() {
        let ip = ip.as_str().unwrap_or_default();
        if index == 0 && ip == "None" {
            if all.len() > 1 {
                bad = true;
                errors.invalid(&at, shown(), "'None' must be the first and only value");
            }
            continue;
        }
        let found = names::ip(ip);
        bad |= !found.is_empty();
        errors.invalid_all(&at.index(index), ip, found);
    }
    if all.len() > 2 {
        errors.invalid(&at, shown(), "may only hold up to 2 values");
    }
    if bad {
        return;
    }
    let is_six = |ip: &Value| ip.as_str().is_some_and(|ip| ip.contains(':'));
    if all.len() > 1 && all.iter().filter(|ip| is_six(ip)).count() != 1 {
        errors.invalid(&at, shown(), "may specify no more than one IP for each IP family");
    }
    if is_headless(service) {
        return;
    }
    for (index, (ip, family)) in all.iter().zip(families).enumerate() {
        if is_six(ip) != (family == "IPv6") {
            let family = family.as_str().unwrap_or_default();
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&at.index(index), ip.clone(), detail);
        }
    }
}

fn balancer(service: &Object, path: &Path<'_>, errors: &mut ErrorList) {
    let spec = service.field("spec");
    let is_balancer = spec.text("type") == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    let ranges = spec.list("loadBalancerSourceRanges");
    if !ranges.is_empty() {
        let at = path.child("LoadBalancerSourceRanges");
        if !is_balancer {
            errors.forbidden(&at, only);
        }
        for (index, range) in ranges.iter().enumerate() {
            let range = range.as_str().unwrap_or_default().trim();
            errors.invalid_all(&at.index(index), range, names::cidr(range));
        }
    }
    if spec.has("allocateLoadBalancerNodePorts") && !is_balancer {
        errors.forbidden(&path.child("allocateLoadBalancerNodePorts"), only);
    }
    if is_balancer && !spec.has("allocateLoadBalancerNodePorts") {
        errors.required(&Path::new("allocateLoadBalancerNodePorts"), "");
    }
    if spec.has("loadBalancerClass") {
        let (at, class) = (path.child("loadBalancerClass"), spec.text("loadBalancerClass"));
        if !is_balancer {
            errors.forbidden(&at, "may only be used when `type` is 'LoadBalancer'");
        }
        errors.invalid_all(&at, class, names::qualified(class));
    }
}

fn traffic(service: &Object, path: &Path<'_>, errors: &mut ErrorList) {
    let spec = service.field("spec");
    let (external, at) = (spec.text("externalTrafficPolicy"), path.child("externalTrafficPolicy"));
    if is_external(spec) {
        errors.required_one_of(&at, external, &["Cluster", "Local"]);
    } else if !external.is_empty() {
        errors.invalid(&at, external, "may only be set for externally-accessible services");
    }
    let (check, at) =
        (spec.int("healthCheckNodePort").unwrap_or_default(), path.child("healthCheckNodePort"));
    if !needs_health_check(service) {
        if check != 0 {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&at, check, detail);
        }
    } else if check == 0 {
        errors.required(&at, "");
    } else {
        errors.port(&at, check);
    }
    let (internal, at) = (spec.text("internalTrafficPolicy"), path.child("internalTrafficPolicy"));
    if spec.has("internalTrafficPolicy") {
        errors.one_of(&at, internal, &["Cluster", "Local"]);
    } else if matches!(spec.text("type"), "NodePort" | "LoadBalancer" | "ClusterIP") {
        errors.required(&at, "");
    }
    if spec.has("trafficDistribution") {
        let allowed = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        errors.one_of(&path.child("trafficDistribution"), spec.text("trafficDistribution"), &allowed);
    }
}

/// Rules for a change: addresses stay.
pub(super) fn update(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (after, before, path) = (new.field("spec"), old.field("spec"), Path::new("spec"));
    let external_name = [after, before].iter().any(|spec| spec.text("type") == "ExternalName");
    if !external_name {
        let (headless, was_headless) = (is_headless(new), is_headless(old));
        if !headless || !was_headless {
            once(after, before, "clusterIPs", &path, &mut errors);
        }
        if !headless && !was_headless {
            once(after, before, "ipFamilies", &path, &mut errors);
        }
    }
    if needs_health_check(old) && needs_health_check(new) {
        let port = |spec: &Value| spec.int("healthCheckNodePort");
        if port(after) != port(before) {
            errors.forbidden(&path.child("healthCheckNodePort"), metadata::IMMUTABLE);
        }
    }
    let balancer = |spec: &Value| spec.text("type") == "LoadBalancer";
    if balancer(after)
        && balancer(before)
        && after.text("loadBalancerClass") != before.text("loadBalancerClass")
    {
        let class = after.field("loadBalancerClass").clone();
        errors.invalid(&path.child("loadBalancerClass"), class, ONCE);
    }
    errors
}

/// A list whose first value stays, and whose second may come and go.
fn once(after: &Value, before: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let (new, old, at) = (after.list(field), before.list(field), path.child(field));
    let shown = || after.field(field).clone();
    if new.len() == old.len() {
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if new != old {
                let index = if field == "clusterIPs" { index } else { 0 };
                errors.invalid(&at.index(index), shown(), ONCE);
            }
        }
        return;
    }
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && new != old
    {
        errors.invalid(&at.index(0), shown(), ONCE);
    }
    if old.len() > new.len() {
        let one = field.trim_end_matches('s').replace("Familie", "Family");
        if new.is_empty() {
            errors.invalid(&at.index(0), shown(), format!("primary {one} can not be unset"));
        } else if after.text("ipFamilyPolicy") != "SingleStack" {
            let policy = after.field("ipFamilyPolicy").clone();
            let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
            errors.invalid(&path.child("ipFamilyPolicy"), policy, detail);
        }
    }
}

/// Rules for the status.
pub(super) fn status(service: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (root, ingress) = (Path::new("status"), service.below(&["status", "loadBalancer"]).list("ingress"));
    let balancer = root.child("loadBalancer");
    let path = balancer.child("ingress");
    if service.field("spec").text("type") != "LoadBalancer" && !ingress.is_empty() {
        errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return errors;
    }
    for (index, one) in ingress.iter().enumerate() {
        let at = path.index(index);
        let (ip, host) = (one.text("ip"), one.text("hostname"));
        if !ip.is_empty() {
            errors.invalid_all(&at.child("ip"), ip, names::ip(ip));
        }
        if one.has("ipMode") {
            errors.one_of(&at.child("ipMode"), one.text("ipMode"), &["Proxy", "VIP"]);
            if ip.is_empty() {
                errors.forbidden(&at.child("ipMode"), "may not be specified when `ip` is not set");
            }
        } else if !ip.is_empty() {
            errors.required(&at.child("ipMode"), "must be specified when `ip` is set");
        }
        if !host.is_empty() {
            errors.invalid_all(&at.child("hostname"), host, names::subdomain(host));
            if names::parse_ip(host).is_some() {
                errors.invalid(&at.child("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
    }
    errors
}
