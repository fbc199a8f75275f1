//! What controllers ask of pods, and how they make them. Pure.

use std::time::Duration;

use api::metav1;
use api::types::core::v1::{Pod, PodCondition, PodTemplateSpec};
use jiff::Timestamp;
use reconcile::Action;
use serde_json::json;

/// `status.phase`, `Pending` where there is none yet.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether all its containers have ended for good.
#[must_use]
pub fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether its deletion was asked for.
#[must_use]
pub const fn is_being_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether it runs or may run, and is to stay.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !has_ended(pod) && !is_being_deleted(pod)
}

/// Whether it still runs although its deletion was asked for.
#[must_use]
pub fn is_terminating(pod: &Pod) -> bool {
    !has_ended(pod) && is_being_deleted(pod)
}

/// A condition of its status.
#[must_use]
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Since when it is ready.
#[must_use]
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// Whether it is ready.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// How long until it has been ready for `min_ready_seconds`; zero where it has,
/// `None` where it is not ready.
#[must_use]
pub fn until_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let since = ready_since(pod)?;
    if min_ready_seconds <= 0 {
        return Some(Duration::ZERO);
    }
    let ready_for = now.duration_since(since).as_secs_f64();
    Some(Duration::from_secs_f64((f64::from(min_ready_seconds) - ready_for).max(0.0)))
}

/// Whether it has been ready for `min_ready_seconds`.
#[must_use]
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    until_available(pod, min_ready_seconds, now) == Some(Duration::ZERO)
}

/// `spec.nodeName`, empty where it is not scheduled.
#[must_use]
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// `metadata.name`.
#[must_use]
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// A pod as a template describes it, for a controller of this name.
#[must_use]
pub fn from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    controller: &str,
    owner: metav1::OwnerReference,
) -> Pod {
    let described = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: metav1::ObjectMeta {
            generate_name: Some(name_prefix(controller)),
            namespace: Some(namespace.to_owned()),
            labels: described.labels,
            annotations: described.annotations,
            finalizers: described.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The start of the names of a controller's pods. The server cuts a prefix that
/// is too long for its random end; a trailing dash after that is its business.
#[must_use]
pub fn name_prefix(controller: &str) -> String {
    format!("{controller}-")
}

/// Says in the pod's status why it is being deleted, and with `phase` also how
/// it ended; `None` where that is said already.
#[must_use]
pub fn mark_disrupted(
    pod: &Pod,
    reason: &str,
    message: &str,
    phase: Option<&str>,
    now: Timestamp,
) -> Option<Action> {
    const TARGET: &str = "DisruptionTarget";
    if phase.is_none() && condition(pod, TARGET).is_some_and(|said| said.reason.as_deref() == Some(reason)) {
        return None;
    }
    let mut conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions.retain(|condition| condition.type_ != TARGET);
    conditions.push(PodCondition {
        type_: TARGET.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(crate::status::time(now)),
        ..PodCondition::default()
    });
    let mut status = json!({"conditions": conditions});
    if let Some(phase) = phase {
        status["phase"] = phase.into();
    }
    let version = &pod.metadata.resource_version;
    Some(Action::patch_status(pod, json!({"metadata": {"resourceVersion": version}, "status": status})))
}
