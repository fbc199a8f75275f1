//! Claims for devices, templates of claims, classes of devices.

use std::collections::{HashMap, HashSet};

use api::{ErrorList, Object, Path};
use serde_json::{Map, Value};

use super::{
    EFFECTS, MAX_CONFIGURATIONS, MAX_REQUESTS, configuration, fully_qualified, is_short, label, name_of,
    selectors, set, text_of,
};
use crate::fields::{Fields, default_number, default_text, object_in, objects_in};
use crate::kinds::pod::is_extended;
use crate::report::Report;
use crate::{Part, metadata, names};

const MAX_ALTERNATIVES: usize = 8;
const NO_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Defaults of a claim.
pub(in crate::kinds) fn default_claim(object: &mut Object) {
    if let Some(spec) = object_in(object.as_map_mut(), "spec") {
        default_spec(spec);
    }
}

/// Defaults of a template of claims.
pub(in crate::kinds) fn default_template(object: &mut Object) {
    let spec = object_in(object.as_map_mut(), "spec").and_then(|outer| object_in(outer, "spec"));
    if let Some(spec) = spec {
        default_spec(spec);
    }
}

fn default_spec(spec: &mut Map<String, Value>) {
    let Some(devices) = object_in(spec, "devices") else { return };
    for request in objects_in(devices, "requests") {
        if let Some(exactly) = object_in(request, "exactly") {
            default_request(exactly);
        }
        for one in objects_in(request, "firstAvailable") {
            default_request(one);
        }
    }
}

fn default_request(request: &mut Map<String, Value>) {
    default_text(request, "allocationMode", "ExactCount");
    if request.text("allocationMode") == "ExactCount" {
        default_number(request, "count", 1);
    }
    for toleration in objects_in(request, "tolerations") {
        default_text(toleration, "operator", "Equal");
    }
}

/// Rules for a claim by itself (`ValidateResourceClaim`).
pub(in crate::kinds) fn claim(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    devices(object.below(&["spec", "devices"]), &spec.child("devices"), &mut errors);
    errors
}

/// Rules for a template of claims by itself.
pub(in crate::kinds) fn template(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    let meta = spec.child("metadata");
    let of = object.below(&["spec", "metadata"]);
    metadata::labels(of.field("labels"), &meta.child("labels"), &mut errors);
    metadata::annotations(of.field("annotations"), &meta.child("annotations"), &mut errors);
    let inner = spec.child("spec");
    devices(object.below(&["spec", "spec", "devices"]), &inner.child("devices"), &mut errors);
    errors
}

/// Rules for a change of a template.
pub(in crate::kinds) fn template_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    metadata::immutable(new.field("spec"), old.field("spec"), &Path::new("spec"), &mut errors);
    errors
}

/// Rules for a class of devices (`ValidateDeviceClass`).
pub(in crate::kinds) fn device_class(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    selectors(spec.list("selectors"), &path.child("selectors"), &mut errors);
    let (list, at) = (spec.list("config"), path.child("config"));
    if is_short(list, MAX_CONFIGURATIONS, &at, &mut errors) {
        for (index, one) in list.iter().enumerate() {
            configuration(one, &at.index(index), &mut errors);
        }
    }
    let name = spec.text("extendedResourceName");
    if spec.has("extendedResourceName") && !is_extended(name) {
        let detail = "must be a valid extended resource name";
        errors.invalid(&path.child("extendedResourceName"), name, detail);
    }
    errors
}

/// The names of a claim's requests, each with those of its alternatives.
pub(super) struct Requests<'a>(HashMap<&'a str, HashSet<&'a str>>);

impl<'a> Requests<'a> {
    pub(super) fn of(devices: &'a Value) -> Self {
        let named = |request: &'a Value| {
            let inner = request.list("firstAvailable").iter().map(|one| one.text("name"));
            (request.text("name"), inner.collect())
        };
        Self(devices.list("requests").iter().map(named).collect())
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((outer, inner)) => self.0.get(outer).is_some_and(|names| names.contains(inner)),
        }
    }

    /// Rules for a reference to a request.
    pub(super) fn reference(&self, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() <= 2 {
            for part in parts {
                errors.invalid_all(path, part, names::label(part));
            }
        }
        if !self.has(name) {
            errors.invalid(path, name, NO_REQUEST);
        }
    }

    /// Rules for a list of references.
    pub(super) fn references(&self, list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
        let rules = |one: &Value, path: &Path<'_>, errors: &mut ErrorList| {
            self.reference(one.as_str().unwrap_or_default(), path, errors);
        };
        set((list, MAX_REQUESTS), &text_of, &rules, path, errors);
    }
}

fn devices(devices: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let requests = Requests::of(devices);
    set((devices.list("requests"), MAX_REQUESTS), &name_of, &request, &path.child("requests"), errors);
    let (list, at) = (devices.list("constraints"), path.child("constraints"));
    if is_short(list, MAX_CONFIGURATIONS, &at, errors) {
        for (index, one) in list.iter().enumerate() {
            constraint(one, &requests, &at.index(index), errors);
        }
    }
    let (list, at) = (devices.list("config"), path.child("config"));
    if is_short(list, MAX_CONFIGURATIONS, &at, errors) {
        for (index, one) in list.iter().enumerate() {
            let at = at.index(index);
            requests.references(one.list("requests"), &at.child("requests"), errors);
            configuration(one, &at, errors);
        }
    }
}

fn constraint(of: &Value, requests: &Requests<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    requests.references(of.list("requests"), &path.child("requests"), errors);
    let field = ["matchAttribute", "distinctAttribute"].into_iter().find(|field| of.has(field));
    match field {
        Some(field) => fully_qualified(of.text(field), &path.child(field), errors),
        None => {
            errors.required(path, "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required")
        }
    }
}

fn request(request: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    label(request, "name", path, errors);
    let alternatives = request.list("firstAvailable");
    match (request.has("exactly"), !alternatives.is_empty()) {
        (false, false) => errors.required(path, ONE),
        (true, true) => errors.invalid(path, Value::Null, format!("{ONE}, but multiple fields are set")),
        (true, false) => exact(request.field("exactly"), &path.child("exactly"), errors),
        (false, true) => {
            let rules = |one: &Value, path: &Path<'_>, errors: &mut ErrorList| {
                label(one, "name", path, errors);
                exact(one, path, errors);
            };
            let at = path.child("firstAvailable");
            set((alternatives, MAX_ALTERNATIVES), &name_of, &rules, &at, errors);
        }
    }
}

fn exact(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (class, at) = (of.text("deviceClassName"), path.child("deviceClassName"));
    if class.is_empty() {
        errors.required(&at, "");
    } else {
        errors.invalid_all(&at, class, names::subdomain(class));
    }
    selectors(of.list("selectors"), &path.child("selectors"), errors);
    let (count, at) = (of.int("count").unwrap_or_default(), path.child("count"));
    match of.text("allocationMode") {
        "All" if count != 0 => {
            errors.invalid(&at, count, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count <= 0 => errors.invalid(&at, count, "must be greater than zero"),
        mode => errors.one_of(&path.child("allocationMode"), mode, &["All", "ExactCount"]),
    }
    let at = path.child("tolerations");
    for (index, one) in of.list("tolerations").iter().enumerate() {
        toleration(one, &at.index(index), errors);
    }
}

fn toleration(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (key, value, at) = (of.text("key"), of.text("value"), path.child("value"));
    if !key.is_empty() {
        errors.invalid_all(&path.child("key"), key, names::qualified(key));
    }
    match of.text("operator") {
        "Exists" if !value.is_empty() => errors.invalid(&at, value, "must be empty for operator `Exists`"),
        "Equal" => errors.invalid_all(&at, value, names::label_value(value)),
        other => errors.required_one_of(&path.child("operator"), other, &["Equal", "Exists"]),
    }
    if !of.text("effect").is_empty() {
        errors.one_of(&path.child("effect"), of.text("effect"), &EFFECTS);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(devices: Value) -> Vec<String> {
        let mut object = Object::from_value(json!({"spec": {"devices": devices}})).expect("an object");
        default_claim(&mut object);
        claim(&object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn claims() {
        let one = |change: Value| {
            let mut exactly = json!({"deviceClassName": "gpu"});
            api::patch::merge_patch(&mut exactly, change);
            json!({"requests": [{"name": "a", "exactly": exactly}]})
        };
        let with = |field: &str, value: Value| {
            let mut devices = one(json!({}));
            devices[field] = json!([value]);
            devices
        };
        let alternatives =
            json!([{"name": "x", "deviceClassName": "gpu"}, {"name": "y", "deviceClassName": "cpu"}]);
        for good in [
            one(json!({})),
            one(json!({"allocationMode": "All"})),
            one(json!({"selectors": [{"cel": {"expression": "device.driver == 'a.b'"}}]})),
            json!({
                "requests": [{"name": "a", "firstAvailable": alternatives}],
                "constraints": [{"requests": ["a/x"], "matchAttribute": "a.b/numa"}],
            }),
            with("config", json!({"requests": ["a"], "opaque": {"driver": "a.b", "parameters": {"x": 1}}})),
        ] {
            assert_eq!(told(good), Vec::<String>::new());
        }
        let at = "spec.devices.requests[0]";
        for (devices, expected) in [
            (
                json!({"requests": [{"name": "a"}]}),
                format!("{at}: Required value: exactly one of `exactly` or `firstAvailable` is required"),
            ),
            (one(json!({"deviceClassName": ""})), format!("{at}.exactly.deviceClassName: Required value")),
            (
                one(json!({"allocationMode": "All", "count": 2})),
                format!("{at}.exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"),
            ),
            (
                one(json!({"count": -1})),
                format!("{at}.exactly.count: Invalid value: -1: must be greater than zero"),
            ),
            (
                one(json!({"allocationMode": "Some"})),
                format!("{at}.exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\""),
            ),
            (
                one(json!({"tolerations": [{"operator": "Exists", "value": "v"}]})),
                format!("{at}.exactly.tolerations[0].value: Invalid value: \"v\": must be empty for operator `Exists`"),
            ),
            (
                with("constraints", json!({"requests": ["b"], "matchAttribute": "a.b/numa"})),
                format!("spec.devices.constraints[0].requests[0]: Invalid value: \"b\": {NO_REQUEST}"),
            ),
            (
                with("constraints", json!({"matchAttribute": "numa"})),
                "spec.devices.constraints[0].matchAttribute: Invalid value: \"numa\": a fully qualified name must be a domain and a name separated by a slash".to_owned(),
            ),
            (with("config", json!({})), "spec.devices.config[0].opaque: Required value".to_owned()),
        ] {
            assert_eq!(told(devices), [expected]);
        }
        let many: Vec<Value> = (0..33).map(|index| json!({"name": format!("r{index}")})).collect();
        assert_eq!(
            told(json!({"requests": many})),
            ["spec.devices.requests: Too many: 33: must have at most 32 items"]
        );
        let bad = told(one(json!({"selectors": [{"cel": {"expression": "device.driver =="}}]})));
        assert!(bad[0].contains("selectors[0].cel.expression: Invalid value"), "{bad:?}");
    }

    #[test]
    fn what_is_left_out_is_one_device() {
        let mut object = Object::from_value(json!({"spec": {"devices": {"requests": [
            {"name": "a", "exactly": {"deviceClassName": "gpu"}},
        ]}}}))
        .expect("an object");
        default_claim(&mut object);
        let exactly = &object.below(&["spec", "devices"]).list("requests")[0]["exactly"];
        assert_eq!(*exactly, json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}));
    }

    #[test]
    fn classes() {
        let told = |spec: Value| {
            let object = Object::from_value(json!({"spec": spec})).expect("an object");
            device_class(&object).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(json!({"extendedResourceName": "example.com/gpu"})), Vec::<String>::new());
        assert_eq!(
            told(json!({"extendedResourceName": "cpu"})),
            ["spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name"]
        );
        assert_eq!(told(json!({"selectors": [{}]})), ["spec.selectors[0].cel: Required value"]);
    }
}
