//! What one metric of an autoscaler calls for.

use std::collections::BTreeMap;

use api::Quantity;
use api::openapi::apimachinery::pkg::api::resource::Quantity as Text;
use api::types::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, MetricSpec, MetricStatus, MetricTarget,
    MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};

use super::metrics;
use super::usage::{Fleet, Found, Goal, requests};
use crate::answers::Answer;

/// The size that a metric calls for.
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// The metric in words.
    pub(super) name: String,
    pub(super) status: MetricStatus,
}

/// Why a metric calls for nothing: a reason for machines, and for people.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unable {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The reason that goes with a kind of metric.
fn reason(spec: &MetricSpec) -> &'static str {
    match spec.type_.as_str() {
        "Resource" => "FailedGetResourceMetric",
        "ContainerResource" => "FailedGetContainerResourceMetric",
        "Pods" => "FailedGetPodsMetric",
        "Object" => "FailedGetObjectMetric",
        "External" => "FailedGetExternalMetric",
        _ => "InvalidMetricSourceType",
    }
}

/// What a metric calls for; `shared` is the number of pods that share an average.
pub(super) fn propose(
    spec: &MetricSpec,
    answer: Option<&Answer>,
    fleet: &Fleet<'_>,
    shared: i32,
) -> Result<Proposal, Unable> {
    let found = match spec.type_.as_str() {
        "Resource" | "ContainerResource" => of_resource(spec, answer, fleet),
        "Pods" => of_pods(spec, answer, fleet),
        "Object" => of_object(spec, answer, fleet, shared),
        "External" => of_outside(spec, answer, fleet, shared),
        kind => Err(format!("unknown metric source type {kind:?}")),
    };
    found.map_err(|message| Unable { reason: reason(spec), message })
}

/// What the server said; in words, why it said nothing.
fn said<'a>(answer: Option<&'a Answer>, what: &str) -> Result<&'a serde_json::Value, String> {
    match answer.map(|answer| &**answer) {
        Some(Ok(value)) => Ok(value),
        Some(Err(status)) => Err(format!("unable to get {what}: {status}")),
        None => Err(format!("unable to get {what}: nobody offers it")),
    }
}

fn millis(quantity: &Text) -> i64 {
    Quantity::try_from(quantity).map_or(0, Quantity::millis)
}

fn amount(thousandths: i64, is_binary: bool) -> Text {
    if is_binary {
        return Text::from(Quantity::from_bytes(thousandths.div_euclid(1000)));
    }
    Text::from(Quantity::from_millis(thousandths))
}

fn average(found: Found, is_binary: bool) -> MetricValueStatus {
    MetricValueStatus {
        average_utilization: found.utilization,
        average_value: Some(amount(found.usage, is_binary)),
        value: None,
    }
}

fn status(spec: &MetricSpec) -> MetricStatus {
    MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() }
}

fn of_resource(spec: &MetricSpec, answer: Option<&Answer>, fleet: &Fleet<'_>) -> Result<Proposal, String> {
    let (name, container, target) = match (&spec.resource, &spec.container_resource) {
        (_, Some(source)) if spec.type_ == "ContainerResource" => {
            (&source.name, source.container.as_str(), &source.target)
        }
        (Some(source), _) => (&source.name, "", &source.target),
        _ => return Err("invalid resource metric source".to_owned()),
    };
    let measured = said(answer, &format!("metrics for resource {name}"))?;
    let samples = metrics::of_resource(measured, name, container);
    let (goal, requests, what) = match (&target.average_value, target.average_utilization) {
        (Some(value), _) => (Goal::Amount(millis(value)), BTreeMap::new(), "resource"),
        (None, Some(percent)) => {
            let requests = requests(fleet.pods, container, name)?;
            (Goal::Percent(percent), requests, "resource utilization (percentage of request)")
        }
        _ => {
            let text = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
            return Err(text.to_owned());
        }
    };
    let failed = |why: String| match goal {
        Goal::Percent(_) => format!("failed to get {name} utilization: {why}"),
        Goal::Amount(_) => format!("failed to get {name} usage: {why}"),
    };
    let found = fleet.by_pods(samples, name == "cpu", goal, &requests).map_err(failed)?;
    let current = average(found, name == "memory");
    let mut told = status(spec);
    let kind = if container.is_empty() {
        told.resource = Some(ResourceMetricStatus { name: name.clone(), current });
        ""
    } else {
        let container = container.to_owned();
        told.container_resource =
            Some(ContainerResourceMetricStatus { name: name.clone(), container, current });
        "container "
    };
    Ok(Proposal { replicas: found.replicas, name: format!("{name} {kind}{what}"), status: told })
}

fn of_pods(spec: &MetricSpec, answer: Option<&Answer>, fleet: &Fleet<'_>) -> Result<Proposal, String> {
    let source = spec.pods.as_ref().ok_or("invalid pods metric source")?;
    let name = &source.metric.name;
    let measured = said(answer, &format!("metric {name}"))?;
    let goal =
        source.target.average_value.as_ref().ok_or("invalid pods metric source: no average value target")?;
    let goal = Goal::Amount(millis(goal));
    let found = fleet.by_pods(metrics::of_pods(measured), false, goal, &BTreeMap::new())?;
    let current = average(found, false);
    let pods = Some(PodsMetricStatus { metric: source.metric.clone(), current });
    let status = MetricStatus { pods, ..status(spec) };
    Ok(Proposal { replicas: found.replicas, name: format!("pods metric {name}"), status })
}

/// What a single value calls for, alone or shared by the pods.
fn of_value(
    value: i64,
    target: &MetricTarget,
    fleet: &Fleet<'_>,
    shared: i32,
) -> Result<(i32, MetricValueStatus), String> {
    if let Some(average) = &target.average_value {
        let found = fleet.by_share(value, millis(average), shared);
        let average_value = Some(amount(found.usage, false));
        return Ok((found.replicas, MetricValueStatus { average_value, ..MetricValueStatus::default() }));
    }
    let wanted = target
        .value
        .as_ref()
        .ok_or("invalid metric source: neither a value target nor an average value target was set")?;
    let found = fleet.by_value(value, millis(wanted))?;
    let value = Some(amount(found.usage, false));
    Ok((found.replicas, MetricValueStatus { value, ..MetricValueStatus::default() }))
}

fn of_object(
    spec: &MetricSpec,
    answer: Option<&Answer>,
    fleet: &Fleet<'_>,
    shared: i32,
) -> Result<Proposal, String> {
    let source = spec.object.as_ref().ok_or("invalid object metric source")?;
    let (name, object) = (&source.metric.name, &source.described_object);
    let what = format!("metric {name}: on {} {}", object.kind, object.name);
    let value = metrics::total(said(answer, &what)?).ok_or(format!("unable to get {what}: no value"))?;
    let (replicas, current) = of_value(value, &source.target, fleet, shared)?;
    let told =
        ObjectMetricStatus { current, described_object: object.clone(), metric: source.metric.clone() };
    let status = MetricStatus { object: Some(told), ..status(spec) };
    Ok(Proposal { replicas, name: format!("{} metric {name}", object.kind), status })
}

fn of_outside(
    spec: &MetricSpec,
    answer: Option<&Answer>,
    fleet: &Fleet<'_>,
    shared: i32,
) -> Result<Proposal, String> {
    let source = spec.external.as_ref().ok_or("invalid external metric source")?;
    let name = &source.metric.name;
    let what = format!("external metric {name}");
    let value = metrics::total(said(answer, &what)?).ok_or(format!("unable to get {what}: no value"))?;
    let (replicas, current) = of_value(value, &source.target, fleet, shared)?;
    let told = ExternalMetricStatus { current, metric: source.metric.clone() };
    let status = MetricStatus { external: Some(told), ..status(spec) };
    Ok(Proposal { replicas, name: what, status })
}
