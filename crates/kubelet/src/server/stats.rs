//! The kubelet's stats Summary, from control groups and the network devices.

use serde_json::{Value, json};

use crate::cgroups::usage::Usage;
use crate::pod;
use crate::runtime::record::State;
use crate::worker::pods::Pods;

fn cpu(usage: &Usage, now: &str) -> Value {
    json!({"time": now, "usageCoreNanoSeconds": usage.cpu_nanoseconds})
}

fn memory(usage: &Usage, now: &str) -> Value {
    json!({
        "time": now, "usageBytes": usage.memory, "workingSetBytes": usage.working_set,
        "rssBytes": usage.resident, "pageFaults": usage.page_faults, "majorPageFaults": usage.major_page_faults,
    })
}

/// The summary of the node and its pods.
pub(super) fn summary(pods: &Pods) -> Value {
    let now = crate::time::now();
    let stamp = crate::status::api_time(now).0.to_string();
    let groups = pods.tools().runtime.cgroups();
    let root = groups.root_usage();
    let list: Vec<Value> = pods
        .list()
        .into_iter()
        .filter(|(_, shown)| shown.observed.running().next().is_some())
        .map(|(pod, shown)| {
            let id = pod::id(&pod);
            let group = groups.of_pod(&id.uid, pod::qos_class(&pod));
            let of_pod = groups.usage(&group).unwrap_or_default();
            let containers: Vec<Value> = shown
                .observed
                .running()
                .map(|record| {
                    let usage = groups.usage(&format!("{group}/{}", record.id)).unwrap_or_default();
                    json!({
                        "name": record.name, "startTime": record.created_at,
                        "cpu": cpu(&usage, &stamp), "memory": memory(&usage, &stamp),
                    })
                })
                .collect();
            let pid = shown.observed.running().find_map(|record| match record.state {
                State::Running { pid } => Some(pid),
                _ => None,
            });
            json!({
                "podRef": {"name": id.name, "namespace": id.namespace, "uid": id.uid},
                "startTime": pod.status.as_ref().and_then(|status| status.start_time.clone()),
                "containers": containers,
                "cpu": cpu(&of_pod, &stamp), "memory": memory(&of_pod, &stamp),
                "network": pid.map_or(Value::Null, |pid| network(pid, &stamp)),
                "process_stats": {"process_count": of_pod.tasks},
            })
        })
        .collect();
    let mut node_memory = memory(&root, &stamp);
    node_memory["availableBytes"] = crate::node::facts::memory_available().into();
    json!({"node": {"cpu": cpu(&root, &stamp), "memory": node_memory}, "pods": list})
}

/// What went through the devices that a process sees.
fn network(pid: u32, now: &str) -> Value {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let interfaces: Vec<Value> = parse_devices(&text);
    let first = interfaces.iter().find(|interface| interface["name"] == "eth0").cloned().unwrap_or_default();
    let mut result = json!({"time": now, "interfaces": interfaces});
    if let (Some(result), Some(first)) = (result.as_object_mut(), first.as_object()) {
        result.extend(first.clone());
    }
    result
}

fn parse_devices(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(name, _)| name.trim() != "lo")
        .filter_map(|(name, rest)| {
            let numbers: Vec<u64> =
                rest.split_whitespace().filter_map(|number| number.parse().ok()).collect();
            (numbers.len() >= 11).then(|| {
                json!({
                    "name": name.trim(), "rxBytes": numbers[0], "rxErrors": numbers[2],
                    "txBytes": numbers[8], "txErrors": numbers[10],
                })
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 0 0 0 0 0 20 4 5 0 0 0 0 0\n";
        assert_eq!(
            parse_devices(text),
            [json!({"name": "eth0", "rxBytes": 10, "rxErrors": 3, "txBytes": 20, "txErrors": 5})]
        );
    }
}
