//! Who a pod of a stateful set is: its ordinal, its name, the labels that say so.

use std::ops::Range;

use api::types::apps::v1::StatefulSet;
use api::types::core::v1::{Pod, PodTemplateSpec};
use serde_json::{Value, json};

use super::claims;
use crate::{owners, pods};

/// The label that names the revision of a pod's template.
pub(super) const REVISION: &str = "controller-revision-hash";
/// The label that holds a pod's own name.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The label that holds a pod's ordinal.
const INDEX: &str = "apps.kubernetes.io/pod-index";

/// A name as what stands before its last dash, and the number after it.
pub(super) fn split(name: &str) -> Option<(&str, i32)> {
    let (parent, digits) = name.rsplit_once('-')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((parent, digits.parse().ok().filter(|_| is_number)?))
}

/// A pod's ordinal in a set; `None` for pods of other names.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, ordinal) = split(pods::name(pod))?;
    (parent == owners::name(set) && pods::name(pod) == name(set, ordinal)).then_some(ordinal)
}

/// The first ordinal.
pub(super) fn first(set: &StatefulSet) -> i32 {
    let ordinals = set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref());
    ordinals.and_then(|ordinals| ordinals.start).unwrap_or_default()
}

/// The ordinals that are to have pods.
pub(super) fn ordinals(set: &StatefulSet) -> Range<i32> {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    first(set)..first(set).saturating_add(replicas.max(0))
}

/// The name of the pod with an ordinal.
pub(super) fn name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", owners::name(set))
}

/// The name of the revision that a pod was made from; empty where it does not say.
pub(super) fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(REVISION)).map(String::as_str).unwrap_or_default()
}

/// The pod with an ordinal.
pub(super) fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let owner = owners::controller_reference(set);
    let mut pod = pods::from_template(template, owners::namespace(set), owners::name(set), owner);
    let name = name(set, ordinal);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name.clone());
    labels.insert(INDEX.to_owned(), ordinal.to_string());
    labels.insert(REVISION.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    spec.volumes = Some(claims::volumes(set, spec.volumes.as_deref().unwrap_or_default(), ordinal))
        .filter(|volumes| !volumes.is_empty());
    pod.metadata.name = Some(name);
    pod
}

/// The change that gives a pod its labels and volumes back; `None` where it has them.
pub(super) fn repair(set: &StatefulSet, pod: &Pod, ordinal: i32) -> Option<Value> {
    let mut patch = json!({});
    let labels = pod.metadata.labels.as_ref();
    if labels.and_then(|labels| labels.get(POD_NAME)).map(String::as_str) != Some(pods::name(pod)) {
        patch["metadata"]["labels"] = json!({POD_NAME: pods::name(pod), INDEX: ordinal.to_string()});
    }
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    if !claims::are_mounted(set, volumes, ordinal) {
        patch["spec"]["volumes"] = json!(claims::volumes(set, volumes, ordinal));
    }
    (patch != json!({})).then_some(patch)
}
