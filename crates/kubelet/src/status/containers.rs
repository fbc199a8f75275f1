//! Container statuses.

use api::types::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus,
};

use super::{Inputs, Waiting, api_time};
use crate::pod::{self, Role};
use crate::runtime::record::{Exit, Record, State};
use crate::worker::stage::Stage;

/// Statuses of a pod's containers, in the pod's order.
pub(super) struct Statuses {
    /// Of init containers and sidecars.
    pub(super) init: Vec<ContainerStatus>,
    /// Of the main containers.
    pub(super) main: Vec<ContainerStatus>,
    /// Of the ephemeral ones.
    pub(super) ephemeral: Vec<ContainerStatus>,
}

/// The status of every container.
pub(super) fn statuses(inputs: &Inputs<'_>) -> Statuses {
    let init = pod::init_containers(inputs.pod);
    let of = |role: Role, container: &Container| status(inputs, role, container, !init.is_empty());
    Statuses {
        init: init.iter().map(|container| of(pod::init_role(container), container)).collect(),
        main: pod::spec(inputs.pod).containers.iter().map(|container| of(Role::Main, container)).collect(),
        ephemeral: pod::ephemeral_containers(inputs.pod)
            .map(|container| status(inputs, Role::Ephemeral, &container, false))
            .collect(),
    }
}

/// A container's id as the API shows it.
#[must_use]
pub(crate) fn container_id(id: &str) -> String {
    format!("containerd://{id}")
}

fn status(inputs: &Inputs<'_>, role: Role, container: &Container, has_init: bool) -> ContainerStatus {
    let latest = inputs.observed.latest(&container.name);
    let (state, last_state) = states(inputs, role, container, has_init, latest);
    let is_running = latest.is_some_and(Record::is_running);
    let probed =
        |set: &std::collections::HashSet<String>| latest.is_some_and(|record| set.contains(&record.id));
    let started = is_running && probed(&inputs.probes.started);
    let ready = match role {
        Role::Ephemeral => false,
        Role::Init => state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0),
        _ => started && probed(&inputs.probes.ready),
    };
    let old = old_status(inputs, &container.name);
    let restarts = latest.map_or(0, |record| i32::try_from(record.attempt).unwrap_or(i32::MAX));
    ContainerStatus {
        name: container.name.clone(),
        image: latest
            .map(|record| record.image.clone())
            .or_else(|| container.image.clone())
            .unwrap_or_default(),
        image_id: latest.map(|record| record.image_id.clone()).unwrap_or_default(),
        container_id: latest
            .map(|record| container_id(&record.id))
            .or_else(|| old.and_then(|old| old.container_id.clone())),
        restart_count: restarts.max(old.map_or(0, |old| old.restart_count)),
        ready,
        started: Some(started),
        allocated_resources: container.resources.as_ref().and_then(|resources| resources.requests.clone()),
        resources: container.resources.clone(),
        state: Some(state),
        last_state: Some(last_state),
        ..ContainerStatus::default()
    }
}

fn old_status<'a>(inputs: &Inputs<'a>, name: &str) -> Option<&'a ContainerStatus> {
    let status = inputs.pod.status.as_ref()?;
    let main = status.container_statuses.iter().flatten();
    let init = status.init_container_statuses.iter().flatten();
    main.chain(init).chain(status.ephemeral_container_statuses.iter().flatten()).find(|old| old.name == name)
}

/// The state shown and the one before it.
fn states(
    inputs: &Inputs<'_>,
    role: Role,
    container: &Container,
    has_init: bool,
    latest: Option<&Record>,
) -> (ContainerState, ContainerState) {
    let previous = inputs
        .observed
        .previous(&container.name)
        .and_then(|record| record.exit().map(|exit| terminated(record, exit)))
        .unwrap_or_default();
    let is_over = matches!(inputs.stage, Stage::Terminated(_));
    let waiting = inputs.waiting.get(&container.name);
    match latest.map(|record| (record, &record.state)) {
        Some((record, State::Running { .. })) => (running(record), previous),
        Some((record, State::Exited(exit))) => {
            let ended = terminated(record, exit);
            match waiting {
                // It will be started again: what it waits for is its state now.
                Some(waiting) if !is_over && pod::should_restart(inputs.pod, role, container, exit.code) => {
                    (waits(waiting), ended)
                }
                _ => (ended, previous),
            }
        }
        Some((_, State::Created)) => (waits(&default_waiting(has_init)), previous),
        None => (without_record(inputs, role, container, has_init, waiting), ContainerState::default()),
    }
}

fn without_record(
    inputs: &Inputs<'_>,
    role: Role,
    container: &Container,
    has_init: bool,
    waiting: Option<&Waiting>,
) -> ContainerState {
    // Its record may have been collected; what the API server has is the past.
    let old = old_status(inputs, &container.name);
    let old_state = old.and_then(|old| old.state.as_ref());
    if let Some(ended) = old_state.and_then(|state| state.terminated.as_ref()) {
        return ContainerState { terminated: Some(ended.clone()), ..ContainerState::default() };
    }
    let is_over = matches!(inputs.stage, Stage::Terminated(_));
    let was_running = old_state.is_some_and(|state| state.running.is_some());
    if (is_over && role == Role::Main) || was_running {
        return ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some("The container could not be located when the pod was terminated".to_owned()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        };
    }
    waits(waiting.unwrap_or(&default_waiting(has_init)))
}

fn default_waiting(has_init: bool) -> Waiting {
    let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
    Waiting { reason: reason.to_owned(), message: String::new() }
}

fn waits(waiting: &Waiting) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(waiting.reason.clone()),
            message: (!waiting.message.is_empty()).then(|| waiting.message.clone()),
        }),
        ..ContainerState::default()
    }
}

fn running(record: &Record) -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning { started_at: Some(api_time(record.created_at)) }),
        ..ContainerState::default()
    }
}

fn terminated(record: &Record, exit: &Exit) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(container_id(&record.id)),
            exit_code: exit.code,
            reason: Some(exit.reason.clone()),
            message: exit.message.clone(),
            started_at: Some(api_time(record.created_at)),
            finished_at: Some(api_time(exit.finished_at)),
            signal: None,
        }),
        ..ContainerState::default()
    }
}
