//! What objects use of a namespace's quotas, and which quotas they fall under:
//! the arithmetic that the API server, which charges, and the controller, which
//! recounts, must do alike (upstream: `pkg/quota/v1/evaluator/core`).

mod scopes;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use scopes::covers;

use crate::{Object, Quantity};

/// Amounts by the name of the resource.
pub type Amounts = BTreeMap<String, Quantity>;

const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
/// What every container has to say where a quota limits it.
const EXPLICIT: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
/// Resources that are counted under a name of their own too, beside `count/...`.
const NAMED: [&str; 5] = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas", "services"];

/// Reads a JSON map of quantities; what is none is left out.
#[must_use]
pub fn amounts(value: &Value) -> Amounts {
    let read = |(name, amount): (&String, &Value)| Some((name.clone(), amount.as_str()?.parse().ok()?));
    value.as_object().into_iter().flatten().filter_map(read).collect()
}

/// The JSON map of amounts.
#[must_use]
pub fn to_json(amounts: &Amounts) -> Value {
    let write = |(name, amount): (&String, &Quantity)| (name.clone(), amount.to_string().into());
    Value::Object(amounts.iter().map(write).collect::<Map<_, _>>())
}

/// `name=amount,...`, in the order of names.
#[must_use]
pub fn to_text(amounts: &Amounts) -> String {
    let pairs: Vec<String> = amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    pairs.join(",")
}

/// Adds to a total.
pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.get(name).map_or(*amount, |before| *before + *amount);
        total.insert(name.clone(), sum);
    }
}

fn raise(least: &mut Amounts, to: &Amounts) {
    for (name, amount) in to {
        let most = least.get(name).map_or(*amount, |before| (*before).max(*amount));
        least.insert(name.clone(), most);
    }
}

fn list<'a>(object: &'a Object, path: &[&str]) -> &'a [Value] {
    object.at(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The requests and the limits of a whole pod, by its spec.
#[must_use]
pub fn pod_resources(pod: &Object) -> (Amounts, Amounts) {
    (pod_total(pod, "requests"), pod_total(pod, "limits"))
}

/// Containers and sidecars together, or what an init container needs beside the
/// sidecars before it, if that is more; what the pod says as a whole counts instead.
fn pod_total(pod: &Object, part: &str) -> Amounts {
    let mut total = Amounts::new();
    for container in list(pod, &["spec", "containers"]) {
        add(&mut total, &amounts(&container["resources"][part]));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in list(pod, &["spec", "initContainers"]) {
        let mut needed = amounts(&container["resources"][part]);
        if container["restartPolicy"] == "Always" {
            add(&mut total, &needed);
            add(&mut sidecars, &needed);
            raise(&mut starting, &sidecars);
        } else {
            add(&mut needed, &sidecars);
            raise(&mut starting, &needed);
        }
    }
    raise(&mut total, &starting);
    let whole = amounts(pod.at(&["spec", "resources", part]).unwrap_or(&Value::Null));
    let counts = |name: &str| matches!(name, "cpu" | "memory") || name.starts_with("hugepages-");
    total.extend(whole.into_iter().filter(|(name, _)| counts(name)));
    total
}

/// The requests and limits with what running the pod costs, which limits only
/// contain where there are any.
fn with_overhead(pod: &Object) -> (Amounts, Amounts) {
    let (mut requests, mut limits) = pod_resources(pod);
    let overhead = amounts(pod.at(&["spec", "overhead"]).unwrap_or(&Value::Null));
    add(&mut requests, &overhead);
    for (name, limit) in limits.iter_mut().filter(|(_, limit)| !limit.is_zero()) {
        *limit += overhead.get(name).copied().unwrap_or_default();
    }
    (requests, limits)
}

/// The name under which a resource's objects are counted.
#[must_use]
pub fn count_name(group: &str, resource: &str) -> String {
    if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") }
}

/// The other names under which objects are counted, each of them one.
#[must_use]
pub fn named_count(group: &str, resource: &str) -> Option<&'static str> {
    NAMED.into_iter().find(|name| group.is_empty() && *name == resource)
}

/// What an object uses.
#[must_use]
pub fn usage(group: &str, resource: &str, object: &Object, now: Timestamp) -> Amounts {
    let one = Quantity::from_units(1);
    let mut used = Amounts::from([(count_name(group, resource), one)]);
    used.extend(named_count(group, resource).map(|name| (name.to_owned(), one)));
    match (group, resource) {
        ("", "pods") if is_charged(object, now) => {
            let (requests, limits) = with_overhead(object);
            used.insert("pods".to_owned(), one);
            used.extend(compute(&requests, &limits));
        }
        ("", "services") => used.extend(service(object)),
        ("", "persistentvolumeclaims") => used.extend(claim(object)),
        _ => {}
    }
    used
}

/// Whether a pod has not ended, nor outlived the time that its deletion gives it.
fn is_charged(pod: &Object, now: Timestamp) -> bool {
    if matches!(pod.text(&["status", "phase"]), "Failed" | "Succeeded") {
        return false;
    }
    let grace = pod.integer(&["metadata", "deletionGracePeriodSeconds"]);
    let deleted = pod.deletion_timestamp().and_then(|time| time.parse::<Timestamp>().ok());
    match (deleted, grace) {
        // The time of deletion has the time given added already; upstream adds it again.
        (Some(deleted), Some(grace)) => now <= deleted + jiff::SignedDuration::from_secs(grace),
        _ => true,
    }
}

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        let is_basic = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if is_basic || name.starts_with("hugepages-") {
            used.insert(name.clone(), *amount);
        }
        if is_basic || name.starts_with("hugepages-") || is_extended(name) {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        used.extend(limits.get(name).map(|amount| (format!("limits.{name}"), *amount)));
    }
    used
}

fn service(service: &Object) -> Amounts {
    let ports = list(service, &["spec", "ports"]);
    let kind = service.text(&["spec", "type"]);
    let allocates = service.at(&["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false));
    let node_ports = match kind {
        "LoadBalancer" if !allocates => {
            ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or_default() != 0).count()
        }
        "NodePort" | "LoadBalancer" => ports.len(),
        _ => 0,
    };
    let units = |count: usize| Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX));
    Amounts::from([
        ("services.nodeports".to_owned(), units(node_ports)),
        ("services.loadbalancers".to_owned(), units(usize::from(kind == "LoadBalancer"))),
    ])
}

fn claim(claim: &Object) -> Amounts {
    let mut used = Amounts::from([("persistentvolumeclaims".to_owned(), Quantity::from_units(1))]);
    let read = |path: &[&str]| claim.text(path).parse::<Quantity>().ok();
    let allocated = read(&["status", "allocatedResources", "storage"]);
    if let Some(asked) = read(&["spec", "resources", "requests", "storage"]) {
        let size = allocated.map_or(asked, |allocated| allocated.max(asked));
        // Whole bytes only.
        let size = if size.is_whole() { size } else { Quantity::from_units(size.units()) };
        used.insert("requests.storage".to_owned(), size);
    }
    let class = claim
        .annotation("volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| claim.text(&["spec", "storageClassName"]));
    if !class.is_empty() {
        let of_class = used.iter().map(|(name, amount)| (format!("{class}{BY_CLASS}{name}"), *amount));
        used.extend(of_class.collect::<Vec<_>>());
    }
    used
}

/// Whether a quota's resource is one that objects of a kind can use.
#[must_use]
pub fn is_used_by(group: &str, resource: &str, name: &str) -> bool {
    if name == count_name(group, resource) || named_count(group, resource) == Some(name) {
        return true;
    }
    match (group, resource) {
        ("", "pods") => {
            let basic =
                name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
            let asked = name.strip_prefix("requests.");
            matches!(basic, "cpu" | "memory" | "ephemeral-storage")
                || name == "pods"
                || asked.unwrap_or(name).starts_with("hugepages-")
                || asked.is_some_and(is_extended)
        }
        ("", "services") => matches!(name, "services.nodeports" | "services.loadbalancers"),
        ("", "persistentvolumeclaims") => {
            let name = name.split_once(BY_CLASS).map_or(name, |(_, name)| name);
            matches!(name, "persistentvolumeclaims" | "requests.storage")
        }
        _ => false,
    }
}

/// What the containers of a pod have to say because quotas limit it.
///
/// # Errors
/// What is missing, as people are told it.
pub fn require_explicit(pod: &Object, limited: &[&str]) -> Result<(), String> {
    if pod
        .at(&["spec", "resources"])
        .is_some_and(|whole| whole.as_object().is_some_and(|one| !one.is_empty()))
    {
        return Ok(());
    }
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let containers = list(pod, &["spec", "containers"]).iter().chain(list(pod, &["spec", "initContainers"]));
    for container in containers {
        let said = compute(
            &amounts(&container["resources"]["requests"]),
            &amounts(&container["resources"]["limits"]),
        );
        let needed = limited.iter().filter(|name| EXPLICIT.contains(name));
        for name in needed.filter(|name| !said.contains_key(**name)) {
            missing.entry(name).or_default().push(container["name"].as_str().unwrap_or_default().to_owned());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let told = missing.into_iter().map(|(name, mut containers)| {
        containers.sort();
        containers.dedup();
        format!("{name} for: {}", containers.join(","))
    });
    Err(format!("must specify {}", told.collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests;
