//! How far a rollout is, in kubectl's words.

use serde_json::Value;
use wire::objects as pb;

use super::super::describe::REVISION;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::output;

/// Prints the progress at each change, until the rollout is done.
pub(super) async fn follow(kube: &Kube, info: &Info, revision: i64, watch: bool) -> Result<(), Error> {
    let object = kube.get(info.target()).await?;
    let mut newest = object.resource_version().to_owned();
    if step(&object.into_value(), revision)? || !watch {
        return Ok(());
    }
    loop {
        let request = pb::WatchRequest {
            target: Some(info.resource.target(&info.namespace, "")),
            field_selector: format!("metadata.name={}", info.name),
            resource_version: newest.clone(),
            ..Default::default()
        };
        let mut batches = kube.client().await?.objects().watch(request).await?.into_inner();
        while let Some(batch) = batches.message().await? {
            for event in batch.events {
                match event.r#type() {
                    pb::watch_event::Type::Deleted => return Err(Error::said("object has been deleted")),
                    pb::watch_event::Type::Added | pb::watch_event::Type::Modified => {
                        newest = event.revision.to_string();
                        if step(&serde_json::from_slice(&event.json)?, revision)? {
                            return Ok(());
                        }
                    }
                    pb::watch_event::Type::Error => return Err(client::watch::failure(&event.json).into()),
                    pb::watch_event::Type::Bookmark | pb::watch_event::Type::Unspecified => {}
                }
            }
        }
    }
}

fn step(object: &Value, revision: i64) -> Result<bool, Error> {
    let (line, done) = progress(object, revision).map_err(Error::said)?;
    output::line(line)?;
    Ok(done)
}

/// What is said of a workload, and whether its rollout is done.
fn progress(object: &Value, revision: i64) -> Result<(String, bool), String> {
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => deployment(object, revision),
        "DaemonSet" => daemon_set(object),
        "StatefulSet" => stateful_set(object),
        other => {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            let group = version.split_once('/').map_or("", |(group, _)| group);
            Err(format!("no status viewer has been implemented for {}", api::status::qualified(group, other)))
        }
    }
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// Whether the status is of the newest specification.
fn is_observed(object: &Value) -> bool {
    number(&object["metadata"]["generation"]) <= number(&object["status"]["observedGeneration"])
}

fn deployment(object: &Value, revision: i64) -> Result<(String, bool), String> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let (spec, status) = (&object["spec"], &object["status"]);
    if revision > 0 {
        let now = object["metadata"]["annotations"][REVISION].as_str().unwrap_or_default();
        let now: i64 = now
            .parse()
            .map_err(|error| format!("cannot get the revision of deployment {name:?}: {error}"))?;
        if now != revision {
            return Err(format!(
                "desired revision ({revision}) is different from the running revision ({now})"
            ));
        }
    }
    if !is_observed(object) {
        return Ok(("Waiting for deployment spec update to be observed...".into(), false));
    }
    let conditions = status["conditions"].as_array();
    if conditions
        .into_iter()
        .flatten()
        .any(|one| one["type"] == "Progressing" && one["reason"] == "ProgressDeadlineExceeded")
    {
        return Err(format!("deployment {name:?} exceeded its progress deadline"));
    }
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let (all, updated) = (number(&status["replicas"]), number(&status["updatedReplicas"]));
    let available = number(&status["availableReplicas"]);
    let waiting =
        |what: String| Ok((format!("Waiting for deployment {name:?} rollout to finish: {what}..."), false));
    if updated < wanted {
        waiting(format!("{updated} out of {wanted} new replicas have been updated"))
    } else if all > updated {
        waiting(format!("{} old replicas are pending termination", all - updated))
    } else if available < updated {
        waiting(format!("{available} of {updated} updated replicas are available"))
    } else {
        Ok((format!("deployment {name:?} successfully rolled out"), true))
    }
}

fn daemon_set(object: &Value) -> Result<(String, bool), String> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let status = &object["status"];
    if object["spec"]["updateStrategy"]["type"] != "RollingUpdate" {
        return Err("rollout status is only available for RollingUpdate strategy type".into());
    }
    if !is_observed(object) {
        return Ok(("Waiting for daemon set spec update to be observed...".into(), false));
    }
    let wanted = number(&status["desiredNumberScheduled"]);
    let (updated, available) =
        (number(&status["updatedNumberScheduled"]), number(&status["numberAvailable"]));
    let waiting =
        |what: String| Ok((format!("Waiting for daemon set {name:?} rollout to finish: {what}..."), false));
    if updated < wanted {
        waiting(format!("{updated} out of {wanted} new pods have been updated"))
    } else if available < wanted {
        waiting(format!("{available} of {wanted} updated pods are available"))
    } else {
        Ok((format!("daemon set {name:?} successfully rolled out"), true))
    }
}

fn stateful_set(object: &Value) -> Result<(String, bool), String> {
    let (spec, status) = (&object["spec"], &object["status"]);
    if spec["updateStrategy"]["type"] != "RollingUpdate" {
        return Err("rollout status is only available for RollingUpdate strategy type".into());
    }
    if number(&status["observedGeneration"]) == 0 || !is_observed(object) {
        return Ok(("Waiting for statefulset spec update to be observed...".into(), false));
    }
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let (ready, updated) = (number(&status["readyReplicas"]), number(&status["updatedReplicas"]));
    if ready < wanted {
        return Ok((format!("Waiting for {} pods to be ready...", wanted - ready), false));
    }
    if let Some(rolling) = spec["updateStrategy"].get("rollingUpdate") {
        let part = wanted - number(&rolling["partition"]);
        if rolling.get("partition").is_some() && updated < part {
            return Ok((
                format!(
                    "Waiting for partitioned roll out to finish: {updated} out of {part} new pods have been updated..."
                ),
                false,
            ));
        }
        return Ok((format!("partitioned roll out complete: {updated} new pods have been updated..."), true));
    }
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    if text("updateRevision") != text("currentRevision") {
        let revision = text("updateRevision");
        return Ok((
            format!(
                "waiting for statefulset rolling update to complete {updated} pods at revision {revision}..."
            ),
            false,
        ));
    }
    let current = number(&status["currentReplicas"]);
    Ok((
        format!(
            "statefulset rolling update complete {current} pods at revision {}...",
            text("currentRevision")
        ),
        true,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn web(updated: i64, all: i64, available: i64) -> Value {
        json!({"kind": "Deployment",
            "metadata": {"name": "web", "generation": 2, "annotations": {REVISION: "3"}},
            "spec": {"replicas": 3},
            "status": {"observedGeneration": 2, "updatedReplicas": updated, "replicas": all, "availableReplicas": available}})
    }

    #[test]
    fn deployments_are_followed() {
        let table = [
            (
                web(1, 3, 3),
                "Waiting for deployment \"web\" rollout to finish: 1 out of 3 new replicas have been updated...",
                false,
            ),
            (
                web(3, 4, 3),
                "Waiting for deployment \"web\" rollout to finish: 1 old replicas are pending termination...",
                false,
            ),
            (
                web(3, 3, 2),
                "Waiting for deployment \"web\" rollout to finish: 2 of 3 updated replicas are available...",
                false,
            ),
            (web(3, 3, 3), "deployment \"web\" successfully rolled out", true),
        ];
        for (object, line, done) in table {
            assert_eq!(progress(&object, 0), Ok((line.to_owned(), done)));
        }
        assert!(progress(&web(3, 3, 3), 2).is_err_and(|why| why.contains("running revision (3)")));
        let mut late = web(3, 3, 3);
        late["metadata"]["generation"] = 5.into();
        assert_eq!(
            progress(&late, 3),
            Ok(("Waiting for deployment spec update to be observed...".into(), false))
        );
    }

    #[test]
    fn other_workloads_are_followed() {
        let daemons = json!({"kind": "DaemonSet", "metadata": {"name": "d", "generation": 1},
            "spec": {"updateStrategy": {"type": "RollingUpdate"}},
            "status": {"observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 1}});
        assert!(
            progress(&daemons, 0).is_ok_and(|(line, done)| line.contains("1 of 2 updated pods") && !done)
        );
        let set = json!({"kind": "StatefulSet", "metadata": {"generation": 1},
            "spec": {"replicas": 2, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}},
            "status": {"observedGeneration": 1, "readyReplicas": 2, "updatedReplicas": 2}});
        assert_eq!(
            progress(&set, 0),
            Ok(("partitioned roll out complete: 2 new pods have been updated...".into(), true))
        );
        assert!(progress(&json!({"kind": "Job"}), 0).is_err());
    }
}
