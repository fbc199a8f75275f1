//! Pod templates, and what all workloads show about their pods.

use serde_json::Value;

use super::containers::{self, Group};
use super::text::{Text, entries, items, selector, text};
use super::{Query, Subject, volumes};

/// A template as `rollout history` shows it: its tabs are left as they are.
pub(in super::super) fn raw(template: &Value) -> String {
    let mut out = Text::default();
    write(&mut out, template);
    out.raw()
}

pub(super) fn write(out: &mut Text, template: &Value) {
    let (metadata, spec) = (&template["metadata"], &template["spec"]);
    out.line(0, "Pod Template:");
    out.labels("  Labels", &metadata["labels"]);
    if entries(&metadata["annotations"]).next().is_some() {
        out.annotations("  Annotations", &metadata["annotations"]);
    }
    if !text(&spec["serviceAccountName"]).is_empty() {
        out.field_at(1, "Service Account", text(&spec["serviceAccountName"]));
    }
    for (title, field) in [("Init Containers", "initContainers"), ("Containers", "containers")] {
        if field == "containers" || items(&spec[field]).next().is_some() {
            let group =
                Group { title, containers: &spec[field], statuses: &Value::Null, pod: None, space: "  " };
            containers::write(out, &group);
        }
    }
    volumes::of_pod(out, &spec["volumes"], "  ");
    topology(out, &spec["topologySpreadConstraints"], "  ");
    if !text(&spec["priorityClassName"]).is_empty() {
        out.field_at(1, "Priority Class Name", text(&spec["priorityClassName"]));
    }
    out.labels("  Node-Selectors", &spec["nodeSelector"]);
    tolerations(out, "  Tolerations", &spec["tolerations"]);
}

pub(super) fn tolerations(out: &mut Text, title: &str, tolerations: &Value) {
    let mut all: Vec<&Value> = items(tolerations).collect();
    all.sort_by_key(|one| text(&one["key"]));
    out.column(title, all.into_iter().map(toleration));
}

fn toleration(one: &Value) -> String {
    let (key, value, effect) = (text(&one["key"]), text(&one["value"]), text(&one["effect"]));
    let mut line = key.to_owned();
    if !value.is_empty() {
        line.push_str(&format!("={value}"));
    }
    if !effect.is_empty() {
        line.push_str(&format!(":{effect}"));
    }
    if one["operator"] == "Exists" && value.is_empty() {
        line.push_str(if line.is_empty() { "op=Exists" } else { " op=Exists" });
    }
    if let Some(seconds) = one["tolerationSeconds"].as_i64() {
        line.push_str(&format!(" for {seconds}s"));
    }
    line
}

pub(super) fn topology(out: &mut Text, constraints: &Value, space: &str) {
    let mut all: Vec<&Value> = items(constraints).collect();
    all.sort_by_key(|one| text(&one["topologyKey"]));
    let mut title = format!("{space}Topology Spread Constraints:");
    for one in all {
        let mut line = format!(
            "{}:{} when max skew {} is exceeded",
            text(&one["topologyKey"]),
            text(&one["whenUnsatisfiable"]),
            one["maxSkew"]
        );
        if one.get("labelSelector").is_some() {
            line.push_str(&format!(" for selector {}", selector(&one["labelSelector"])));
        }
        out.line(0, format_args!("{title}\t{line}"));
        title = space.to_owned();
    }
}

/// The pods that a workload's selector finds.
pub(super) fn own_pods(workload: &Value) -> Vec<Query> {
    let wanted = &workload["spec"]["selector"];
    let plain = workload["kind"] == "ReplicationController";
    let labels = if plain { crate::pods::labels_text(wanted) } else { crate::pods::selector_text(wanted) };
    let namespace = text(&workload["metadata"]["namespace"]).to_owned();
    vec![Query { api_version: "v1", kind: "Pod", namespace, labels, ..Query::default() }]
}

/// How many of a workload's pods are in which phase.
pub(super) fn pods_status(subject: &Subject<'_>) -> String {
    if let Some(Err(why)) = subject.related.first() {
        return format!("error in fetching pods: {why}");
    }
    let uid = &subject.object["metadata"]["uid"];
    let is_own = |pod: &&Value| {
        items(&pod["metadata"]["ownerReferences"]).any(|one| one["controller"] == true && one["uid"] == *uid)
    };
    let own: Vec<&Value> = subject.related(0).iter().filter(is_own).collect();
    let count = |phase: &str| own.iter().filter(|pod| pod["status"]["phase"] == phase).count();
    format!(
        "{} Running / {} Waiting / {} Succeeded / {} Failed",
        count("Running"),
        count("Pending"),
        count("Succeeded"),
        count("Failed")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tolerations_are_shown() {
        let table = [
            (json!({"operator": "Exists"}), "op=Exists"),
            (
                json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
                "a:NoExecute op=Exists for 300s",
            ),
            (json!({"key": "a", "value": "b", "effect": "NoSchedule"}), "a=b:NoSchedule"),
        ];
        for (value, expected) in table {
            assert_eq!(toleration(&value), expected);
        }
    }
}
