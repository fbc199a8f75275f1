//! Requests and limits as the numbers that the kernel takes.

use api::types::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::Version;
use crate::pod::{self, QosClass, Role};

/// Length of the period that CPU time is measured out in, in microseconds.
pub const PERIOD: i64 = 100_000;
/// The smallest quota that the kernel takes.
const SMALLEST_QUOTA: i64 = 1_000;

/// One file's new content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The controller, which is the hierarchy in version 1.
    pub controller: &'static str,
    /// The file's name.
    pub file: &'static str,
    /// What to write.
    pub value: String,
}

/// CPU shares for a request in thousandths of a core.
#[must_use]
pub fn shares(millis: i64) -> i64 {
    (millis * 1024 / 1000).clamp(2, 262_144)
}

/// Version 2's weight for version 1's shares (the OCI runtimes' formula).
#[must_use]
pub fn weight(shares: i64) -> i64 {
    1 + ((shares - 2) * 9999) / 262_142
}

/// Quota per [`PERIOD`] for a limit in thousandths of a core.
#[must_use]
pub fn quota(millis: i64) -> i64 {
    (millis * PERIOD / 1000).max(SMALLEST_QUOTA)
}

struct Sums {
    cpu_request: i64,
    /// Nothing, if one container has no limit.
    cpu_limit: Option<i64>,
    memory_limit: Option<i64>,
}

/// What a pod needs at once: the sum of what runs together, or the largest of
/// the init containers together with the sidecars before it.
fn sums(pod: &Pod) -> Sums {
    let of = |container: &Container| Sums {
        cpu_request: pod::request(container.resources.as_ref(), "cpu").map_or(0, api::Quantity::millis),
        cpu_limit: pod::limit(container.resources.as_ref(), "cpu").map(api::Quantity::millis),
        memory_limit: pod::limit(container.resources.as_ref(), "memory").map(api::Quantity::units),
    };
    let add = |a: &Sums, b: &Sums| Sums {
        cpu_request: a.cpu_request + b.cpu_request,
        cpu_limit: a.cpu_limit.zip(b.cpu_limit).map(|(a, b)| a + b),
        memory_limit: a.memory_limit.zip(b.memory_limit).map(|(a, b)| a + b),
    };
    let larger = |a: &Sums, b: &Sums| Sums {
        cpu_request: a.cpu_request.max(b.cpu_request),
        cpu_limit: a.cpu_limit.zip(b.cpu_limit).map(|(a, b)| a.max(b)),
        memory_limit: a.memory_limit.zip(b.memory_limit).map(|(a, b)| a.max(b)),
    };
    let nothing = || Sums { cpu_request: 0, cpu_limit: Some(0), memory_limit: Some(0) };
    let (mut together, mut init, mut sidecars) = (nothing(), nothing(), nothing());
    for (role, container) in pod::containers(pod) {
        let own = of(container);
        match role {
            Role::Ephemeral => {}
            Role::Main => together = add(&together, &own),
            Role::Sidecar => {
                together = add(&together, &own);
                sidecars = add(&sidecars, &own);
                init = larger(&init, &sidecars);
            }
            Role::Init => init = larger(&init, &add(&sidecars, &own)),
        }
    }
    larger(&together, &init)
}

/// Settings of a pod's group.
#[must_use]
pub fn of_pod(pod: &Pod, version: Version) -> Vec<Setting> {
    let sums = sums(pod);
    let positive = |limit: Option<i64>| limit.filter(|limit| *limit > 0);
    let (cpu, memory) = (positive(sums.cpu_limit), positive(sums.memory_limit));
    let mut settings = Vec::new();
    let mut set = |controller, file, value: String| settings.push(Setting { controller, file, value });
    let shares = if pod::qos_class(pod) == QosClass::BestEffort { 2 } else { shares(sums.cpu_request) };
    match version {
        Version::V1 => {
            set("cpu", "cpu.shares", shares.to_string());
            if let Some(millis) = cpu {
                set("cpu", "cpu.cfs_period_us", PERIOD.to_string());
                set("cpu", "cpu.cfs_quota_us", quota(millis).to_string());
            }
            if let Some(bytes) = memory {
                set("memory", "memory.limit_in_bytes", bytes.to_string());
            }
        }
        Version::V2 => {
            set("cpu", "cpu.weight", weight(shares).to_string());
            if let Some(millis) = cpu {
                set("cpu", "cpu.max", format!("{} {PERIOD}", quota(millis)));
            }
            if let Some(bytes) = memory {
                set("memory", "memory.max", bytes.to_string());
            }
        }
    }
    settings
}

/// Settings of the group of best-effort pods: the least share of the CPU.
#[must_use]
pub fn best_effort(version: Version) -> Vec<Setting> {
    vec![match version {
        Version::V1 => Setting { controller: "cpu", file: "cpu.shares", value: "2".to_owned() },
        Version::V2 => Setting { controller: "cpu", file: "cpu.weight", value: "1".to_owned() },
    }]
}

/// The `linux.resources` of a container's OCI specification, without devices.
#[must_use]
pub fn of_container(container: &Container, version: Version) -> Value {
    let resources = container.resources.as_ref();
    let request = pod::request(resources, "cpu").map_or(0, api::Quantity::millis);
    let mut cpu = json!({"shares": shares(request)});
    if let Some(limit) = pod::limit(resources, "cpu").filter(|limit| !limit.is_zero()) {
        cpu["quota"] = quota(limit.millis()).into();
        cpu["period"] = PERIOD.into();
    }
    let mut result = json!({"cpu": cpu});
    if let Some(limit) = pod::limit(resources, "memory").filter(|limit| !limit.is_zero()) {
        result["memory"] = json!({"limit": limit.units()});
        if version == Version::V2 {
            // Swap is not for pods, and one process out of memory takes its
            // container with it, as upstream has it.
            result["memory"]["swap"] = limit.units().into();
            result["unified"] = json!({"memory.oom.group": "1"});
        }
    }
    result
}

/// How willingly the kernel ends a container when memory runs out, by upstream's
/// rule.
#[must_use]
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: u64) -> i64 {
    const CRITICAL_PRIORITY: i32 = 2_000_000_000;
    if pod::spec(pod).priority.is_some_and(|priority| priority >= CRITICAL_PRIORITY) {
        return -997;
    }
    match pod::qos_class(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request =
                pod::request(container.resources.as_ref(), "memory").map_or(0, api::Quantity::units);
            let capacity = i64::try_from(memory_capacity.max(1)).unwrap_or(i64::MAX);
            let score =
                1000 - i64::try_from(i128::from(request) * 1000 / i128::from(capacity)).unwrap_or(1000);
            score.clamp(3, 999)
        }
    }
}
