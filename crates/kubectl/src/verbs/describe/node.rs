//! Nodes, with the pods on them and what these ask for.

use std::collections::{BTreeMap, BTreeSet};

use api::Quantity;
use serde_json::Value;

use super::text::{Text, age, entries, items, joined, text, time};
use super::{Query, Subject};

/// Amounts by resource.
type Amounts = BTreeMap<String, Quantity>;

pub(super) fn related(node: &Value) -> Vec<Query> {
    let name = text(&node["metadata"]["name"]);
    vec![
        Query {
            api_version: "v1",
            kind: "Pod",
            fields: format!("spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed"),
            ..Query::default()
        },
        Query {
            api_version: "coordination.k8s.io/v1",
            kind: "Lease",
            namespace: "kube-node-lease".into(),
            fields: format!("metadata.name={name}"),
            ..Query::default()
        },
        Query {
            api_version: "resource.k8s.io/v1",
            kind: "ResourceSlice",
            fields: format!("spec.nodeName={name}"),
            ..Query::default()
        },
    ]
}

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let node = subject.object;
    let (metadata, spec, status) = (&node["metadata"], &node["spec"], &node["status"]);
    out.field("Name", text(&metadata["name"]));
    let roles: Vec<&str> = roles(&metadata["labels"]).into_iter().collect();
    out.field("Roles", if roles.is_empty() { "<none>".into() } else { roles.join(",") });
    out.metadata(node);
    out.field("CreationTimestamp", time(&metadata["creationTimestamp"]));
    taints(out, &spec["taints"]);
    out.field("Unschedulable", spec["unschedulable"] == true);
    lease(out, subject);
    conditions(out, &status["conditions"]);
    out.line(0, "Addresses:");
    for one in items(&status["addresses"]) {
        out.field_at(1, text(&one["type"]), text(&one["address"]));
    }
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        if entries(&status[field]).next().is_some() {
            out.line(0, format_args!("{title}:"));
        }
        for (name, quantity) in entries(&status[field]) {
            out.field_at(1, name, crate::jsonpath::plain(quantity));
        }
    }
    devices(out, subject.related(2));
    system(out, &status["nodeInfo"]);
    if !text(&spec["podCIDR"]).is_empty() {
        out.field("PodCIDR", text(&spec["podCIDR"]));
    }
    if items(&spec["podCIDRs"]).next().is_some() {
        out.field("PodCIDRs", joined(&spec["podCIDRs"], ","));
    }
    if !text(&spec["providerID"]).is_empty() {
        out.field("ProviderID", text(&spec["providerID"]));
    }
    match &subject.related[0] {
        Ok(pods) => used(out, subject, pods),
        Err(_) => out.field("Pods", "not authorized"),
    }
}

fn roles(labels: &Value) -> BTreeSet<&str> {
    entries(labels)
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => Some(text(value)),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect()
}

fn taints(out: &mut Text, taints: &Value) {
    let mut all: Vec<&Value> = items(taints).collect();
    all.sort_by_key(|one| format!("{},{}", text(&one["effect"]), text(&one["key"])));
    out.column("Taints", all.into_iter().map(taint));
}

/// `key=value:Effect`.
fn taint(one: &Value) -> String {
    let (key, value, effect) = (text(&one["key"]), text(&one["value"]), text(&one["effect"]));
    match (value, effect) {
        ("", "") => key.to_owned(),
        ("", effect) => format!("{key}:{effect}"),
        (value, "") => format!("{key}={value}:"),
        (value, effect) => format!("{key}={value}:{effect}"),
    }
}

fn lease(out: &mut Text, subject: &Subject<'_>) {
    let name = text(&subject.object["metadata"]["name"]);
    let Some(lease) = subject.related(1).first() else {
        let why = match &subject.related[1] {
            Err(why) => why.clone(),
            Ok(_) => format!("leases.coordination.k8s.io {name:?} not found"),
        };
        return out.field("Lease", format_args!("Failed to get lease: {why}"));
    };
    let spec = &lease["spec"];
    let moment = |field: &str| if spec[field].is_null() { "<unset>".to_owned() } else { time(&spec[field]) };
    out.line(0, "Lease:");
    out.field_at(1, "HolderIdentity", spec["holderIdentity"].as_str().unwrap_or("<unset>"));
    out.field_at(1, "AcquireTime", moment("acquireTime"));
    out.field_at(1, "RenewTime", moment("renewTime"));
}

fn conditions(out: &mut Text, conditions: &Value) {
    if items(conditions).next().is_none() {
        return;
    }
    out.line(0, "Conditions:\n  Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage");
    out.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
    for one in items(conditions) {
        let line = format!(
            "{} \t{} \t{} \t{} \t{} \t{}",
            text(&one["type"]),
            text(&one["status"]),
            time(&one["lastHeartbeatTime"]),
            time(&one["lastTransitionTime"]),
            text(&one["reason"]),
            text(&one["message"])
        );
        out.line(1, line);
    }
}

/// The devices of the node alone, by driver and pool.
fn devices(out: &mut Text, slices: &[Value]) {
    const SHOWN: usize = 10;
    let mut pools: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for slice in slices {
        let spec = &slice["spec"];
        let pool = pools.entry((text(&spec["driver"]), text(&spec["pool"]["name"]))).or_default();
        pool.0 += 1;
        pool.1 += items(&spec["devices"]).count();
    }
    if pools.is_empty() {
        return;
    }
    out.line(0, "Node-Local ResourceSlices:");
    out.line(1, "Driver\tPool\tSlices\tDevices");
    out.line(1, "------\t----\t------\t-------");
    for ((driver, pool), (slices, devices)) in pools.iter().take(SHOWN) {
        out.line(1, format_args!("{driver}\t{pool}\t{slices}\t{devices}"));
    }
    if pools.len() > SHOWN {
        out.line(1, format_args!("...and {} more pools", pools.len() - SHOWN));
    }
}

fn system(out: &mut Text, info: &Value) {
    out.line(0, "System Info:");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        out.field_at(1, title, text(&info[field]));
    }
}

fn used(out: &mut Text, subject: &Subject<'_>, pods: &[Value]) {
    let status = &subject.object["status"];
    let allocatable =
        if status.get("allocatable").is_some() { &status["allocatable"] } else { &status["capacity"] };
    let allocatable = read(allocatable);
    out.field("Non-terminated Pods", format_args!("({} in total)", pods.len()));
    out.line(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    out.line(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for pod in pods {
        let (asked, most) = (of_pod(pod, "requests"), of_pod(pod, "limits"));
        let cells: Vec<String> = [("cpu", &asked), ("cpu", &most), ("memory", &asked), ("memory", &most)]
            .iter()
            .map(|(name, amounts)| share(name, amounts, &allocatable))
            .collect();
        let metadata = &pod["metadata"];
        let line = format!(
            "{}\t{}\t\t{}\t{}",
            text(&metadata["namespace"]),
            text(&metadata["name"]),
            cells.join("\t"),
            age(&metadata["creationTimestamp"], subject.now)
        );
        out.line(1, line);
        add(&mut requests, &asked);
        add(&mut limits, &most);
    }
    out.line(0, "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)");
    out.line(1, "Resource\tRequests\tLimits");
    out.line(1, "--------\t--------\t------");
    let huge = allocatable.keys().map(String::as_str).filter(|name| name.starts_with("hugepages-"));
    for name in ["cpu", "memory", "ephemeral-storage"].into_iter().chain(huge) {
        let (asked, most) = (share(name, &requests, &allocatable), share(name, &limits, &allocatable));
        out.line(1, format_args!("{name}\t{asked}\t{most}"));
    }
    for name in allocatable.keys().filter(|name| is_extended(name)) {
        let of = |amounts: &Amounts| amounts.get(name).copied().unwrap_or_default().to_string();
        out.line(1, format_args!("{name}\t{}\t{}", of(&requests), of(&limits)));
    }
}

fn is_extended(name: &str) -> bool {
    !["cpu", "memory", "ephemeral-storage", "pods"].contains(&name) && !name.starts_with("hugepages-")
}

/// `100m (5%)`.
fn share(name: &str, amounts: &Amounts, allocatable: &Amounts) -> String {
    let of = |amounts: &Amounts| amounts.get(name).copied().unwrap_or_default();
    let (amount, whole) = (of(amounts), of(allocatable));
    let percent = if whole.is_zero() { 0.0 } else { amount.to_f64() / whole.to_f64() * 100.0 };
    format!("{amount} ({}%)", percent.trunc())
}

fn read(map: &Value) -> Amounts {
    entries(map)
        .filter_map(|(name, value)| Some((name.clone(), crate::jsonpath::plain(value).parse().ok()?)))
        .collect()
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match total.get_mut(name) {
            Some(sum) => *sum += *amount,
            None => {
                total.insert(name.clone(), *amount);
            }
        }
    }
}

fn at_least(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        match total.get_mut(name) {
            Some(most) => *most = (*most).max(*amount),
            None => {
                total.insert(name.clone(), *amount);
            }
        }
    }
}

/// What a pod asks for: its containers and those that start before and go on,
/// or more if one of the others before them needs more, and its overhead. What
/// the pod itself says wins.
fn of_pod(pod: &Value, field: &str) -> Amounts {
    let spec = &pod["spec"];
    let mut total = Amounts::new();
    for container in items(&spec["containers"]) {
        add(&mut total, &read(&container["resources"][field]));
    }
    let (mut beside, mut before) = (Amounts::new(), Amounts::new());
    for container in items(&spec["initContainers"]) {
        let mut own = read(&container["resources"][field]);
        if container["restartPolicy"] == "Always" {
            add(&mut total, &own);
            add(&mut beside, &own);
            own.clone_from(&beside);
        } else {
            add(&mut own, &beside);
        }
        at_least(&mut before, &own);
    }
    at_least(&mut total, &before);
    for (name, amount) in read(&spec["resources"][field]) {
        total.insert(name, amount);
    }
    for (name, amount) in read(&spec["overhead"]) {
        // A limit that is not set is none, and stays so.
        if field == "requests" || total.contains_key(&name) {
            *total.entry(name).or_default() += amount;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_asks_for_all_its_containers() {
        let container = |cpu: &str, restart: &str| json!({"resources": {"requests": {"cpu": cpu}}, "restartPolicy": restart});
        let pod = json!({"spec": {"containers": [container("100m", ""), container("200m", "")],
            "initContainers": [container("50m", "Always"), container("1", "")], "overhead": {"cpu": "10m"}}});
        // The last init container runs beside the first: 1050m is more than 350m.
        assert_eq!(of_pod(&pod, "requests")["cpu"].to_string(), "1060m");
        assert!(of_pod(&pod, "limits").is_empty());
    }

    #[test]
    fn pieces_are_shown() {
        assert_eq!(taint(&json!({"key": "a", "value": "b", "effect": "NoExecute"})), "a=b:NoExecute");
        assert_eq!(taint(&json!({"key": "a", "effect": "NoExecute"})), "a:NoExecute");
        let labels = json!({"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "x"});
        assert_eq!(roles(&labels).into_iter().collect::<Vec<_>>(), ["control-plane", "x"]);
        let whole = read(&json!({"cpu": "2"}));
        assert_eq!(share("cpu", &read(&json!({"cpu": "150m"})), &whole), "150m (7%)");
        assert_eq!(share("cpu", &Amounts::new(), &whole), "0 (0%)");
    }
}
