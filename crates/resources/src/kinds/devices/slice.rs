//! Slices: the devices that a driver publishes.

use api::{ErrorList, Object, Path};
use serde_json::Value;

use super::{device, driver_name, name_of, pool_name, set};
use crate::fields::Fields;
use crate::kinds::pod::scheduling::node_selector;
use crate::report::Report;
use crate::{Part, metadata, names};

const MAX_COUNTER_SETS: usize = 8;
const MAX_COUNTERS: usize = 32;
const WHERE: [&str; 4] = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];

/// Rules for a slice by itself (`ValidateResourceSlice`).
pub(in crate::kinds) fn slice(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    driver_name(spec.text("driver"), &path.child("driver"), &mut errors);
    pool(spec.field("pool"), &path.child("pool"), &mut errors);
    place(spec, &path, &mut errors);
    if spec.has("sharedCounters") && spec.has("devices") {
        errors.invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let devices = spec.list("devices");
    let is_placed = spec.flag("perDeviceNodeSelection");
    let rules =
        |one: &Value, path: &Path<'_>, errors: &mut ErrorList| device::device(one, is_placed, path, errors);
    let most = if devices.iter().any(device::is_advanced) { 64 } else { 128 };
    set((devices, most), &name_of, &rules, &path.child("devices"), &mut errors);
    let sets = (spec.list("sharedCounters"), MAX_COUNTER_SETS);
    let rules = |one: &Value, path: &Path<'_>, errors: &mut ErrorList| {
        named_counters(one, "name", path, errors);
    };
    set(sets, &name_of, &rules, &path.child("sharedCounters"), &mut errors);
    errors
}

/// Rules for a change of a slice.
pub(in crate::kinds) fn slice_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    let pool = path.child("pool");
    for (field, at) in [
        (&["spec", "pool", "name"][..], pool.child("name")),
        (&["spec", "driver"], path.child("driver")),
        (&["spec", "nodeName"], path.child("nodeName")),
    ] {
        metadata::immutable(new.below(field), old.below(field), &at, &mut errors);
    }
    errors
}

fn pool(pool: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    pool_name(pool, "name", path, errors);
    let count = pool.int("resourceSliceCount").unwrap_or_default();
    if count <= 0 {
        errors.invalid(&path.child("resourceSliceCount"), count, "must be greater than zero");
    }
    if let Some(generation) = pool.int("generation").filter(|generation| *generation < 0) {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.child("generation"), generation, detail);
    }
}

/// Where the devices are: one way to say it.
fn place(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let ways = WHERE.map(|field| format!("`{field}`")).join(", ");
    let one_only = format!("exactly one of {ways} is required");
    let found = ways_of(spec, &WHERE, "must be either unset or set to a non-empty string", path, errors);
    match found.as_slice() {
        [] => errors.required(path, &one_only),
        [_] => {}
        _ => {
            let shown = format!("{{{}}}", found.join(", "));
            errors.invalid(path, shown, format!("{one_only}, but multiple fields are set"));
        }
    }
    let terms = spec.field("nodeSelector").list("nodeSelectorTerms");
    if spec.has("nodeSelector") && terms.len() != 1 {
        let at = path.child("nodeSelector");
        let detail = "must have exactly one node selector term";
        errors.invalid(&at.child("nodeSelectorTerms"), terms.to_vec(), detail);
    }
}

/// The ways that are taken to say where devices are, each by its rules.
pub(super) fn ways_of(
    of: &Value,
    fields: &[&str],
    empty: &str,
    path: &Path<'_>,
    errors: &mut ErrorList,
) -> Vec<String> {
    let mut found = Vec::new();
    for field in fields.iter().filter(|field| of.has(field)) {
        let (value, at) = (of.field(field), path.child(field));
        match value {
            Value::String(name) if name.is_empty() => {
                errors.invalid(&at, "", empty);
                continue;
            }
            Value::String(name) => errors.invalid_all(&at, name, names::subdomain(name)),
            Value::Bool(false) => {
                errors.invalid(&at, false, "must be either unset or set to true");
                continue;
            }
            Value::Object(_) => node_selector(value, &at, errors),
            _ => {}
        }
        found.push(format!("`{field}`"));
    }
    found
}

/// Counters, and the field that names their set.
pub(super) fn named_counters(of: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let (text, at) = (of.text(name), path.child(name));
    if text.is_empty() {
        errors.required(&at, "");
    } else {
        errors.invalid_all(&at, text, names::label(text));
    }
    let (counters, at) = (of.field("counters").as_object(), path.child("counters"));
    let Some(counters) = counters.filter(|counters| !counters.is_empty()) else {
        errors.required(&at, "");
        return;
    };
    if counters.len() > MAX_COUNTERS {
        errors.push(api::FieldError::too_many(&at, counters.len(), MAX_COUNTERS));
        return;
    }
    for name in counters.keys() {
        errors.invalid_all(&at, name, names::label(name));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn slices() {
        let told = |change: Value| {
            let mut spec = json!({
                "driver": "a.b", "nodeName": "n", "pool": {"name": "n/x", "resourceSliceCount": 1},
                "devices": [{"name": "d", "attributes": {"model": {"string": "m"}}, "capacity": {"a.b/mem": {"value": "1Gi"}}}],
            });
            api::patch::merge_patch(&mut spec, change);
            let object = Object::from_value(json!({"spec": spec})).expect("an object");
            slice(&object).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for good in [
            json!({}),
            json!({"nodeName": null, "allNodes": true}),
            json!({"devices": null, "sharedCounters": [{"name": "c", "counters": {"mem": {"value": "1"}}}]}),
            json!({"nodeName": null, "perDeviceNodeSelection": true, "devices": [{"name": "d", "nodeName": "n"}]}),
        ] {
            assert_eq!(told(good), Vec::<String>::new());
        }
        let device = |change: Value| {
            let mut device = json!({"name": "d"});
            api::patch::merge_patch(&mut device, change);
            json!({"devices": [device]})
        };
        for (change, expected) in [
            (
                json!({"nodeName": null}),
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ),
            (
                json!({"allNodes": true}),
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            ),
            (
                json!({"pool": {"resourceSliceCount": 0}}),
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            ),
            (json!({"devices": [{"name": "d"}, {"name": "d"}]}), "spec.devices[1]: Duplicate value: \"d\""),
            (
                device(json!({"attributes": {"m": {}}})),
                "spec.devices[0].attributes[m]: Invalid value: \"\": exactly one value must be specified",
            ),
            (
                device(json!({"attributes": {"m": {"version": "1"}}})),
                "spec.devices[0].attributes[m].version: Invalid value: \"1\": must be a string compatible with semver.org spec 2.0.0",
            ),
            (
                device(json!({"capacity": {"c": {"value": "1", "requestPolicy": {}}}})),
                "spec.devices[0].capacity[c].requestPolicy: Forbidden: allowMultipleAllocations must be true",
            ),
            (device(json!({"taints": [{"key": "k"}]})), "spec.devices[0].taints[0].effect: Required value"),
            (
                device(json!({"nodeName": "n"})),
                "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
            ),
            (
                device(json!({"bindingConditions": ["a"]})),
                "spec.devices[0].bindingFailureConditions: Invalid value: []: bindingFailureConditions are required to use bindingConditions",
            ),
            (
                device(json!({"consumesCounters": [{"counterSet": "c"}]})),
                "spec.devices[0].consumesCounters[0].counters: Required value",
            ),
        ] {
            assert_eq!(told(change), [expected]);
        }
    }

    #[test]
    fn names_stay() {
        let object = |driver: &str, count: i64| {
            let pool = json!({"name": "p", "resourceSliceCount": count});
            Object::from_value(json!({"spec": {"driver": driver, "nodeName": "n", "pool": pool}}))
                .expect("an object")
        };
        assert!(slice_update(Part::Main, &object("a.b", 2), &object("a.b", 1)).is_empty());
        assert_eq!(slice_update(Part::Main, &object("c.d", 1), &object("a.b", 1)).len(), 1);
    }
}
