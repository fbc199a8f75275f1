//! The revisions of a workload: replica sets of a deployment, controller
//! revisions of the others.

use client::Patch;
use serde_json::{Value, json};

use super::super::describe::REVISION;
use crate::error::Error;
use crate::kube::Kube;
use crate::output::aligned;

const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
const HASH: &str = "pod-template-hash";

/// Annotations of a deployment that an earlier revision does not bring back.
const KEPT: [&str; 6] = [
    crate::three_way::LAST_APPLIED,
    REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];

/// One revision of a workload.
#[derive(Clone, Debug)]
pub(super) struct Revision {
    pub(super) number: i64,
    /// What holds it.
    pub(super) object: Value,
    pub(super) template: Value,
}

/// All revisions, oldest first.
pub(super) async fn revisions(kube: &Kube, workload: &Value) -> Result<Vec<Revision>, Error> {
    let (api_version, kind) = match workload["kind"].as_str().unwrap_or_default() {
        "Deployment" => ("apps/v1", "ReplicaSet"),
        "DaemonSet" | "StatefulSet" => ("apps/v1", "ControllerRevision"),
        other => return Err(Error::said(format!("no history viewer has been implemented for {other:?}"))),
    };
    let resource = kube.discovery().await?.of_kind(api_version, kind)?;
    let namespace = workload["metadata"]["namespace"].as_str().unwrap_or_default();
    let selector = crate::pods::selector_text(&workload["spec"]["selector"]);
    let found = kube.list(resource.target(namespace, ""), &selector, "").await?;
    let mut revisions: Vec<Revision> = found
        .into_iter()
        .filter_map(|object| {
            let mut object = object.into_value();
            object["apiVersion"] = api_version.into();
            object["kind"] = kind.into();
            of_object(&workload["metadata"]["uid"], object)
        })
        .collect();
    revisions.sort_by_key(|one| one.number);
    Ok(revisions)
}

fn of_object(owner: &Value, object: Value) -> Option<Revision> {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().find(|one| one["controller"] == true && one["uid"] == *owner)?;
    let (number, template) = match object["kind"].as_str()? {
        "ReplicaSet" => {
            let number = object["metadata"]["annotations"][REVISION].as_str()?.parse().ok()?;
            let mut template = object["spec"]["template"].clone();
            if let Some(cause) = object["metadata"]["annotations"].get(CHANGE_CAUSE) {
                if !template["metadata"]["annotations"].is_object() {
                    template["metadata"]["annotations"] = json!({});
                }
                template["metadata"]["annotations"][CHANGE_CAUSE] = cause.clone();
            }
            (number, template)
        }
        _ => {
            let mut template = object["data"]["spec"]["template"].clone();
            if let Some(template) = template.as_object_mut() {
                template.remove("$patch");
            }
            (object["revision"].as_i64()?, template)
        }
    };
    Some(Revision { number, object, template })
}

/// The revisions, a line each.
pub(super) fn table(revisions: &[Revision]) -> String {
    let mut text = String::from("REVISION\tCHANGE-CAUSE\n");
    for one in revisions {
        let cause = one.object["metadata"]["annotations"][CHANGE_CAUSE].as_str().unwrap_or_default();
        text.push_str(&format!("{}\t{}\n", one.number, if cause.is_empty() { "<none>" } else { cause }));
    }
    aligned::format(&text)
}

/// The revision to go back to: of a number, or the one before the newest.
pub(super) fn target<'a>(
    workload: &Value,
    revisions: &'a [Revision],
    number: i64,
) -> Result<&'a Revision, Error> {
    if number != 0 {
        return revisions
            .iter()
            .find(|one| one.number == number)
            .ok_or_else(|| Error::said(format!("unable to find specified revision {number} in history")));
    }
    revisions.iter().rev().nth(1).ok_or_else(|| {
        if workload["kind"] == "Deployment" {
            let name = workload["metadata"]["name"].as_str().unwrap_or_default();
            Error::said(format!("no rollout history found for deployment {name:?}"))
        } else {
            Error::said("no last revision to roll back to")
        }
    })
}

/// Whether the workload has the revision's template now.
pub(super) fn is_current(workload: &Value, revision: &Revision) -> bool {
    let bare = |template: &Value, cause: bool| {
        let mut template = template.clone();
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(HASH);
        }
        if cause
            && let Some(notes) = template.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
        {
            notes.remove(CHANGE_CAUSE);
        }
        if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata
                .retain(|_, value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()));
        }
        template
    };
    bare(&workload["spec"]["template"], true) == bare(&revision.template, true)
}

/// What brings a revision back.
pub(super) fn patch(workload: &Value, revision: &Revision) -> Patch {
    if workload["kind"] != "Deployment" {
        return Patch::Strategic(revision.object["data"].clone());
    }
    let mut template = revision.object["spec"]["template"].clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    let entries = |object: &Value, kept: bool| -> Vec<(String, Value)> {
        let all = object["metadata"]["annotations"].as_object();
        all.into_iter()
            .flatten()
            .filter(|(key, _)| KEPT.contains(&key.as_str()) == kept)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let annotations: serde_json::Map<String, Value> =
        entries(workload, true).into_iter().chain(entries(&revision.object, false)).collect();
    let op = if workload["metadata"].get("annotations").is_some() { "replace" } else { "add" };
    Patch::Json(json!([
        {"op": "replace", "path": "/spec/template", "value": template},
        {"op": op, "path": "/metadata/annotations", "value": annotations},
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(number: &str, image: &str) -> Revision {
        let object = json!({"kind": "ReplicaSet",
            "metadata": {"annotations": {REVISION: number, "a": "b", CHANGE_CAUSE: "why"},
                "ownerReferences": [{"controller": true, "uid": "u"}]},
            "spec": {"template": {"metadata": {"labels": {"app": "w", HASH: "1"}}, "spec": {"image": image}}}});
        of_object(&json!("u"), object).expect("own")
    }

    #[test]
    fn revisions_are_found_and_brought_back() {
        let web = json!({"kind": "Deployment", "metadata": {"name": "web", "uid": "u", "annotations": {REVISION: "2"}},
            "spec": {"template": {"metadata": {"labels": {"app": "w"}}, "spec": {"image": "two"}}}});
        let all = [set("1", "one"), set("2", "two")];
        assert_eq!(table(&all), "REVISION  CHANGE-CAUSE\n1         why\n2         why\n");
        assert_eq!(target(&web, &all, 0).expect("before").number, 1);
        assert!(is_current(&web, &all[1]) && !is_current(&web, &all[0]));
        assert!(
            target(&web, &all[1..], 0).is_err_and(|error| error.to_string().contains("no rollout history"))
        );
        assert!(target(&web, &all, 7).is_err_and(|error| error.to_string().contains("specified revision 7")));
        let Patch::Json(patch) = patch(&web, &all[0]) else { panic!("a JSON patch") };
        assert_eq!(
            patch[0]["value"],
            json!({"metadata": {"labels": {"app": "w"}}, "spec": {"image": "one"}})
        );
        assert_eq!(patch[1]["value"], json!({REVISION: "2", "a": "b", CHANGE_CAUSE: "why"}));
        assert!(of_object(&json!("other"), all[0].object.clone()).is_none());
    }
}
