//! The scopes of quotas: which pods, and claims, a quota is about.

use serde_json::{Value, json};

use super::{is_used_by, list, pod_resources};
use crate::Object;

/// Whether a quota is about an object: it limits (`hard`) something that objects of the
/// kind use, and its scopes include the object.
#[must_use]
pub fn covers(spec: &Value, hard: &Value, group: &str, resource: &str, object: &Object) -> bool {
    let mut names = hard.as_object().into_iter().flatten().map(|(name, _)| name);
    if !names.any(|name| is_used_by(group, resource, name)) {
        return false;
    }
    let plain = spec["scopes"].as_array().into_iter().flatten();
    let plain = plain.map(|scope| json!({"scopeName": scope, "operator": "Exists"}));
    let selected = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten().cloned();
    plain.chain(selected).all(|rule| includes(&rule, group, resource, object))
}

fn includes(rule: &Value, group: &str, resource: &str, object: &Object) -> bool {
    let scope = rule["scopeName"].as_str().unwrap_or_default();
    match (group, resource, scope) {
        ("", "pods", "Terminating") => has_deadline(object),
        ("", "pods", "NotTerminating") => !has_deadline(object),
        ("", "pods", "BestEffort") => is_best_effort(object),
        ("", "pods", "NotBestEffort") => !is_best_effort(object),
        ("", "pods", "PriorityClass") => selects(rule, &[object.text(&["spec", "priorityClassName"])]),
        ("", "pods", "CrossNamespacePodAffinity") => looks_elsewhere(object),
        ("", "persistentvolumeclaims", "VolumeAttributesClass") => {
            let classes = [
                &["spec", "volumeAttributesClassName"][..],
                &["status", "currentVolumeAttributesClassName"],
                &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
            ];
            selects(rule, &classes.map(|path| object.text(path)))
        }
        _ => false,
    }
}

/// Whether one of the names that an object has (empty: none) is selected.
fn selects(rule: &Value, names: &[&str]) -> bool {
    let has_any = names.iter().any(|name| !name.is_empty());
    let listed = |name: &&str| rule["values"].as_array().into_iter().flatten().any(|value| value == *name);
    match rule["operator"].as_str() {
        Some("Exists") => has_any,
        Some("DoesNotExist") => !has_any,
        Some("In") => names.iter().filter(|name| !name.is_empty()).any(listed),
        Some("NotIn") => !has_any || names.iter().filter(|name| !name.is_empty()).any(|name| !listed(name)),
        _ => false,
    }
}

fn has_deadline(pod: &Object) -> bool {
    pod.integer(&["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0)
}

/// Whether a pod asks for no cpu and no memory at all.
fn is_best_effort(pod: &Object) -> bool {
    let (requests, limits) = pod_resources(pod);
    ["cpu", "memory"].iter().all(|name| {
        [&requests, &limits].iter().all(|amounts| amounts.get(*name).is_none_or(|amount| amount.is_zero()))
    })
}

/// Whether a pod's affinity looks at pods of other namespaces.
fn looks_elsewhere(pod: &Object) -> bool {
    let crosses = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|names| !names.is_empty())
            || term["namespaceSelector"].is_object()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let at = |field: &'static str| list(pod, &["spec", "affinity", kind, field]);
        at("requiredDuringSchedulingIgnoredDuringExecution").iter().any(crosses)
            || at("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}
