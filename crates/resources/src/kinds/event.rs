//! Events, served by two groups over one stored form, that of the core group.

use std::borrow::Cow;

use api::{ErrorList, Object, Path};
use jiff::Timestamp;
use serde_json::Value;

use crate::fields::Fields;
use crate::metadata::since;
use crate::report::Report;
use crate::{Part, Strategy, metadata, names};

/// The behaviour of the core group's events.
pub(super) struct CoreEvent;
/// The behaviour of the events of `events.k8s.io`.
pub(super) struct Event;

/// The names of the same fields: in the core group, in `events.k8s.io`.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

const SELECTABLE: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// The same of `events.k8s.io`, which has no source.
const NEW_SELECTABLE: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

fn to_core(object: &mut Object) {
    for (core, new) in RENAMED {
        if let Some(value) = object.remove(new) {
            object.set(core, value);
        }
    }
    object.set("apiVersion", "v1");
}

fn as_core(object: &Object) -> Object {
    let mut core = object.clone();
    to_core(&mut core);
    core
}

impl Strategy for CoreEvent {
    fn validate(&self, object: &Object) -> ErrorList {
        basics(object, "reportingComponent")
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn selectable_names(&self) -> Vec<&str> {
        SELECTABLE.to_vec()
    }

    fn selectable(&self, object: &Object) -> Vec<(&'static str, String)> {
        let about = object.field("involvedObject");
        let component = object.text(&["source", "component"]);
        let reporter = object.text(&["reportingComponent"]);
        let value = |name: &&'static str| match (name.strip_prefix("involvedObject."), *name) {
            (Some(field), _) => about.text(field),
            (None, "source") if component.is_empty() => reporter,
            (None, "source") => component,
            (None, name) => object.text(&[name]),
        };
        SELECTABLE.iter().map(|name| (*name, value(name).to_owned())).collect()
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let at = |name: &str| object.text(&[name]).to_owned();
        let (first, last) = (at("firstTimestamp"), at("lastTimestamp"));
        let first = since(if first.is_empty() { object.text(&["eventTime"]) } else { &first }, now);
        let mut last = if last.is_empty() { first.clone() } else { since(&last, now) };
        let mut count = Fields::int(object, "count").unwrap_or_default().max(1);
        let series = object.field("series");
        if !series.is_null() {
            last = since(series.text("lastObservedTime"), now);
            count = series.int("count").unwrap_or_default();
        }
        let about = object.field("involvedObject");
        let mut target = about.text("kind").to_lowercase();
        if !about.text("name").is_empty() {
            target = format!("{target}/{}", about.text("name"));
        }
        vec![
            last.into(),
            object.text(&["type"]).into(),
            object.text(&["reason"]).into(),
            target.into(),
            about.text("fieldPath").into(),
            source(object).into(),
            object.text(&["message"]).trim().into(),
            first.into(),
            count.into(),
            object.name().into(),
        ]
    }
}

fn source(object: &Object) -> String {
    let or = |first: &str, second: &str| if first.is_empty() { second.to_owned() } else { first.to_owned() };
    let component = or(object.text(&["source", "component"]), object.text(&["reportingComponent"]));
    let instance = or(object.text(&["source", "host"]), object.text(&["reportingInstance"]));
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}

impl Strategy for Event {
    fn validate(&self, object: &Object) -> ErrorList {
        let event = as_core(object);
        let mut errors = basics(&event, "reportingController");
        if !event.resource_version().is_empty() {
            return errors;
        }
        series(&event, &mut errors);
        if event.text(&["eventTime"]).is_empty() {
            errors.required(&Path::new("eventTime"), "");
        }
        let kind = event.text(&["type"]);
        if !matches!(kind, "Normal" | "Warning") {
            errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
        }
        for field in ["firstTimestamp", "lastTimestamp"] {
            if !event.text(&[field]).is_empty() {
                errors.invalid(&Path::new(field), "", "needs to be unset");
            }
        }
        if Fields::int(&event, "count").unwrap_or_default() != 0 {
            errors.invalid(&Path::new("count"), "", "needs to be unset");
        }
        let source = event.field("source");
        if !source.text("component").is_empty() || !source.text("host").is_empty() {
            errors.invalid(&Path::new("source"), "", "needs to be unset");
        }
        errors
    }

    fn validate_update(&self, _part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        const FIXED: [&str; 12] = [
            "involvedObject",
            "reason",
            "message",
            "source",
            "firstTimestamp",
            "lastTimestamp",
            "count",
            "type",
            "eventTime",
            "action",
            "related",
            "reportingInstance",
        ];
        let mut errors = ErrorList::new();
        let (new, old) = (as_core(new), as_core(old));
        if new.field("series") != old.field("series") {
            series(&new, &mut errors);
        }
        for field in FIXED {
            metadata::immutable(new.field(field), old.field(field), &Path::new(field), &mut errors);
        }
        let (path, field) = (Path::new("reportingController"), "reportingComponent");
        metadata::immutable(new.field(field), old.field(field), &path, &mut errors);
        errors
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn selectable_names(&self) -> Vec<&str> {
        NEW_SELECTABLE.to_vec()
    }

    fn stored_field<'n>(&self, name: &'n str) -> Cow<'n, str> {
        match name.strip_prefix("regarding.") {
            Some(field) => format!("involvedObject.{field}").into(),
            None if name == "reportingController" => "reportingComponent".into(),
            None => name.into(),
        }
    }

    fn selectable(&self, object: &Object) -> Vec<(&'static str, String)> {
        CoreEvent.selectable(&as_core(object))
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        CoreEvent.cells(&as_core(object), now)
    }

    fn from_stored(&self, object: &mut Object) {
        for (core, new) in RENAMED {
            if let Some(value) = object.remove(core) {
                object.set(new, value);
            }
        }
        object.set("apiVersion", "events.k8s.io/v1");
    }

    fn to_stored(&self, object: &mut Object) {
        to_core(object);
    }

    fn converts(&self) -> bool {
        true
    }
}

fn series(event: &Object, errors: &mut ErrorList) {
    let series = event.field("series");
    if series.is_null() {
        return;
    }
    if series.int("count").unwrap_or_default() < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if series.text("lastObservedTime").is_empty() {
        errors.required(&Path::new("series.lastObservedTime"), "");
    }
}

/// Rules of both groups; `reporter` is the field's name in the asked one.
fn basics(event: &Object, reporter: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    let (namespace, about) = (event.namespace(), event.text(&["involvedObject", "namespace"]));
    let is_new = !event.text(&["eventTime"]).is_empty();
    let foreign = match (is_new, about) {
        (false, "") => !matches!(namespace, "" | "default"),
        (false, about) => about != namespace,
        (true, "") => !matches!(namespace, "default" | "kube-system"),
        (true, _) => false,
    };
    if foreign {
        let path = Path::new("involvedObject");
        errors.invalid(&path.child("namespace"), about, "does not match event.namespace");
    }
    if is_new {
        let name = event.text(&["reportingComponent"]);
        if name.is_empty() {
            errors.required(&Path::new(reporter), "");
        }
        errors.invalid_all(&Path::new(reporter), name, names::qualified(name));
        let limits = [
            ("reportingInstance", 128, true),
            ("action", 128, true),
            ("reason", 128, true),
            ("message", 1024, false),
        ];
        for (field, most, required) in limits {
            let text = event.text(&[field]);
            if text.is_empty() && required {
                errors.required(&Path::new(field), "");
            }
            if text.len() > most {
                errors.invalid(&Path::new(field), "", format!("can have at most {most} characters"));
            }
        }
    }
    errors.invalid_all(&Path::new("namespace"), namespace, names::subdomain(namespace));
    errors
}
