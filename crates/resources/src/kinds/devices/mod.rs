//! Dynamic resources: claims for devices, classes of devices, and the slices in
//! which drivers publish them, following `pkg/apis/resource`.

mod allocation;
mod claim;
mod device;
mod slice;

use std::collections::HashSet;

use api::{ErrorList, FieldError, Path};
use serde_json::Value;

pub(super) use allocation::claim_update;
pub(super) use claim::{claim, default_claim, default_template, device_class, template, template_update};
pub(super) use slice::{slice, slice_update};

use super::storage::driver_name;
use crate::cel::{Program, Type};
use crate::fields::Fields;
use crate::names;
use crate::report::Report;

/// The most requests, and the most names of requests in a list.
const MAX_REQUESTS: usize = 32;
const MAX_SELECTORS: usize = 32;
const MAX_CONFIGURATIONS: usize = 32;
/// The longest expression and the largest parameters, in bytes.
const LONGEST: usize = 10 * 1024;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Whether a list has at most so many elements; a longer one is not looked into.
fn is_short(list: &[Value], most: usize, path: &Path<'_>, errors: &mut ErrorList) -> bool {
    let is_short = list.len() <= most;
    if !is_short {
        errors.add(FieldError::too_many(path, list.len(), most));
    }
    is_short
}

/// Every element by its rules, and none with the key of another.
fn set(
    (list, most): (&[Value], usize),
    key: &dyn Fn(&Value) -> String,
    rules: &dyn Fn(&Value, &Path<'_>, &mut ErrorList),
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    if !is_short(list, most, path, errors) {
        return;
    }
    let mut seen = HashSet::new();
    for (index, one) in list.iter().enumerate() {
        let at = path.index(index);
        rules(one, &at, errors);
        let key = key(one);
        if seen.contains(&key) {
            errors.duplicate(&at, key);
        } else {
            seen.insert(key);
        }
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn name_of(value: &Value) -> String {
    value.text("name").to_owned()
}

fn label(of: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let text = of.text(field);
    errors.invalid_all(&path.child(field), text, names::label(text));
}

fn pool_name(of: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let (name, at) = (of.text(field), path.child(field));
    if name.is_empty() {
        errors.required(&at, "");
        return;
    }
    if name.len() > 253 {
        errors.add(FieldError::too_long(&at, 253));
    }
    for part in name.split('/') {
        errors.invalid_all(&at, part, names::subdomain(part));
    }
}

/// A name of a driver's attribute or capacity, with or without a domain.
fn qualified(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let identifier = |id: &str, errors: &mut ErrorList| {
        if id.len() > 32 {
            errors.add(FieldError::too_long(path, 32));
        }
        errors.invalid_all(path, id, names::c_identifier(id));
    };
    match name.split_once('/') {
        None => identifier(name, errors),
        Some((domain, id)) => {
            if domain.is_empty() {
                errors.invalid(path, "", "the domain must not be empty");
            } else {
                driver_name(domain, path, errors);
            }
            if id.is_empty() {
                errors.invalid(path, "", "the name must not be empty");
            } else {
                identifier(id, errors);
            }
        }
    }
}

fn fully_qualified(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    qualified(name, path, errors);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(path, name, detail);
    }
}

fn selectors(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    if !is_short(list, MAX_SELECTORS, path, errors) {
        return;
    }
    for (index, selector) in list.iter().enumerate() {
        let at = path.index(index);
        let at = at.child("cel");
        if selector.has("cel") {
            expression(selector.field("cel").text("expression"), &at.child("expression"), errors);
        } else {
            errors.required(&at, "");
        }
    }
}

/// What a selector asks about the variable `device`.
fn expression(source: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if source.len() > LONGEST {
        errors.add(FieldError::too_long(path, LONGEST));
        return;
    }
    let known = |name: &str| (name == "device").then_some(Type::Dyn);
    match Program::compile(source, &known) {
        Err(why) => errors.invalid(path, source, format!("compilation failed: {why}")),
        Ok(program) if !matches!(program.result(), Type::Bool | Type::Dyn) => {
            errors.invalid(path, source, "must evaluate to bool or the unknown type");
        }
        Ok(_) => {}
    }
}

/// What a driver is told, which only the driver understands.
fn configuration(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (opaque, at) = (of.field("opaque"), path.child("opaque"));
    if opaque.is_null() {
        errors.required(&at, "");
        return;
    }
    driver_name(opaque.text("driver"), &at.child("driver"), errors);
    raw(opaque.field("parameters"), &at.child("parameters"), errors);
}

fn raw(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if value.is_null() {
        errors.required(path, "");
    } else if value.to_string().len() > LONGEST {
        errors.add(FieldError::too_long(path, LONGEST));
    } else if !value.is_object() {
        errors.invalid(path, "<value omitted>", "must be a valid JSON object");
    }
}

/// The conditions that a device must have, or must not, before a pod is bound.
fn binding_conditions(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const MOST: usize = 4;
    let (good, bad) = (of.list("bindingConditions"), of.list("bindingFailureConditions"));
    let (at, bad_at) = (path.child("bindingConditions"), path.child("bindingFailureConditions"));
    let rules = |one: &Value, path: &Path<'_>, errors: &mut ErrorList| {
        let text = one.as_str().unwrap_or_default();
        errors.invalid_all(path, text, names::qualified(text));
    };
    set((good, MOST), &text_of, &rules, &at, errors);
    set((bad, MOST), &text_of, &rules, &bad_at, errors);
    for (index, one) in bad.iter().enumerate().filter(|(_, one)| good.contains(one)) {
        let detail = "bindingFailureConditions must not overlap with bindingConditions";
        errors.invalid(&bad_at.index(index), one.clone(), detail);
    }
    match (good.is_empty(), bad.is_empty()) {
        (true, false) => {
            let detail = "bindingConditions are required to use bindingFailureConditions";
            errors.invalid(&at, good.to_vec(), detail);
        }
        (false, true) => {
            let detail = "bindingFailureConditions are required to use bindingConditions";
            errors.invalid(&bad_at, bad.to_vec(), detail);
        }
        _ => {}
    }
}
