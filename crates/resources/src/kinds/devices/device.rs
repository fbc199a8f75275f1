//! One device of a slice.

use std::sync::LazyLock;

use api::{ErrorList, FieldError, Path, Quantity};
use regex::Regex;
use serde_json::Value;

use super::slice::{named_counters, ways_of};
use super::{EFFECTS, binding_conditions, is_short, label, qualified, set};
use crate::fields::Fields;
use crate::kinds::pod::resources::{is_standard, quantity};
use crate::names;
use crate::report::Report;

const MAX_NAMES: usize = 32;
const MAX_VALUES: usize = 48;
const MAX_TAINTS: usize = 16;
const MAX_CONSUMED: usize = 2;
const MAX_OPTIONS: usize = 10;
/// The longest text or version, in bytes.
const LONGEST_VALUE: usize = 64;
const SINGLE: [&str; 4] = ["bool", "int", "string", "version"];
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

#[expect(clippy::expect_used, reason = "the pattern is fixed, and a test compiles it")]
static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"(0|[1-9]\d*)";
    let early = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)";
    let build = "[0-9a-zA-Z-]+";
    let text = format!(r"^{number}\.{number}\.{number}(-{early}(\.{early})*)?(\+{build}(\.{build})*)?$");
    Regex::new(&text).expect("a pattern")
});

/// Whether a device has what makes it larger, so that a slice takes fewer of them.
pub(super) fn is_advanced(device: &Value) -> bool {
    let has_list = |(_, attribute): (&String, &Value)| LISTS.iter().any(|list| attribute.has(list));
    !device.list("taints").is_empty()
        || !device.list("consumesCounters").is_empty()
        || device.entries("attributes").any(has_list)
}

/// Rules for a device; `is_placed` where each device says on which nodes it is.
pub(super) fn device(device: &Value, is_placed: bool, path: &Path<'_>, errors: &mut ErrorList) {
    label(device, "name", path, errors);
    attributes(device, path, errors);
    capacities(device, path, errors);
    let (taints, at) = (device.list("taints"), path.child("taints"));
    if is_short(taints, MAX_TAINTS, &at, errors) {
        for (index, one) in taints.iter().enumerate() {
            taint(one, &at.index(index), errors);
        }
    }
    let key = |one: &Value| one.text("counterSet").to_owned();
    let rules = |one: &Value, path: &Path<'_>, errors: &mut ErrorList| {
        named_counters(one, "counterSet", path, errors);
    };
    let consumed = (device.list("consumesCounters"), MAX_CONSUMED);
    set(consumed, &key, &rules, &path.child("consumesCounters"), errors);
    place(device, is_placed, path, errors);
    binding_conditions(device, path, errors);
    let at = path.child("nodeAllocatableResourceMappings");
    for (name, mapping) in device.entries("nodeAllocatableResourceMappings") {
        self::mapping(name, mapping, device, &at.key(name), errors);
    }
}

fn attributes(device: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let count = device.entries("attributes").count() + device.entries("capacity").count();
    if count > MAX_NAMES {
        let detail = format!("the total number of attributes and capacities must not exceed {MAX_NAMES}");
        errors.invalid(path, count, detail);
    }
    let in_lists = |of: &Value| LISTS.iter().map(|list| of.list(list).len()).sum::<usize>();
    let values: usize = device.entries("attributes").map(|(_, one)| in_lists(one).max(1)).sum();
    if values > MAX_VALUES {
        let detail = format!("the total number of attribute values must not exceed {MAX_VALUES}");
        errors.invalid(path, values, detail);
    }
    let at = path.child("attributes");
    for (name, one) in device.entries("attributes") {
        qualified(name, &at, errors);
        attribute(one, &at.key(name), errors);
    }
}

fn attribute(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let found = SINGLE.iter().chain(&LISTS).filter(|field| of.has(field)).count();
    if of.has("string") {
        value(of.text("string"), false, &path.child("string"), errors);
    }
    if of.has("version") {
        value(of.text("version"), true, &path.child("version"), errors);
    }
    for field in LISTS.into_iter().filter(|field| of.has(field)) {
        let (list, at) = (of.list(field), path.child(field));
        if list.is_empty() {
            errors.invalid(&at, list.to_vec(), "must not be empty if specified");
        }
        for (index, text) in list.iter().enumerate().filter_map(|(index, one)| Some((index, one.as_str()?))) {
            value(text, field == "versions", &at.index(index), errors);
        }
    }
    if found != 1 {
        let shown = if found == 0 { Value::from("") } else { of.clone() };
        errors.invalid(path, shown, "exactly one value must be specified");
    }
}

fn value(text: &str, is_version: bool, path: &Path<'_>, errors: &mut ErrorList) {
    if is_version && !VERSION.is_match(text) {
        errors.invalid(path, text, "must be a string compatible with semver.org spec 2.0.0");
    }
    if text.len() > LONGEST_VALUE {
        errors.add(FieldError::too_long(path, LONGEST_VALUE));
    }
}

fn capacities(device: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("capacity");
    for (name, capacity) in device.entries("capacity") {
        qualified(name, &at, errors);
        let key = at.key(name);
        let policy = key.child("requestPolicy");
        if !capacity.has("requestPolicy") {
            continue;
        }
        if device.flag("allowMultipleAllocations") {
            let of = capacity.field("requestPolicy");
            request_policy(of, quantity(capacity.field("value")), &policy, errors);
        } else {
            errors.forbidden(&policy, "allowMultipleAllocations must be true");
        }
    }
}

/// How much of a capacity may be asked for.
fn request_policy(of: &Value, all: Quantity, path: &Path<'_>, errors: &mut ErrorList) {
    let (values, range) = (of.list("validValues"), of.field("validRange"));
    if !values.is_empty() && !range.is_null() {
        let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
        errors.forbidden(path, detail);
        return;
    }
    let field = if !values.is_empty() {
        "validValues"
    } else if !range.is_null() {
        "validRange"
    } else {
        return;
    };
    if !of.has("default") {
        errors.required(&path.child("default"), &format!("required when {field} is defined"));
        return;
    }
    let usual = of.field("default");
    if field == "validValues" {
        options(values, usual, all, &path.child(field), errors);
    } else {
        span(range, usual, all, &path.child(field), errors);
    }
}

fn options(values: &[Value], usual: &Value, all: Quantity, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, pair) in values.windows(2).enumerate() {
        if quantity(&pair[0]) > quantity(&pair[1]) {
            let detail = "values must be sorted in ascending order";
            errors.invalid(&path.index(index + 1), pair[1].clone(), detail);
        }
    }
    let rules = |one: &Value, path: &Path<'_>, errors: &mut ErrorList| {
        if quantity(one) > all {
            errors.invalid(path, one.clone(), format!("option is larger than capacity value: {all}"));
        }
    };
    let key = |one: &Value| quantity(one).units().to_string();
    set((values, MAX_OPTIONS), &key, &rules, path, errors);
    if !values.iter().any(|one| quantity(one) == quantity(usual)) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.invalid(path, usual.clone(), detail);
    }
}

fn span(range: &Value, usual: &Value, all: Quantity, path: &Path<'_>, errors: &mut ErrorList) {
    let (least, most, step) = (range.field("min"), range.field("max"), range.field("step"));
    let at = path.child("min");
    if least.is_null() {
        errors.required(&at, "required when validRange is defined");
        return;
    }
    let low = quantity(least);
    if low > all {
        errors.invalid(&at, least.clone(), format!("min is larger than capacity value: {all}"));
    }
    if quantity(usual) < low {
        errors.invalid(&at, usual.clone(), format!("default is less than min: {low}"));
    }
    let at = path.child("max");
    if !most.is_null() {
        let high = quantity(most);
        if low > high {
            errors.invalid(&at, least.clone(), format!("min is larger than max: {high}"));
        }
        if high > all {
            errors.invalid(&at, most.clone(), format!("max is larger than capacity value: {all}"));
        }
        if quantity(usual) > high {
            errors.invalid(&at, usual.clone(), format!("default is more than max: {high}"));
        }
    }
    let width = quantity(step).units();
    if step.is_null() || width <= 0 {
        return;
    }
    let at = path.child("step");
    for value in [usual, most].into_iter().filter(|value| !value.is_null()) {
        // Amounts are others' to choose: their distance may be wider than they are.
        let distance = i128::from(quantity(value).units()) - i128::from(low.units());
        if distance % i128::from(width) != 0 {
            let detail = format!("value is not a multiple of a given step ({}) from ({low})", quantity(step));
            errors.invalid(&at, value.clone(), detail);
        }
    }
}

fn taint(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (key, value) = (of.text("key"), of.text("value"));
    errors.invalid_all(&path.child("key"), key, names::qualified(key));
    errors.invalid_all(&path.child("value"), value, names::label_value(value));
    errors.required_one_of(&path.child("effect"), of.text("effect"), &EFFECTS);
}

fn place(device: &Value, is_placed: bool, path: &Path<'_>, errors: &mut ErrorList) {
    const WAYS: [&str; 3] = ["nodeName", "nodeSelector", "allNodes"];
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if !is_placed {
        if WAYS.iter().any(|field| device.has(field)) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.invalid(path, Value::Null, detail);
        }
        return;
    }
    let found = ways_of(device, &WAYS, "must not be empty", path, errors);
    match found.as_slice() {
        [] => errors.required(path, ONE),
        [_] => {}
        _ => errors.invalid(path, format!("{{{}}}", found.join(", ")), ONE),
    }
}

/// What of a node's own resources a device takes.
fn mapping(name: &str, of: &Value, device: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if !is_standard(name) && name.contains('/') && !name.contains("kubernetes.io/") {
        errors.invalid(path, name, "must be a node allocatable resource name");
    }
    if !of.has("allocationMultiplier") && !of.has("capacityKey") {
        errors.invalid(path, "", "at least one of allocationMultiplier or capacityKey must be set");
        return;
    }
    let factor = of.field("allocationMultiplier");
    if !factor.is_null() && quantity(factor) <= Quantity::ZERO {
        errors.invalid(&path.child("allocationMultiplier"), factor.clone(), "must be positive");
    }
    let (key, at) = (of.text("capacityKey"), path.child("capacityKey"));
    if !of.has("capacityKey") {
        return;
    }
    if key.is_empty() {
        errors.invalid(&at, "", "capacityKey must not be an empty string");
    } else if !device.field("capacity").has(key) {
        errors.not_found(&at, key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions() {
        for (text, is_good) in [
            ("1.2.3", true),
            ("1.2.3-rc.1+build.5", true),
            ("1.2", false),
            ("01.2.3", false),
            ("1.2.3-", false),
        ] {
            assert_eq!(VERSION.is_match(text), is_good, "{text}");
        }
    }

    #[test]
    fn policies_of_requests() {
        let told = |policy: Value| {
            let mut errors = ErrorList::new();
            let all = quantity(&json!("10"));
            request_policy(&policy, all, &Path::new("p"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for good in [
            json!({}),
            json!({"default": "2", "validValues": ["1", "2"]}),
            json!({"default": "2", "validRange": {"min": "2", "max": "8", "step": "2"}}),
        ] {
            assert_eq!(told(good), Vec::<String>::new());
        }
        for (policy, expected) in [
            (
                json!({"validValues": ["1"]}),
                "p.default: Required value: required when validValues is defined",
            ),
            (
                json!({"default": "3", "validValues": ["1"]}),
                "p.validValues: Invalid value: \"3\": default value is not valid according to the requestPolicy",
            ),
            (
                json!({"default": "1", "validValues": ["1", "11"]}),
                "p.validValues[1]: Invalid value: \"11\": option is larger than capacity value: 10",
            ),
            (
                json!({"default": "1", "validRange": {"min": "2"}}),
                "p.validRange.min: Invalid value: \"1\": default is less than min: 2",
            ),
            (
                json!({"default": "3", "validRange": {"min": "2", "step": "2"}}),
                "p.validRange.step: Invalid value: \"3\": value is not a multiple of a given step (2) from (2)",
            ),
        ] {
            assert_eq!(told(policy), [expected]);
        }
        let (least, most) = ("-9223372036854775807", "9223372036854775807");
        let widest = told(json!({"default": most, "validRange": {"min": least, "max": most, "step": "4"}}));
        assert!(widest.iter().any(|one| one.contains("is not a multiple of a given step")), "{widest:?}");
    }
}
