//! Horizontal pod autoscalers: `autoscaling/v1` is a view of the stored v2 form.
//! What v1 has no field for travels in its annotations, as upstream does it.

use api::Object;
use api::schema::StructId;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{cells, defaults};
use crate::fields::{Fields, object_in};
use crate::{Part, Strategy, metadata, tables};

/// The behaviour of `autoscaling/v2`.
pub(super) struct Autoscaler(pub(super) StructId);
/// The behaviour of `autoscaling/v1`.
pub(super) struct AutoscalerV1(pub(super) StructId);

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn prepare_update(part: Part<'_>, new: &mut Object, old: &Object) {
    metadata::keep_other_parts(part, new, old);
}

impl Strategy for Autoscaler {
    fn default(&self, object: &mut Object) {
        defaults::autoscaler(object);
    }

    fn prepare_create(&self, object: &mut Object) {
        metadata::reset_status(&tables::schema(), self.0, object);
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        prepare_update(part, new, old);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        row(object, now)
    }
}

impl Strategy for AutoscalerV1 {
    fn default(&self, object: &mut Object) {
        defaults::autoscaler_v1(object);
    }

    fn prepare_create(&self, object: &mut Object) {
        metadata::reset_status(&tables::schema(), self.0, object);
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        prepare_update(part, new, old);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let mut stored = object.clone();
        self.to_stored(&mut stored);
        row(&stored, now)
    }

    fn from_stored(&self, object: &mut Object) {
        object.set("apiVersion", "autoscaling/v1");
        let mut notes = Map::new();
        if let Some(spec) = object_in(object.as_map_mut(), "spec") {
            let (cpu, others) = split(spec.remove("metrics"), false);
            if let Some(percent) = cpu {
                spec.insert("targetCPUUtilizationPercentage".into(), percent);
            }
            note(&mut notes, METRICS, others);
            note(&mut notes, BEHAVIOR, spec.remove("behavior"));
        }
        if let Some(status) = object_in(object.as_map_mut(), "status") {
            let (cpu, others) = split(status.remove("currentMetrics"), true);
            if let Some(percent) = cpu {
                status.insert("currentCPUUtilizationPercentage".into(), percent);
            }
            note(&mut notes, CURRENT, others);
            let conditions = status
                .remove("conditions")
                .filter(|list| list.as_array().is_some_and(|list| !list.is_empty()));
            note(&mut notes, CONDITIONS, conditions);
        }
        for (name, value) in notes {
            object.set_at(&["metadata", "annotations", &name], value);
        }
    }

    fn to_stored(&self, object: &mut Object) {
        object.set("apiVersion", "autoscaling/v2");
        let metrics = joined(take_note(object, METRICS));
        let (behavior, current, conditions) =
            (take_note(object, BEHAVIOR), joined(take_note(object, CURRENT)), take_note(object, CONDITIONS));
        if let Some(spec) = object_in(object.as_map_mut(), "spec") {
            let cpu = spec.remove("targetCPUUtilizationPercentage").map(|percent| {
                json!({"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent},
                }})
            });
            put(spec, "metrics", cpu.into_iter().chain(metrics).collect());
            if let Some(behavior) = behavior {
                spec.insert("behavior".into(), behavior);
            }
        }
        if let Some(status) = object_in(object.as_map_mut(), "status") {
            let cpu = status.remove("currentCPUUtilizationPercentage").map(|percent| {
                json!({"type": "Resource", "resource": {
                    "name": "cpu", "current": {"averageUtilization": percent},
                }})
            });
            put(status, "currentMetrics", cpu.into_iter().chain(current).collect());
            if let Some(conditions) = conditions {
                status.insert("conditions".into(), conditions);
            }
        }
        if object.annotations().is_some_and(Map::is_empty) {
            object.remove_at(&["metadata", "annotations"]);
        }
    }

    fn converts(&self) -> bool {
        true
    }
}

/// The row of a stored object.
fn row(object: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (object.field("spec"), object.field("status"));
    let target = spec.field("scaleTargetRef");
    let number = |of: &Value, name: &str| of.int(name).unwrap_or_default();
    let least = spec.int("minReplicas").map_or_else(|| "<unset>".to_owned(), |least| least.to_string());
    vec![
        object.name().into(),
        format!("{}/{}", target.text("kind"), target.text("name")).into(),
        metrics(spec.list("metrics"), status.list("currentMetrics")).into(),
        least.into(),
        number(spec, "maxReplicas").into(),
        number(status, "currentReplicas").into(),
        metadata::age(object, now).into(),
    ]
}

fn put(map: &mut Map<String, Value>, name: &str, list: Vec<Value>) {
    if !list.is_empty() {
        map.insert(name.to_owned(), list.into());
    }
}

fn note(notes: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        notes.insert(name.to_owned(), value.to_string().into());
    }
}

fn take_note(object: &mut Object, name: &str) -> Option<Value> {
    let text = object.annotation(name)?.to_owned();
    let value = serde_json::from_str(&text).ok()?;
    object.remove_at(&["metadata", "annotations", name]);
    Some(value)
}

/// The CPU utilization, which v1 has a field for, and the other metrics in v1's
/// shape. `is_status` tells observed metrics from wanted ones.
fn split(metrics: Option<Value>, is_status: bool) -> (Option<Value>, Option<Value>) {
    let Some(Value::Array(list)) = metrics else { return (None, None) };
    let (mut cpu, mut others) = (None, Vec::new());
    let values = if is_status { "current" } else { "target" };
    for metric in list {
        let resource = metric.field("resource");
        let percent = resource.field(values).field("averageUtilization");
        if cpu.is_none() && resource.text("name") == "cpu" && !percent.is_null() {
            cpu = Some(percent.clone());
        } else {
            others.push(renamed(metric, is_status));
        }
    }
    (cpu, (!others.is_empty()).then(|| others.into()))
}

/// A v2 metric in v1's shape: v1 spreads target and metric over flat fields.
fn renamed(mut metric: Value, is_status: bool) -> Value {
    let values = if is_status { "current" } else { "target" };
    for source in ["resource", "containerResource", "pods", "object", "external"] {
        let Some(map) = metric.get_mut(source).and_then(Value::as_object_mut) else { continue };
        let numbers = map.remove(values).unwrap_or_default();
        for (name, value) in numbers.as_object().into_iter().flatten().filter(|(name, _)| *name != "type") {
            let mut first = name.chars();
            let upper: String = first.next().into_iter().flat_map(char::to_uppercase).chain(first).collect();
            map.insert(format!("{values}{upper}"), value.clone());
        }
        if let Some(Value::Object(of)) = map.remove("metric") {
            for (name, value) in of {
                let flat = match (source, name.as_str()) {
                    (_, "name") => "metricName",
                    ("external", _) => "metricSelector",
                    _ => "selector",
                };
                map.insert(flat.to_owned(), value);
            }
        }
        if let Some(described) = map.remove("describedObject") {
            map.insert("target".to_owned(), described);
        }
    }
    metric
}

/// The opposite of [`renamed`], for a list.
fn joined(metrics: Option<Value>) -> Vec<Value> {
    let Some(Value::Array(mut list)) = metrics else { return Vec::new() };
    for metric in &mut list {
        for source in ["resource", "containerResource", "pods", "object", "external"] {
            if let Some(map) = metric.get_mut(source).and_then(Value::as_object_mut) {
                *map = rejoined(std::mem::take(map));
            }
        }
    }
    list
}

fn rejoined(flat: Map<String, Value>) -> Map<String, Value> {
    let (mut map, mut metric) = (Map::new(), Map::new());
    let mut numbers = [("target", Map::new()), ("current", Map::new())];
    for (name, value) in flat {
        match name.as_str() {
            "metricName" => {
                metric.insert("name".into(), value);
            }
            "metricSelector" | "selector" => {
                metric.insert("selector".into(), value);
            }
            "target" if value.is_object() => {
                map.insert("describedObject".into(), value);
            }
            _ => {
                let found = numbers
                    .iter_mut()
                    .find_map(|(prefix, of)| Some((name.strip_prefix(*prefix)?.to_owned(), of)));
                match found.filter(|(rest, _)| !rest.is_empty()) {
                    Some((rest, of)) => {
                        let mut chars = rest.chars();
                        let lower =
                            chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect();
                        of.insert(lower, value);
                    }
                    None => {
                        map.insert(name, value);
                    }
                }
            }
        }
    }
    for (name, mut of) in numbers {
        if of.is_empty() {
            continue;
        }
        if name == "target" {
            let kinds =
                [("averageUtilization", "Utilization"), ("averageValue", "AverageValue"), ("value", "Value")];
            let kind =
                kinds.iter().find(|(field, _)| of.contains_key(*field)).map_or("Value", |(_, kind)| kind);
            of.insert("type".into(), kind.to_owned().into());
        }
        map.insert(name.to_owned(), of.into());
    }
    if !metric.is_empty() {
        map.insert("metric".into(), metric.into());
    }
    map
}

/// Observed and wanted values, two metrics at most.
fn metrics(specs: &[Value], statuses: &[Value]) -> String {
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let all: Vec<String> =
        specs.iter().enumerate().map(|(index, spec)| metric(spec, statuses.get(index))).collect();
    match all.len() {
        0..=2 => all.join(", "),
        count => format!("{} + {} more...", all[..2].join(", "), count - 2),
    }
}

fn metric(spec: &Value, status: Option<&Value>) -> String {
    let source = match spec.text("type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let target = spec.field(source).field("target");
    let null = Value::Null;
    let current = status.unwrap_or(&null).field(source).field("current");
    let average = cells::or(current.text("averageValue"), "<unknown>");
    let of_resource = source.to_lowercase().ends_with("resource");
    let name = spec.field(source).text("name");
    if target.has("averageValue") {
        let wanted = target.text("averageValue");
        return match source {
            "pods" => format!("{average}/{wanted}"),
            _ if of_resource => format!("{name}: {average}/{wanted}"),
            _ => format!("{average}/{wanted} (avg)"),
        };
    }
    if of_resource {
        let percent = |of: &Value, none: &str| {
            of.int("averageUtilization").map_or_else(|| none.to_owned(), |value| format!("{value}%"))
        };
        return format!("{name}: {}/{}", percent(current, "<unknown>"), percent(target, "<auto>"));
    }
    format!("{}/{}", cells::or(current.text("value"), "<unknown>"), target.text("value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_first_version_cannot_say_travels_in_annotations() {
        let v2 = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 3,
                "metrics": [
                    {"type": "Resource", "resource": {
                        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                    {"type": "Pods", "pods": {
                        "metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "1k"}}},
                    {"type": "Object", "object": {
                        "metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}},
                        "describedObject": {"kind": "Service", "name": "s"},
                        "target": {"type": "Value", "value": "10"}}},
                ],
                "behavior": {"scaleUp": {"selectPolicy": "Max"}},
            },
            "status": {"currentReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let stored = Object::from_value(v2).expect("object");
        let mut v1 = stored.clone();
        let catalogue = crate::Catalogue::built_in();
        let kind = catalogue.find("autoscaling", "v1", "horizontalpodautoscalers").expect("kind");
        kind.strategy.from_stored(&mut v1);
        assert_eq!(v1.at(&["spec", "targetCPUUtilizationPercentage"]), Some(&json!(50)));
        assert!(v1.annotation(METRICS).expect("metrics").contains("\"targetAverageValue\":\"1k\""));
        kind.strategy.to_stored(&mut v1);
        assert_eq!(v1, stored);
        let cells = row(&stored, "2026-01-01T00:00:00Z".parse().expect("time"));
        assert_eq!(cells[2], "cpu: <unknown>/50%, <unknown>/1k + 1 more...");
    }
}
