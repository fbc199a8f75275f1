//! Claims of persistent volumes.

use serde_json::Value;

use super::persistentvolume::{modes, size};
use super::text::{Text, age, bracketed, items, text, time};
use super::{Query, Subject};

pub(super) fn related(claim: &Value) -> Vec<Query> {
    let namespace = text(&claim["metadata"]["namespace"]).to_owned();
    vec![Query { api_version: "v1", kind: "Pod", namespace, ..Query::default() }]
}

/// The storage class of a claim or volume; an annotation was its first form.
pub(super) fn class(object: &Value) -> &str {
    let noted = &object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    noted.as_str().unwrap_or_else(|| text(&object["spec"]["storageClassName"]))
}

/// The state of a claim or a volume.
pub(super) fn phase(out: &mut Text, subject: &Subject<'_>) {
    let deleted = &subject.object["metadata"]["deletionTimestamp"];
    if deleted.is_null() {
        out.field("Status", text(&subject.object["status"]["phase"]));
    } else {
        out.field("Status", format_args!("Terminating (lasts {})", age(deleted, subject.now)));
    }
}

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let claim = subject.object;
    let (metadata, status) = (&claim["metadata"], &claim["status"]);
    out.field("Name", text(&metadata["name"]));
    out.field("Namespace", text(&metadata["namespace"]));
    out.field("StorageClass", class(claim));
    phase(out, subject);
    out.field("Volume", text(&claim["spec"]["volumeName"]));
    out.metadata(claim);
    out.field("Finalizers", bracketed(&metadata["finalizers"]));
    rest(out, claim);
    out.column("Used By", users(subject));
    if items(&status["conditions"]).next().is_some() {
        out.line(0, "Conditions:");
        out.line(1, "Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage");
        out.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
    }
    for one in items(&status["conditions"]) {
        let line = format!(
            "{} \t{} \t{} \t{} \t{} \t{}",
            text(&one["type"]),
            text(&one["status"]),
            time(&one["lastProbeTime"]),
            time(&one["lastTransitionTime"]),
            text(&one["reason"]),
            text(&one["message"])
        );
        out.line(1, line);
    }
}

/// A claim's template in a pod.
pub(super) fn summary(out: &mut Text, template: &Value) {
    out.field("StorageClass", class(template));
    out.field("Volume", text(&template["spec"]["volumeName"]));
    out.metadata(template);
    rest(out, template);
}

fn rest(out: &mut Text, claim: &Value) {
    let (spec, status) = (&claim["spec"], &claim["status"]);
    let is_bound = !text(&spec["volumeName"]).is_empty();
    out.field("Capacity", if is_bound { size(&status["capacity"]["storage"]) } else { String::new() });
    out.field("Access Modes", if is_bound { modes(&status["accessModes"]) } else { String::new() });
    if spec.get("volumeMode").is_some() {
        out.field("VolumeMode", text(&spec["volumeMode"]));
    }
    if let Some(source) = spec.get("dataSource") {
        out.line(0, "DataSource:");
        if source.get("apiGroup").is_some() {
            out.field_at(1, "APIGroup", text(&source["apiGroup"]));
        }
        out.field_at(1, "Kind", text(&source["kind"]));
        out.field_at(1, "Name", text(&source["name"]));
    }
}

/// The pods that mount the claim, or own it.
fn users(subject: &Subject<'_>) -> Vec<String> {
    let metadata = &subject.object["metadata"];
    let owns = |pod: &Value| {
        items(&metadata["ownerReferences"])
            .any(|owner| owner["kind"] == "Pod" && owner["uid"] == pod["metadata"]["uid"])
    };
    let mounts = |pod: &Value| {
        items(&pod["spec"]["volumes"])
            .any(|volume| volume["persistentVolumeClaim"]["claimName"] == metadata["name"])
    };
    let mut names: Vec<String> = subject
        .related(0)
        .iter()
        .filter(|pod| mounts(pod) || owns(pod))
        .map(|pod| text(&pod["metadata"]["name"]).to_owned())
        .collect();
    names.sort();
    names
}
