//! Deployments.

use serde_json::Value;

use super::text::{Text, items, number, text, time};
use super::{Query, Subject, template};

/// The annotation with a deployment's, or its replica set's, revision.
pub(in super::super) const REVISION: &str = "deployment.kubernetes.io/revision";

pub(super) fn related(deployment: &Value) -> Vec<Query> {
    vec![Query {
        api_version: "apps/v1",
        kind: "ReplicaSet",
        namespace: text(&deployment["metadata"]["namespace"]).to_owned(),
        labels: crate::pods::selector_text(&deployment["spec"]["selector"]),
        ..Query::default()
    }]
}

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    out.field("Name", text(&metadata["name"]));
    out.field("Namespace", text(&metadata["namespace"]));
    out.field("CreationTimestamp", time(&metadata["creationTimestamp"]));
    out.metadata(object);
    out.field("Selector", crate::pods::selector_text(&spec["selector"]));
    out.field(
        "Replicas",
        format_args!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            number(&spec["replicas"]),
            number(&status["updatedReplicas"]),
            number(&status["replicas"]),
            number(&status["availableReplicas"]),
            number(&status["unavailableReplicas"])
        ),
    );
    out.field("StrategyType", text(&spec["strategy"]["type"]));
    out.field("MinReadySeconds", number(&spec["minReadySeconds"]));
    if let Some(rolling) = spec["strategy"].get("rollingUpdate") {
        let shown = |field: &str| crate::jsonpath::plain(&rolling[field]);
        out.field(
            "RollingUpdateStrategy",
            format_args!("{} max unavailable, {} max surge", shown("maxUnavailable"), shown("maxSurge")),
        );
    }
    template::write(out, &spec["template"]);
    out.conditions(&status["conditions"]);
    let (old, new) = replica_sets(subject);
    if old.is_some() || new.is_some() {
        out.field("OldReplicaSets", old.as_deref().unwrap_or("<none>"));
        out.field("NewReplicaSet", new.as_deref().unwrap_or("<none>"));
    }
}

/// The old replica sets, and the one whose template is the deployment's.
fn replica_sets(subject: &Subject<'_>) -> (Option<String>, Option<String>) {
    let metadata = &subject.object["metadata"];
    let is_own = |set: &&Value| {
        items(&set["metadata"]["ownerReferences"])
            .any(|one| one["controller"] == true && one["uid"] == metadata["uid"])
    };
    let revision = &metadata["annotations"][REVISION];
    let own = subject.related(0).iter().filter(is_own);
    let (new, old): (Vec<&Value>, Vec<&Value>) =
        own.partition(|set| revision.is_string() && set["metadata"]["annotations"][REVISION] == *revision);
    let shown = |sets: &[&Value]| {
        let lines: Vec<String> = sets
            .iter()
            .map(|set| {
                let name = text(&set["metadata"]["name"]);
                let (now, wanted) = (number(&set["status"]["replicas"]), number(&set["spec"]["replicas"]));
                format!("{name} ({now}/{wanted} replicas created)")
            })
            .collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    };
    (shown(&old), shown(&new))
}
