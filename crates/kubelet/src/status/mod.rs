//! A pod's status as a pure function of the pod, the runtime's records and the
//! probes' results: [`pod_status`]. Writing it to the API server is the job of
//! [`writer`], which is the only component that does.
//!
//! The rules are upstream's (`getPhase`, the condition generators,
//! `convertToAPIContainerStatuses`).

mod conditions;
mod containers;
#[cfg(test)]
mod tests;
pub mod writer;

use std::collections::HashMap;
use std::net::IpAddr;

use api::metav1::Time;
use api::types::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use jiff::Timestamp;

use crate::pod::{self, Role};
use crate::runtime::record::Observed;
use crate::worker::plan::ProbeResults;
use crate::worker::stage::{Stage, Verdict};

/// Why a container does not run yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// One word, such as `ErrImagePull`.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What a pod's status is made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The pod, with the status that the API server has.
    pub pod: &'a Pod,
    /// The stage of its life.
    pub stage: &'a Stage,
    /// The runtime's records.
    pub observed: &'a Observed,
    /// The probes' results.
    pub probes: &'a ProbeResults,
    /// Why containers wait, by name.
    pub waiting: &'a HashMap<String, Waiting>,
    /// Termination messages by container id are in the records; the node's
    /// addresses are here, the primary one first.
    pub host_addresses: &'a [IpAddr],
}

/// A time as the API has it: whole seconds.
#[must_use]
pub fn api_time(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// The status of a pod.
#[must_use]
pub fn pod_status(inputs: &Inputs<'_>, now: Timestamp) -> PodStatus {
    let pod = inputs.pod;
    let old = pod.status.clone().unwrap_or_default();
    let containers::Statuses { init, main, ephemeral } = containers::statuses(inputs);
    let verdict = verdict(inputs.stage);
    let phase = match verdict {
        Some(_) if matches!(inputs.stage, Stage::Terminated(_)) => "Failed",
        _ => settled_phase(&old, phase(inputs, &init, &main)),
    };
    let addresses = addresses(inputs);
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        reason: verdict.map(|verdict| verdict.reason.clone()).or_else(|| old.reason.clone()),
        message: verdict.map(|verdict| verdict.message.clone()).or_else(|| old.message.clone()),
        qos_class: Some(pod::qos_class(pod).as_str().to_owned()),
        start_time: old.start_time.clone().or_else(|| Some(api_time(now))),
        host_ip: inputs.host_addresses.first().map(ToString::to_string),
        host_ips: Some(
            inputs.host_addresses.iter().map(|address| HostIP { ip: address.to_string() }).collect(),
        ),
        pod_ip: addresses.first().cloned(),
        pod_ips: (!addresses.is_empty())
            .then(|| addresses.iter().map(|address| PodIP { ip: address.clone() }).collect()),
        observed_generation: pod.metadata.generation,
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: (!main.is_empty()).then_some(main),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        ..old
    };
    status.conditions = Some(conditions::conditions(inputs, &status, now));
    status
}

fn verdict(stage: &Stage) -> Option<&Verdict> {
    match stage {
        Stage::Syncing => None,
        Stage::Terminating(ending) | Stage::Terminated(ending) => ending.verdict.as_ref(),
    }
}

/// A pod that succeeded or failed stays so.
fn settled_phase<'a>(old: &PodStatus, computed: &'a str) -> &'a str {
    match old.phase.as_deref() {
        Some("Succeeded") => "Succeeded",
        Some("Failed") => "Failed",
        _ => computed,
    }
}

fn addresses(inputs: &Inputs<'_>) -> Vec<String> {
    if pod::uses_host_network(inputs.pod) {
        return inputs.host_addresses.iter().map(ToString::to_string).collect();
    }
    let current = inputs.observed.sandboxes.first().map(|sandbox| &sandbox.addresses);
    match current {
        Some(addresses) if !addresses.is_empty() => addresses.iter().map(ToString::to_string).collect(),
        // The addresses of a pod that is over are still shown.
        _ => {
            let old = inputs.pod.status.as_ref().and_then(|status| status.pod_ips.as_ref());
            old.into_iter().flatten().map(|address| address.ip.clone()).collect()
        }
    }
}

#[derive(Default)]
struct Counts {
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

/// Upstream's `getPhase`.
fn phase(inputs: &Inputs<'_>, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
    let policy = pod::spec(inputs.pod).restart_policy.as_deref().unwrap_or("Always");
    let mut pending = false;
    let mut init_failed = false;
    for (container, status) in pod::init_containers(inputs.pod).iter().zip(init) {
        let state = status.state.clone().unwrap_or_default();
        let ended = state.terminated.or_else(|| {
            status.last_state.clone().and_then(|last| last.terminated).filter(|_| state.running.is_none())
        });
        match (pod::init_role(container), ended) {
            (Role::Sidecar, _) => pending |= status.started != Some(true) && !has_begun(main),
            (_, Some(ended)) => init_failed |= ended.exit_code != 0,
            (_, None) => pending = true,
        }
    }
    let counts = count(main);
    let is_over = matches!(inputs.stage, Stage::Terminated(_)) && !pod::is_static(inputs.pod);
    if init_failed && (policy == "Never" || is_over) {
        return "Failed";
    }
    if is_over && counts.running == 0 && counts.waiting == 0 {
        return if counts.stopped == counts.succeeded { "Succeeded" } else { "Failed" };
    }
    if pending || init_failed || counts.waiting > 0 {
        return "Pending";
    }
    if counts.running > 0 {
        return "Running";
    }
    match (counts.stopped > 0, policy) {
        (false, _) => "Pending",
        (true, "Always") => "Running",
        (true, _) if counts.stopped == counts.succeeded => "Succeeded",
        (true, "Never") => "Failed",
        (true, _) => "Running",
    }
}

fn has_begun(main: &[ContainerStatus]) -> bool {
    main.iter().any(|status| status.container_id.is_some())
}

fn count(statuses: &[ContainerStatus]) -> Counts {
    let mut counts = Counts::default();
    for status in statuses {
        let state = status.state.clone().unwrap_or_default();
        let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        match (&state.terminated, &state.running, last) {
            (Some(ended), _, _) => {
                counts.stopped += 1;
                counts.succeeded += usize::from(ended.exit_code == 0);
            }
            (None, Some(_), _) => counts.running += 1,
            (None, None, Some(_)) => counts.stopped += 1,
            (None, None, None) => counts.waiting += 1,
        }
    }
    counts
}
