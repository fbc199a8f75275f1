//! Reads what the metrics APIs answer, and says where to ask.

use std::time::Duration;

use api::Quantity;
use api::types::autoscaling::v2::{MetricIdentifier, MetricSpec};
use client::Target;
use jiff::Timestamp;
use serde_json::Value;

use super::usage::{Sample, Samples};
use crate::inventory::Kind;

/// Where a metric is asked for, and of what: labels of pods, or of the metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    pub(super) place: Target,
    pub(super) labels: String,
}

fn place(group: &str, version: &str, namespace: &str) -> Target {
    Target {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        ..Target::default()
    }
}

/// The source of a metric; `None` where the metric names none. `described` is the kind of the
/// object that an object metric describes.
pub(super) fn source(
    spec: &MetricSpec,
    namespace: &str,
    pods: &str,
    described: Option<&Kind>,
) -> Option<Source> {
    let custom = |resource: String, name: &str, metric: &MetricIdentifier| Target {
        resource,
        name: name.to_owned(),
        subresource: metric.name.clone(),
        ..place("custom.metrics.k8s.io", "v1beta2", namespace)
    };
    let of_pods = |place: Target| Some(Source { place, labels: pods.to_owned() });
    match spec.type_.as_str() {
        "Resource" | "ContainerResource" => {
            let place = place("metrics.k8s.io", "v1beta1", namespace);
            of_pods(Target { resource: "pods".to_owned(), ..place })
        }
        "Pods" => of_pods(custom("pods".to_owned(), "*", &spec.pods.as_ref()?.metric)),
        "Object" => {
            let object = spec.object.as_ref()?;
            let kind = described?;
            let resource = match kind.group.as_str() {
                "" => kind.resource.clone(),
                group => format!("{}.{group}", kind.resource),
            };
            let place = custom(resource, &object.described_object.name, &object.metric);
            Some(Source { place, labels: String::new() })
        }
        "External" => {
            let metric = &spec.external.as_ref()?.metric;
            let selector =
                api::LabelSelector::from_api(metric.selector.as_ref().or(Some(&Default::default())));
            let place = place("external.metrics.k8s.io", "v1beta1", namespace);
            let labels = selector.ok().map(|selector| selector.to_string()).unwrap_or_default();
            Some(Source { place: Target { resource: metric.name.clone(), ..place }, labels })
        }
        _ => None,
    }
}

fn items(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.get("items").and_then(Value::as_array).into_iter().flatten()
}

fn millis(value: &Value) -> Option<i64> {
    Some(value.as_str()?.parse::<Quantity>().ok()?.millis())
}

fn time(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn window(item: &Value) -> Duration {
    let text = item.get("window").and_then(Value::as_str);
    let seconds = item.get("windowSeconds").and_then(Value::as_u64).map(Duration::from_secs);
    let parsed = text.and_then(|text| text.parse::<jiff::SignedDuration>().ok());
    let default = Duration::from_secs(60);
    seconds.or_else(|| parsed?.try_into().ok()).unwrap_or(default)
}

/// The use of a resource by each pod, or by one container of each. A pod of which a container is not
/// measured is left out.
pub(super) fn of_resource(answer: &Value, resource: &str, container: &str) -> Samples {
    let sample = |item: &Value| {
        let name = item.get("metadata")?.get("name")?.as_str()?.to_owned();
        let containers = item.get("containers")?.as_array()?;
        let meant = containers.iter().filter(|one| container.is_empty() || one["name"] == *container);
        let values: Option<Vec<i64>> = meant.map(|one| millis(&one["usage"][resource])).collect();
        let values = values.filter(|values| !values.is_empty())?;
        Some((
            name,
            Sample { value: values.iter().sum(), at: time(&item["timestamp"]), window: window(item) },
        ))
    };
    items(answer).filter_map(sample).collect()
}

/// The value of a custom metric of each pod.
pub(super) fn of_pods(answer: &Value) -> Samples {
    let sample = |item: &Value| {
        let name = item.get("describedObject")?.get("name")?.as_str()?.to_owned();
        let value = millis(item.get("value")?)?;
        Some((name, Sample { value, at: time(&item["timestamp"]), window: window(item) }))
    };
    items(answer).filter_map(sample).collect()
}

/// The values of a metric of one object, or of something outside, added up.
pub(super) fn total(answer: &Value) -> Option<i64> {
    let values: Vec<i64> = items(answer).filter_map(|item| millis(item.get("value")?)).collect();
    (!values.is_empty()).then(|| values.iter().fold(0_i64, |sum, value| sum.saturating_add(*value)))
}
