//! The labels under which containers and sandboxes live in containerd, and
//! their translation to and from [`super::record`]. They hold everything that
//! a restarted kubelet needs to find its pods again; the pod itself is an
//! extension of its sandbox, because a label's length is limited.

use std::collections::HashMap;

use api::types::core::v1::Pod;
use containerd_client::services::v1::Container;
use jiff::Timestamp;
use prost_types::Any;

use super::containerd::timestamp;
use super::record::{Exit, Record, Sandbox, State};
use crate::pod::{PodId, Role};

pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub(crate) const KIND: &str = "corten.dev/kind";
pub(crate) const ROOT: &str = "corten.dev/kubelet-root";
pub(crate) const ATTEMPT: &str = "corten.dev/attempt";
pub(crate) const ROLE: &str = "corten.dev/role";
pub(crate) const HASH: &str = "corten.dev/hash";
pub(crate) const IMAGE_ID: &str = "corten.dev/image-id";
pub(crate) const SANDBOX: &str = "corten.dev/sandbox";
/// The shim that the container is under, by its group.
pub(crate) const SHIM: &str = "corten.dev/shim";
pub(crate) const BACKOFF: &str = "corten.dev/backoff-seconds";
pub(crate) const BOOT: &str = "corten.dev/boot-id";
pub(crate) const READY: &str = "corten.dev/ready";
pub(crate) const ADDRESSES: &str = "corten.dev/addresses";
pub(crate) const EXIT_CODE: &str = "corten.dev/exit-code";
pub(crate) const EXIT_REASON: &str = "corten.dev/exit-reason";
pub(crate) const EXIT_TIME: &str = "corten.dev/exit-time";
pub(crate) const EXIT_MESSAGE: &str = "corten.dev/exit-message";
pub(crate) const LOG_PATH: &str = "corten.dev/log-path";
pub(crate) const TERMINATION_FILE: &str = "corten.dev/termination-file";
pub(crate) const TERMINATION_POLICY: &str = "corten.dev/termination-policy";
pub(crate) const STOP_SIGNAL: &str = "corten.dev/stop-signal";
/// The container's program was about to be started, or is.
pub(crate) const STARTED: &str = "corten.dev/started";
/// The plan of a logger that this kubelet starts.
pub(crate) const LOGGER: &str = "corten.dev/logger";
const POD_EXTENSION: &str = "corten.dev/pod";

/// The longest text kept in a label.
const LONGEST_LABEL: usize = 3_000;

/// Labels of everything that belongs to a pod.
pub(crate) fn of_pod(id: &PodId, kind: &str, root: &str) -> HashMap<String, String> {
    [
        (POD_UID, id.uid.as_str()),
        (POD_NAME, id.name.as_str()),
        (POD_NAMESPACE, id.namespace.as_str()),
        (KIND, kind),
        (ROOT, root),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The pod that a container belongs to.
pub(crate) fn pod_id(labels: &HashMap<String, String>) -> PodId {
    let get = |key| labels.get(key).cloned().unwrap_or_default();
    PodId { uid: get(POD_UID), namespace: get(POD_NAMESPACE), name: get(POD_NAME) }
}

/// The pod, as an extension of its sandbox.
pub(crate) fn pod_extension(pod: &Pod) -> HashMap<String, Any> {
    let value = serde_json::to_vec(pod).unwrap_or_default();
    [(POD_EXTENSION.to_owned(), Any { type_url: POD_EXTENSION.to_owned(), value })].into()
}

/// The pod of a sandbox.
pub(crate) fn pod_of(container: &Container) -> Option<Pod> {
    serde_json::from_slice(&container.extensions.get(POD_EXTENSION)?.value).ok()
}

/// Labels that record an end.
pub(crate) fn exit(code: i32, reason: &str, at: Timestamp) -> Vec<(String, String)> {
    [(EXIT_CODE, code.to_string()), (EXIT_REASON, reason.to_owned()), (EXIT_TIME, at.to_string())]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
}

/// The label that ends the record of an end: the last words.
pub(crate) fn exit_message(message: &str) -> Vec<(String, String)> {
    let mut message = message.to_owned();
    while message.len() > LONGEST_LABEL {
        message.pop();
    }
    vec![(EXIT_MESSAGE.to_owned(), message)]
}

/// A sandbox; whether its namespaces exist is for the caller to say.
pub(crate) fn sandbox(container: &Container, exists: bool) -> Sandbox {
    let label = |key| container.labels.get(key).map(String::as_str).unwrap_or_default();
    Sandbox {
        id: container.id.clone(),
        attempt: label(ATTEMPT).parse().unwrap_or_default(),
        created_at: timestamp(container.created_at.as_ref()).unwrap_or_default(),
        is_ready: exists && label(READY) == "true",
        addresses: label(ADDRESSES).split(',').filter_map(|address| address.parse().ok()).collect(),
    }
}

/// A container, with the state that the task service reports; `None` where it
/// knows no task. One that was started ended unseen.
pub(crate) fn record(container: &Container, task: Option<State>) -> Record {
    let label = |key| container.labels.get(key).map(String::as_str).unwrap_or_default();
    let created_at = timestamp(container.created_at.as_ref()).unwrap_or_default();
    let state = recorded_exit(container).map(State::Exited).or(task).unwrap_or_else(|| {
        // A task that was started and is no more was lost, with the machine's
        // start or with its shim; one that never was is made anew.
        if !is_started(container) {
            return State::Created;
        }
        State::Exited(Exit {
            code: 255,
            reason: "Unknown".to_owned(),
            message: None,
            finished_at: timestamp(container.updated_at.as_ref()).unwrap_or(created_at),
        })
    });
    Record {
        id: container.id.clone(),
        name: label(CONTAINER_NAME).to_owned(),
        role: match label(ROLE) {
            "init" => Role::Init,
            "sidecar" => Role::Sidecar,
            "ephemeral" => Role::Ephemeral,
            _ => Role::Main,
        },
        attempt: label(ATTEMPT).parse().unwrap_or_default(),
        hash: label(HASH).to_owned(),
        image: container.image.clone(),
        image_id: label(IMAGE_ID).to_owned(),
        sandbox_id: label(SANDBOX).to_owned(),
        shim: label(SHIM).to_owned(),
        backoff_seconds: label(BACKOFF).parse().unwrap_or_default(),
        created_at,
        state,
    }
}

/// Whether the container's program can have run.
pub(crate) fn is_started(container: &Container) -> bool {
    container.labels.contains_key(STARTED)
}

/// The recorded end, if the container has one.
pub(crate) fn recorded_exit(container: &Container) -> Option<Exit> {
    let code = container.labels.get(EXIT_CODE)?.parse().ok()?;
    let label = |key| container.labels.get(key).cloned().unwrap_or_default();
    Some(Exit {
        code,
        reason: label(EXIT_REASON),
        message: Some(label(EXIT_MESSAGE)).filter(|message| !message.is_empty()),
        finished_at: label(EXIT_TIME).parse().unwrap_or_default(),
    })
}
