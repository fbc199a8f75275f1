//! Bindings of policies: to what, with which parameters, and what then happens.

use api::{ErrorList, Object, Path};
use serde_json::Value;

use super::rules::match_resources;
use crate::fields::Fields;
use crate::kinds::pod::scheduling::label_selector;
use crate::names;
use crate::report::Report;

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

/// Rules for a binding of a policy that validates.
pub(in crate::kinds) fn validating_binding(object: &Object) -> ErrorList {
    let mut errors = mutating_binding(object);
    let path = Path::new("spec");
    actions(object.field("spec"), &path.child("validationActions"), &mut errors);
    errors
}

/// Rules for a binding of a policy that changes objects.
pub(in crate::kinds) fn mutating_binding(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    let (policy, at) = (spec.text("policyName"), path.child("policyName"));
    if policy.is_empty() {
        errors.required(&at, "");
    } else {
        errors.invalid_all(&at, policy, names::dns_subdomain(policy, false));
    }
    if spec.has("paramRef") {
        param_ref(spec.field("paramRef"), &path.child("paramRef"), &mut errors);
    }
    if spec.has("matchResources") {
        match_resources(spec.field("matchResources"), &path.child("matchResources"), &mut errors);
    }
    errors
}

fn param_ref(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, has_selector) = (of.text("name"), of.has("selector"));
    if !name.is_empty() {
        errors.invalid_all(&path.child("name"), name, names::path_segment(name, false));
        if has_selector {
            errors.forbidden(&path.child("name"), EXCLUSIVE);
        }
    }
    if has_selector {
        label_selector(of.field("selector"), &path.child("selector"), errors);
        if !name.is_empty() {
            errors.forbidden(&path.child("selector"), EXCLUSIVE);
        }
    }
    if name.is_empty() && !has_selector {
        errors.required(path, "one of name or selector must be specified");
    }
    let action = of.text("parameterNotFoundAction");
    errors.required_one_of(&path.child("parameterNotFoundAction"), action, &["Deny", "Allow"]);
}

fn actions(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = spec.list("validationActions");
    for (index, action) in list.iter().enumerate() {
        let (at, text) = (path.index(index), action.as_str().unwrap_or_default());
        errors.one_of(&at, text, &ACTIONS);
        if list[..index].contains(action) {
            errors.duplicate(&at, text);
        }
    }
    let has = |wanted: &str| list.iter().any(|action| action == wanted);
    if has("Deny") && has("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.invalid(path, list.to_vec(), detail);
    }
    if list.is_empty() {
        errors.required(path, "at least one validation action is required");
    }
}
