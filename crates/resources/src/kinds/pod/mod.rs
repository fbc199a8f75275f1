//! Pods, and the pod templates of workloads.
//!
//! Start in [`Pod`]; the rules for a pod's spec begin in [`spec`].

mod cells;
mod containers;
pub(crate) mod defaults;
mod env;
mod probes;
pub(crate) use probes::port as port_rules;
mod qos;
pub mod references;
pub(crate) mod resources;
pub use resources::is_extended;
pub(crate) use resources::value;
pub(crate) mod scheduling;
mod security;
pub(crate) mod spec;
mod update;
pub(crate) mod volumes;
mod warnings;
pub(crate) use warnings::on_spec as template_warnings;

use api::{ErrorList, FieldError, Object, Path};
use jiff::Timestamp;
use serde_json::{Value, json};

pub use qos::qos_class;

use crate::fields::{Fields, default_to};
use crate::strategy::Grace;
use crate::{Part, Strategy, metadata};

/// The behaviour of pods.
pub(crate) struct Pod;

/// The annotation that marks the mirror of a static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

const SELECTABLE: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

impl Strategy for Pod {
    fn default(&self, object: &mut Object) {
        defaults::pod(object);
    }

    fn prepare_create(&self, object: &mut Object) {
        metadata::first_generation(object);
        let mut status = json!({"phase": "Pending", "qosClass": qos_class(object)});
        if !object.field("spec").list("schedulingGates").is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": null,
            }]);
        }
        object.set("status", status);
        defaults::match_label_keys(object);
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        match part {
            Part::Main => {
                metadata::keep_other_parts(part, new, old);
                metadata::raise_generation(new, old);
            }
            Part::Status => prepare_status(new, old),
            Part::Other("ephemeralcontainers") => {
                let added = new.field("spec").field("ephemeralContainers").clone();
                keep_all_but(new, old);
                if added.is_null() {
                    new.remove_at(&["spec", "ephemeralContainers"]);
                } else {
                    new.set_at(&["spec", "ephemeralContainers"], added);
                }
                defaults::pod(new);
                metadata::raise_generation(new, old);
            }
            Part::Other("resize") => {
                let spec = new.field("spec").clone();
                keep_all_but(new, old);
                new.set("spec", spec);
                metadata::raise_generation(new, old);
            }
            // The binding was applied to the whole old pod: nothing else differs.
            Part::Other("binding") => {}
            Part::Other(_) => metadata::keep_other_parts(part, new, old),
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        update::by_itself(object)
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        match part {
            Part::Main => update::main(new, old),
            Part::Status => update::status(new, old),
            Part::Other("ephemeralcontainers") => update::ephemeral_containers(new, old),
            Part::Other("resize") => update::resize(new, old),
            Part::Other(_) => ErrorList::new(),
        }
    }

    fn warnings(&self, new: &Object, old: Option<&Object>) -> Vec<String> {
        if old.is_some() { Vec::new() } else { warnings::on_create(new) }
    }

    fn grace(&self, object: &Object, asked: Option<i64>) -> Grace {
        Grace::Seconds(grace_seconds(object, asked))
    }

    fn selectable_names(&self) -> Vec<&str> {
        SELECTABLE.to_vec()
    }

    fn selectable(&self, object: &Object) -> Vec<(&'static str, String)> {
        let (spec, status) = (object.field("spec"), object.field("status"));
        let addresses: Vec<&str> = status.list("podIPs").iter().map(|one| one.text("ip")).collect();
        let values = [
            spec.text("nodeName").to_owned(),
            spec.text("restartPolicy").to_owned(),
            spec.text("schedulerName").to_owned(),
            spec.text("serviceAccountName").to_owned(),
            spec.flag("hostNetwork").to_string(),
            status.text("phase").to_owned(),
            addresses.first().copied().unwrap_or_default().to_owned(),
            addresses.join(","),
            status.text("nominatedNodeName").to_owned(),
        ];
        SELECTABLE.iter().copied().zip(values).collect()
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        cells::row(object, now)
    }
}

/// The old object with the metadata of the write.
fn keep_all_but(new: &mut Object, old: &Object) {
    let mut kept = old.clone();
    if let Some(metadata) = new.remove("metadata") {
        kept.set("metadata", metadata);
    }
    *new = kept;
}

fn prepare_status(new: &mut Object, old: &Object) {
    metadata::keep_other_parts(Part::Status, new, old);
    metadata::keep_metadata(&["ownerReferences", "deletionTimestamp"], new, old);
    let (class, observed) =
        (old.text(&["status", "qosClass"]), old.integer(&["status", "observedGeneration"]));
    let Some(status) = crate::fields::object_at(new.as_map_mut(), "status") else { return };
    if status.text("qosClass").is_empty() && !class.is_empty() {
        status.insert("qosClass".into(), class.into());
    }
    if let Some(observed) = observed {
        default_to(status, "observedGeneration", observed);
    }
}

/// How long a pod may take to end, following upstream's `CheckGracefulDelete`:
/// nothing is waited for where no node runs it, or its containers have ended.
#[must_use]
pub fn grace_seconds(pod: &Object, asked: Option<i64>) -> i64 {
    let spec = pod.field("spec");
    let ended = matches!(pod.field("status").text("phase"), "Failed" | "Succeeded");
    if spec.text("nodeName").is_empty() || ended {
        return 0;
    }
    match asked.or_else(|| spec.int("terminationGracePeriodSeconds")).unwrap_or(0) {
        // Upstream kept this reading of negative numbers for compatibility.
        i64::MIN..0 => 1,
        seconds => seconds,
    }
}

/// Rules for the body of `pods/binding`.
#[must_use]
pub fn validate_binding(binding: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (target, path) = (binding.field("target"), Path::new("target"));
    let kind = target.text("kind");
    if !kind.is_empty() && kind != "Node" {
        errors.push(FieldError::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if target.text("name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    errors
}

/// Why a pod cannot be bound to a node now; `None` where it can.
#[must_use]
pub fn binding_conflict(pod: &Object, binding: &Object) -> Option<String> {
    let name = pod.name();
    let uid = binding.uid();
    if !uid.is_empty() && uid != pod.uid() {
        return Some(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            pod.uid()
        ));
    }
    if pod.is_terminating() {
        return Some(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = pod.field("spec").text("nodeName");
    if !node.is_empty() {
        return Some(format!("pod {name} is already assigned to node {node:?}"));
    }
    if !pod.field("spec").list("schedulingGates").is_empty() {
        return Some(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    None
}

/// Binds a pod: its node, the annotations of the binding, and the condition
/// that it is scheduled.
pub fn bind(pod: &mut Object, binding: &Object, now: Timestamp) {
    pod.set_at(&["spec", "nodeName"], binding.field("target").text("name"));
    for (name, value) in binding.annotations().into_iter().flatten() {
        pod.set_at(&["metadata", "annotations", name], value.clone());
    }
    for (name, value) in binding.labels().into_iter().flatten() {
        // Upstream copies topology labels only.
        if name.starts_with("topology.kubernetes.io/") {
            pod.set_at(&["metadata", "labels", name], value.clone());
        }
    }
    pod.remove_at(&["status", "nominatedNodeName"]);
    let scheduled = json!({
        "type": "PodScheduled", "status": "True",
        "lastProbeTime": null, "lastTransitionTime": api::time::format(now),
        "observedGeneration": pod.generation(),
    });
    let mut conditions: Vec<Value> = pod.field("status").list("conditions").to_vec();
    match conditions.iter_mut().find(|one| one.text("type") == "PodScheduled") {
        Some(one) if one.text("status") == "True" => {}
        Some(one) => *one = scheduled,
        None => conditions.push(scheduled),
    }
    pod.set_at(&["status", "conditions"], conditions);
}
