//! Deployments, replica sets and daemon sets: kinds that keep pods of one
//! template running.

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod replication_controller;
mod stateful_set;

use api::{ErrorList, Object, Path};
use serde_json::Value;

pub(super) use controller_revision::{
    controller_revision, controller_revision_update, new_controller_revision,
};
pub(super) use daemon_set::DaemonSet;
pub(super) use deployment::Deployment;
pub(super) use replica_set::ReplicaSet;
pub(super) use replication_controller::{replication_controller, replication_controller_update};
pub(super) use stateful_set::{stateful_set, stateful_set_update};

use super::cells::selector_text;
use super::pod::{scheduling, spec};
use crate::fields::Fields;
use crate::metadata;
use crate::names;
use crate::report::Report;

const POSITIVE_INT: [&str; 2] = ["minReadySeconds", "revisionHistoryLimit"];

/// Whether a label selector selects a map of labels; `None` where the selector
/// cannot be read.
pub(super) fn selects(selector: &Value, labels: &Value) -> Option<bool> {
    let typed: api::metav1::LabelSelector = serde_json::from_value(selector.clone()).ok()?;
    let parsed = api::LabelSelector::from_api(Some(&typed)).ok()?;
    let none = serde_json::Map::new();
    Some(parsed.matches(labels.as_object().unwrap_or(&none)))
}

fn is_empty_selector(selector: &Value) -> bool {
    selector.entries("matchLabels").next().is_none() && selector.list("matchExpressions").is_empty()
}

/// The selector and the template that it must select; `kind` is what upstream
/// calls the owner in its texts.
fn selected_template(workload: &Object, empty: &str, owner: &str, errors: &mut ErrorList) {
    let (of, path) = (workload.field("spec"), Path::new("spec"));
    let (selector, at) = (of.field("selector"), path.child("selector"));
    let template = of.field("template");
    if selector.is_null() {
        errors.required(&at, "");
    } else {
        scheduling::label_selector(selector, &at, errors);
        if is_empty_selector(selector) {
            errors.invalid(&at, selector.clone(), format!("empty selector is invalid for {empty}"));
        }
    }
    let labels = template.below(&["metadata", "labels"]);
    let template_path = path.child("template");
    if selector_text(selector).is_none() {
        if owner != "DaemonSet" {
            errors.invalid(&at, selector.clone(), "invalid label selector");
            return;
        }
    } else if !selector.is_null() && !is_empty_selector(selector) && selects(selector, labels) == Some(false)
    {
        let meta = template_path.child("metadata");
        let shown = if labels.is_null() { Value::Null } else { labels.clone() };
        errors.invalid(&meta.child("labels"), shown, "`selector` does not match template `labels`");
    }
    spec::validate_template(template, &template_path, errors);
    runs_forever(template.field("spec"), owner, &template_path.child("spec"), errors);
}

/// A pod that is not to end.
fn runs_forever(pod: &Value, owner: &str, path: &Path<'_>, errors: &mut ErrorList) {
    errors.one_of(&path.child("restartPolicy"), pod.text("restartPolicy"), &["Always"]);
    if pod.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {owner} is not Supported");
        errors.forbidden(&path.child("activeDeadlineSeconds"), detail);
    }
}

/// The selector stays what it was.
fn fixed_selector(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    let (path, field) = (spec.child("selector"), "selector");
    metadata::immutable(new.field("spec").field(field), old.field("spec").field(field), &path, &mut errors);
    errors
}

/// A number or a percentage; gives its value.
pub(super) fn int_or_percent(value: &Value, path: &Path<'_>, errors: &mut ErrorList) -> i64 {
    if let Some(text) = value.as_str() {
        let found = names::percent(text);
        let bad = !found.is_empty();
        errors.invalid_all(path, text, found);
        return if bad { 0 } else { text.trim_end_matches('%').parse().unwrap_or(i64::MAX) };
    }
    let number = value.as_i64().unwrap_or_default();
    if number < 0 {
        errors.invalid(path, number, metadata::NOT_NEGATIVE);
    }
    number
}

pub(super) fn at_most_all(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok());
    if percent.is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// A strategy as upstream prints it.
fn shown_strategy(strategy: &Value) -> String {
    let rolling = strategy.field("rollingUpdate");
    let rolling = match rolling.is_null() {
        true => "null".to_owned(),
        false => format!(
            r#"{{"MaxUnavailable":{},"MaxSurge":{}}}"#,
            rolling.field("maxUnavailable"),
            rolling.field("maxSurge")
        ),
    };
    format!(r#"{{"Type":{:?},"RollingUpdate":{rolling}}}"#, strategy.text("type"))
}

/// Counters of a status: none below zero, some not above another.
fn counters(object: &Object, fields: &[&str], above: &[(&str, &str, &str)]) -> ErrorList {
    let mut errors = ErrorList::new();
    let (status, path) = (object.field("status"), Path::new("status"));
    for field in fields {
        errors.not_negative(status, field, &path);
    }
    for (field, limit, detail) in above {
        let value = status.int(field).unwrap_or_default();
        if value > status.int(limit).unwrap_or_default() {
            errors.invalid(&path.child(field), value, *detail);
        }
    }
    errors
}

fn collisions(new: &Object, old: &Object, errors: &mut ErrorList) {
    let count = |of: &Object| of.field("status").int("collisionCount");
    if let Some(before) = count(old) {
        let now = count(new).unwrap_or_default();
        if count(new).is_none() || now < before {
            let path = Path::new("status");
            errors.invalid(&path.child("collisionCount"), now, "cannot be decremented");
        }
    }
}

/// Rules for pod templates as objects.
pub(super) fn pod_template(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    spec::validate_template(object.field("template"), &Path::new("template"), &mut errors);
    errors
}

/// Advice on the template, where it may have changed.
fn template_warnings(object: &Object, old: Option<&Object>) -> Vec<String> {
    if old.is_some_and(|old| old.generation() == object.generation()) {
        return Vec::new();
    }
    super::pod::template_warnings(object.below(&["spec", "template", "spec"]), "spec.template.spec")
}
