//! The pod conditions that the kubelet owns; all others are kept as they are.

use api::types::core::v1::{ContainerStatus, PodCondition, PodStatus};
use jiff::Timestamp;

use super::{Inputs, api_time};
use crate::pod::{self, Role};

struct Finding {
    is_true: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Finding {
    const TRUE: Self = Self { is_true: true, reason: None, message: None };

    const fn no(reason: &'static str, message: Option<String>) -> Self {
        Self { is_true: false, reason: Some(reason), message }
    }
}

/// All conditions, ours anew and the others unchanged.
pub(super) fn conditions(inputs: &Inputs<'_>, status: &PodStatus, now: Timestamp) -> Vec<PodCondition> {
    let old: Vec<PodCondition> =
        inputs.pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default();
    let containers_ready = containers_ready(inputs, status, phase);
    let ready = ready(inputs, &containers_ready, &old, phase);
    let own = [
        (
            "PodReadyToStartContainers",
            Finding { is_true: inputs.observed.sandbox().is_some(), reason: None, message: None },
        ),
        ("Initialized", initialized(inputs, status, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Finding::TRUE),
    ];
    let names = own.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let foreign = old.iter().filter(|condition| !names.contains(&condition.type_.as_str())).cloned();
    let mut all: Vec<PodCondition> =
        own.into_iter().map(|(name, finding)| condition(inputs, name, finding, &old, now)).collect();
    all.extend(foreign);
    all
}

fn condition(
    inputs: &Inputs<'_>,
    name: &str,
    finding: Finding,
    old: &[PodCondition],
    now: Timestamp,
) -> PodCondition {
    let status = if finding.is_true { "True" } else { "False" };
    let before = old.iter().find(|condition| condition.type_ == name);
    let since = before
        .filter(|condition| condition.status == status)
        .and_then(|condition| condition.last_transition_time.clone());
    PodCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.map(str::to_owned),
        message: finding.message,
        last_transition_time: since.or_else(|| Some(api_time(now))),
        observed_generation: inputs.pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn initialized(inputs: &Inputs<'_>, status: &PodStatus, phase: &str) -> Finding {
    let mut incomplete = Vec::new();
    for (container, status) in
        pod::init_containers(inputs.pod).iter().zip(status.init_container_statuses.iter().flatten())
    {
        let is_done = match pod::init_role(container) {
            Role::Sidecar => status.started == Some(true),
            _ => status.ready,
        };
        if !is_done {
            incomplete.push(container.name.clone());
        }
    }
    if incomplete.is_empty() {
        return Finding::TRUE;
    }
    if phase == "Succeeded" {
        return Finding { is_true: true, reason: Some("PodCompleted"), message: None };
    }
    // A sidecar that restarts does not undo what was reached.
    let has_begun = status.container_statuses.iter().flatten().any(|status| status.container_id.is_some());
    if has_begun {
        return Finding::TRUE;
    }
    Finding::no(
        "ContainersNotInitialized",
        Some(format!("containers with incomplete status: [{}]", incomplete.join(" "))),
    )
}

fn containers_ready(inputs: &Inputs<'_>, status: &PodStatus, phase: &str) -> Finding {
    match phase {
        "Succeeded" => return Finding::no("PodCompleted", None),
        "Failed" => return Finding::no("PodFailed", None),
        _ => {}
    }
    let sidecars = pod::init_containers(inputs.pod)
        .iter()
        .zip(status.init_container_statuses.iter().flatten())
        .filter(|(container, _)| pod::init_role(container) == Role::Sidecar)
        .map(|(_, status)| status);
    let unready: Vec<&str> = sidecars
        .chain(status.container_statuses.iter().flatten())
        .filter(|status: &&ContainerStatus| !status.ready)
        .map(|status| status.name.as_str())
        .collect();
    if unready.is_empty() {
        Finding::TRUE
    } else {
        Finding::no(
            "ContainersNotReady",
            Some(format!("containers with unready status: [{}]", unready.join(" "))),
        )
    }
}

fn ready(inputs: &Inputs<'_>, containers: &Finding, old: &[PodCondition], phase: &str) -> Finding {
    if !containers.is_true {
        return Finding { is_true: false, reason: containers.reason, message: containers.message.clone() };
    }
    debug_assert!(!matches!(phase, "Succeeded" | "Failed"), "containers of a pod that is over are not ready");
    let missing: Vec<String> = pod::spec(inputs.pod)
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| match old.iter().find(|condition| condition.type_ == gate.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(condition) if condition.status != "True" => Some(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, condition.status
            )),
            Some(_) => None,
        })
        .collect();
    if missing.is_empty() {
        Finding::TRUE
    } else {
        Finding::no("ReadinessGatesNotReady", Some(missing.join(", ")))
    }
}
