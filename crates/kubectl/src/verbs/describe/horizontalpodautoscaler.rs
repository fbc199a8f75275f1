//! Horizontal pod autoscalers, in their second and first version.

use serde_json::Value;

use super::Subject;
use super::text::{Text, items, number, text, text_or, time};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let target = &spec["scaleTargetRef"];
    out.field("Name", text(&metadata["name"]));
    out.field("Namespace", text(&metadata["namespace"]));
    out.metadata(object);
    out.field("CreationTimestamp", time(&metadata["creationTimestamp"]));
    out.field("Reference", format_args!("{}/{}", text(&target["kind"]), text(&target["name"])));
    if object["apiVersion"] == "autoscaling/v1" {
        first_version(out, object);
    } else {
        out.field("Metrics", "( current / target )");
        for (index, metric) in items(&spec["metrics"]).enumerate() {
            out.line(1, metric_line(metric, &status["currentMetrics"][index]));
        }
    }
    let least = spec["minReplicas"].as_i64().map_or("<unset>".to_owned(), |count| count.to_string());
    out.field("Min replicas", least);
    out.field("Max replicas", number(&spec["maxReplicas"]));
    if let Some(behavior) = spec.get("behavior") {
        out.line(0, "Behavior:");
        for (title, field) in [("Scale Up", "scaleUp"), ("Scale Down", "scaleDown")] {
            if let Some(rules) = behavior.get(field) {
                direction(out, title, rules);
            }
        }
    }
    out.field(
        &format!("{} pods", text(&target["kind"])),
        format_args!(
            "{} current / {} desired",
            number(&status["currentReplicas"]),
            number(&status["desiredReplicas"])
        ),
    );
    if items(&status["conditions"]).next().is_some() {
        out.line(0, "Conditions:");
        out.line(1, "Type\tStatus\tReason\tMessage");
        out.line(1, "----\t------\t------\t-------");
    }
    for one in items(&status["conditions"]) {
        let (kind, now) = (text(&one["type"]), text(&one["status"]));
        out.line(1, format_args!("{kind}\t{now}\t{}\t{}", text(&one["reason"]), text(&one["message"])));
    }
}

fn first_version(out: &mut Text, object: &Value) {
    let Some(wanted) = object["spec"]["targetCPUUtilizationPercentage"].as_i64() else { return };
    out.field("Target CPU utilization", format_args!("{wanted}%"));
    let now = object["status"]["currentCPUUtilizationPercentage"].as_i64();
    let now = now.map_or("<unknown>".to_owned(), |now| now.to_string());
    out.field("Current CPU utilization", format_args!("{now}%"));
}

fn metric_line(metric: &Value, current: &Value) -> String {
    let shown = |value: &Value| match value {
        Value::Null => None,
        value => Some(crate::jsonpath::plain(value)),
    };
    let kind = text(&metric["type"]);
    let field = match kind {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        other => return format!("<unknown metric type {other:?}>"),
    };
    let (source, now) = (&metric[field], &current[field]["current"]);
    let of = |name: &str| shown(&now[name]).unwrap_or_else(|| "<unknown>".into());
    let wanted = |name: &str| shown(&source["target"][name]).unwrap_or_default();
    let name = text(&source["metric"]["name"]);
    let is_average = source["target"].get("averageValue").is_some();
    match field {
        "external" if is_average => {
            format!("{name:?} (target average value):\t{} / {}", of("averageValue"), wanted("averageValue"))
        }
        "external" => format!("{name:?} (target value):\t{} / {}", of("value"), wanted("value")),
        "pods" => format!("{name:?} on pods:\t{} / {}", of("averageValue"), wanted("averageValue")),
        "object" => {
            let object = &source["describedObject"];
            let on = format!("\"{name}\" on {}/{}", text(&object["kind"]), text(&object["name"]));
            let (what, field) = if source["target"]["type"] == "AverageValue" {
                ("target average value", "averageValue")
            } else {
                ("target value", "value")
            };
            format!("{on} ({what}):\t{} / {}", of(field), wanted(field))
        }
        _ => {
            let on = match field {
                "resource" => format!("resource {} on pods", text(&source["name"])),
                _ => format!(
                    "resource {} of container \"{}\" on pods",
                    text(&source["name"]),
                    text(&source["container"])
                ),
            };
            if is_average {
                return format!("{on}:\t{} / {}", of("averageValue"), wanted("averageValue"));
            }
            let used = match shown(&now["averageUtilization"]) {
                Some(percent) => format!("{percent}% ({})", of("averageValue")),
                None => "<unknown>".into(),
            };
            let target = source["target"]["averageUtilization"].as_i64();
            let target = target.map_or("<auto>".to_owned(), |percent| format!("{percent}%"));
            format!("{on}  (as a percentage of request):\t{used} / {target}")
        }
    }
}

fn direction(out: &mut Text, title: &str, rules: &Value) {
    out.line(1, format_args!("{title}:"));
    if let Some(seconds) = rules["stabilizationWindowSeconds"].as_i64() {
        out.line(2, format_args!("Stabilization Window: {seconds} seconds"));
    }
    if items(&rules["policies"]).next().is_none() {
        return;
    }
    out.line(2, format_args!("Select Policy: {}", text_or(&rules["selectPolicy"], "Max")));
    out.line(2, "Policies:");
    for one in items(&rules["policies"]) {
        let (kind, value) = (text(&one["type"]), number(&one["value"]));
        out.line(
            3,
            format_args!("- Type: {kind}\tValue: {value}\tPeriod: {} seconds", number(&one["periodSeconds"])),
        );
    }
}
