//! What registrations and policies match: rules and selectors.

use api::{ErrorList, Path};
use serde_json::Value;

use crate::fields::Fields;
use crate::kinds::pod::scheduling::label_selector;
use crate::names;
use crate::report::Report;

const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];

fn texts(of: &[Value]) -> Vec<&str> {
    of.iter().map(|one| one.as_str().unwrap_or_default()).collect()
}

/// Rules for a list that is `*` alone or says what it means.
fn wildcard_alone(of: &Value, name: &str, what: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let list = of.list(name);
    let at = path.child(name);
    if list.is_empty() {
        errors.required(&at, "");
    }
    if list.len() > 1 && list.iter().any(|one| one == "*") {
        errors.invalid(&at, list.to_vec(), format!("if '*' is present, must not specify other {what}"));
    }
}

/// Rules for operations and resources.
pub(super) fn rule(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    wildcard_alone(of, "operations", "operations", path, errors);
    let at = path.child("operations");
    for (index, operation) in texts(of.list("operations")).into_iter().enumerate() {
        errors.one_of(&at.index(index), operation, &OPERATIONS);
    }
    wildcard_alone(of, "apiGroups", "API groups", path, errors);
    wildcard_alone(of, "apiVersions", "API versions", path, errors);
    let at = path.child("apiVersions");
    for (index, _) in of.list("apiVersions").iter().enumerate().filter(|(_, one)| *one == "") {
        errors.required(&at.index(index), "");
    }
    resources(of.list("resources"), &path.child("resources"), errors);
    if of.has("scope") {
        errors.one_of(&path.child("scope"), of.text("scope"), &SCOPES);
    }
}

fn resources(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    if list.is_empty() {
        errors.required(path, "");
    }
    let all = texts(list);
    for (index, text) in all.iter().enumerate() {
        let at = path.index(index);
        if text.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let Some((resource, part)) = text.split_once('/') else { continue };
        let before = |wanted: String| all[..index].contains(&wanted.as_str());
        if before(format!("{resource}/*")) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.invalid(&at, *text, detail);
        }
        if before(format!("*/{part}")) {
            let detail = format!("if '*/{part}' is present, must not specify {text}");
            errors.invalid(&at, *text, detail);
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        errors.invalid(path, list.to_vec(), "if '*/*' is present, must not specify other resources");
    }
    if all.contains(&"*") && all.iter().any(|text| *text != "*" && !text.is_empty() && !text.contains('/')) {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, list.to_vec(), detail);
    }
}

/// Rules for `matchConstraints` and `matchResources`.
pub(super) fn match_resources(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    errors.required_one_of(&path.child("matchPolicy"), of.text("matchPolicy"), &MATCH_POLICIES);
    for name in ["namespaceSelector", "objectSelector"] {
        let at = path.child(name);
        if of.has(name) {
            label_selector(of.field(name), &at, errors);
        } else {
            errors.required(&at, "");
        }
    }
    for name in ["resourceRules", "excludeResourceRules"] {
        let list = path.child(name);
        for (index, one) in of.list(name).iter().enumerate() {
            let at = list.index(index);
            let resource_names = texts(one.list("resourceNames"));
            for (index, name) in resource_names.iter().enumerate() {
                let at = at.child("resourceNames");
                let at = at.index(index);
                errors.invalid_all(&at, name, names::path_segment(name, false));
                if resource_names[..index].contains(name) {
                    errors.duplicate(&at, *name);
                }
            }
            rule(one, &at, errors);
        }
    }
}
