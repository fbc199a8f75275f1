//! Rules for limit ranges and resource quotas (`ValidateLimitRange`,
//! `ValidateResourceQuota`).

use std::collections::{BTreeSet, HashSet};

use api::{ErrorList, Object, Path, Quantity};
use serde_json::Value;

use super::pod::resources::{self, quantity};
use crate::fields::Fields;
use crate::report::Report;
use crate::{Part, names};

const STANDARD_QUOTA: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];
const EXCLUSIVE: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
const EXISTS_ONLY: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";

fn resource_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let found = names::qualified(name);
    let bad = !found.is_empty();
    errors.invalid_all(path, name, found);
    if !bad && !name.contains('/') && !resources::is_standard(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

/// Rules for a limit range.
pub(super) fn limit_range(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    let limits = spec.child("limits");
    let mut seen = HashSet::new();
    for (index, limit) in object.field("spec").list("limits").iter().enumerate() {
        let at = limits.index(index);
        let kind = limit.text("type");
        limit_type(kind, &at.child("type"), &mut errors);
        if !seen.insert(kind) {
            errors.duplicate(&at.child("type"), kind);
        }
        one_limit(limit, kind, &at, &mut errors);
    }
    errors
}

fn limit_type(kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let found = names::qualified(kind);
    let bad = !found.is_empty();
    errors.invalid_all(path, kind, found);
    let standard = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
    if !bad && !kind.contains('/') && !standard {
        errors.invalid(path, kind, "must be a standard limit type or fully qualified");
    }
}

fn one_limit(limit: &Value, kind: &str, at: &Path<'_>, errors: &mut ErrorList) {
    let mut keys = BTreeSet::new();
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let of = at.child(field);
        if kind == "Pod" && field.starts_with("default") {
            if limit.entries(field).next().is_some() {
                errors.forbidden(&of, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, _) in limit.entries(field) {
            keys.insert(name.as_str());
            if matches!(kind, "Pod" | "Container") {
                resources::container_resource_name(name, &of.key(name), errors);
            } else {
                resource_name(name, &of.key(name), errors);
            }
        }
    }
    let sized = |field: &str| limit.field(field).has("storage");
    if kind == "PersistentVolumeClaim" && !sized("min") && !sized("max") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&at.child("limits"), detail);
    }
    for name in keys {
        bounds(limit, kind, name, at, errors);
    }
}

/// The bounds of one resource must leave room for each other.
fn bounds(limit: &Value, kind: &str, name: &str, at: &Path<'_>, errors: &mut ErrorList) {
    let read = |field: &str| {
        let value = limit.field(field).field(name);
        (!value.is_null()).then(|| quantity(value))
    };
    let defaults = |field: &str| if kind == "Pod" { None } else { read(field) };
    let (min, max, ratio) = (read("min"), read("max"), read("maxLimitRequestRatio"));
    let (default, request) = (defaults("default"), defaults("defaultRequest"));
    let mut above = |low: Option<Quantity>, high: Option<Quantity>, field: &str, value, text: [&str; 2]| {
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            let shown: Quantity = if value { high } else { low };
            let detail = format!("{} {low} is greater than {} {high}", text[0], text[1]);
            errors.invalid(&at.child(field).key(name), shown.to_string(), detail);
        }
    };
    above(min, max, "min", false, ["min value", "max value"]);
    above(min, request, "defaultRequest", true, ["min value", "default request value"]);
    above(request, max, "defaultRequest", false, ["default request value", "max value"]);
    above(request, default, "defaultRequest", false, ["default request value", "default limit value"]);
    above(min, default, "default", false, ["min value", "default value"]);
    above(default, max, "default", true, ["default value", "max value"]);
    let of_ratio = at.child("maxLimitRequestRatio");
    if let Some(ratio) = ratio {
        if ratio < Quantity::from_units(1) {
            let detail = format!("ratio {ratio} is less than 1");
            errors.invalid(&of_ratio.key(name), ratio.to_string(), detail);
        }
        if let (Some(min), Some(max)) = (min, max) {
            let most = max.to_f64() / min.to_f64();
            if ratio.to_f64() > most {
                let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
                errors.invalid(&of_ratio.key(name), ratio.to_string(), detail);
            }
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && !resources::may_overcommit(name)
        && default != request
    {
        let detail =
            format!("default value {default} must equal to defaultRequest value {request} in {name}");
        errors.invalid(&at.child("defaultRequest").key(name), request.to_string(), detail);
    }
}

/// Rules for a quota.
pub(super) fn resource_quota(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    amounts(spec, "hard", &path, &mut errors);
    scopes(spec, &path, &mut errors);
    scope_selector(spec, &path, &mut errors);
    errors
}

fn amounts(of: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child(field);
    for (name, value) in of.entries(field) {
        let at = at.key(name);
        resource_name(name, &at, errors);
        if !name.contains('/') && !is_standard_quota(name) {
            errors.invalid(&at, name.as_str(), "must be a standard resource for quota");
        }
        resources::value(name, value, &at, errors);
    }
}

fn is_standard_quota(name: &str) -> bool {
    STANDARD_QUOTA.contains(&name) || resources::is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// Whether a scope narrows what a resource's usage is counted over.
fn fits(scope: &str, name: &str) -> bool {
    let compute = matches!(
        name,
        "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
    );
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => name == "pods" || compute,
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn misplaced<'a>(spec: &'a Value, scope: &'a str) -> impl Iterator<Item = &'a String> {
    let names = spec.entries("hard").map(|(name, _)| name);
    names.filter(move |name| is_standard_quota(name) && !fits(scope, name))
}

fn conflicts(scopes: &[&str]) -> usize {
    EXCLUSIVE.iter().filter(|pair| pair.iter().all(|one| scopes.contains(one))).count()
}

fn scopes(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (list, at) = (spec.field("scopes"), path.child("scopes"));
    let scopes: Vec<&str> = spec.list("scopes").iter().filter_map(Value::as_str).collect();
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            errors.invalid(&at, list.clone(), "unsupported scope");
        }
        for _ in misplaced(spec, scope) {
            errors.invalid(&at, list.clone(), "unsupported scope applied to resource");
        }
    }
    for _ in 0..conflicts(&scopes) {
        errors.invalid(&at, list.clone(), "conflicting scopes");
    }
}

fn scope_selector(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let selector = spec.field("scopeSelector");
    let parent = path.child("scopeSelector");
    let at = parent.child("matchExpressions");
    let requirements = selector.list("matchExpressions");
    for requirement in requirements {
        let (scope, operator) = (requirement.text("scopeName"), requirement.text("operator"));
        if !SCOPES.contains(&scope) {
            errors.invalid(&at.child("scopeName"), scope, "unsupported scope");
        }
        for _ in misplaced(spec, scope) {
            errors.invalid(&at, selector.clone(), "unsupported scope applied to resource");
        }
        let by_value = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&scope) && !by_value && operator != "Exists" {
            errors.invalid(&at.child("operator"), operator, EXISTS_ONLY);
        }
        let values = at.child("values");
        let none = requirement.list("values").is_empty();
        match operator {
            "In" | "NotIn" if none => {
                let detail =
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&values, detail);
            }
            "Exists" | "DoesNotExist" if !none => {
                let detail =
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&values, requirement.field("values").clone(), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.invalid(&at.child("operator"), operator, "not a valid selector operator"),
        }
    }
    let names: Vec<&str> = requirements.iter().map(|one| one.text("scopeName")).collect();
    for _ in 0..conflicts(&names) {
        errors.invalid(&at, spec.field("scopes").clone(), "conflicting scopes");
    }
}

/// Rules for a change of a quota, or of its status.
pub(super) fn resource_quota_update(part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if part == Part::Status {
        let (status, path) = (new.field("status"), Path::new("status"));
        amounts(status, "hard", &path, &mut errors);
        amounts(status, "used", &path, &mut errors);
        return errors;
    }
    let set = |object: &Object| -> BTreeSet<String> {
        let scopes = object.field("spec").list("scopes").iter();
        scopes.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if set(new) != set(old) {
        let spec = Path::new("spec");
        let value = new.field("spec").field("scopes").clone();
        errors.invalid(&spec.child("scopes"), value, "field is immutable");
    }
    errors
}
