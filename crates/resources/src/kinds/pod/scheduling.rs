//! Rules for what steers scheduling: affinity, tolerations, taints, spreading,
//! gates; and for label selectors.

use std::collections::HashSet;

use api::{ErrorList, Path};
use serde_json::Value;

use crate::fields::Fields;
use crate::names;
use crate::report::Report;

const POSITIVE: &str = "must be greater than zero";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Rules for a label selector (`ValidateLabelSelector`).
pub(crate) fn label_selector(selector: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    crate::metadata::labels(selector.field("matchLabels"), &path.child("matchLabels"), errors);
    for (index, one) in selector.list("matchExpressions").iter().enumerate() {
        let list = path.child("matchExpressions");
        let at = list.index(index);
        operator(one, &at, &[], errors);
        let key = one.text("key");
        errors.invalid_all(&at.child("key"), key, names::qualified(key));
        label_values(one, &at, errors);
    }
}

fn label_values(requirement: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, value) in requirement.list("values").iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        errors.invalid_all(&path.child("values").index(index), value, names::label_value(value));
    }
}

/// An operator and the number of values it wants; `single` ones want one.
fn operator(requirement: &Value, path: &Path<'_>, single: &[&str], errors: &mut ErrorList) {
    let values = requirement.list("values").len();
    match requirement.text("operator") {
        "In" | "NotIn" if values == 0 => {
            errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if values > 0 => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&path.child("values"), detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        one if single.contains(&one) => {
            if values != 1 {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.required(&path.child("values"), detail);
            }
        }
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
}

/// Rules for `affinity`.
pub(super) fn affinity(affinity: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let node = affinity.field("nodeAffinity");
    let at = path.child("nodeAffinity");
    if node.has(REQUIRED) {
        node_selector(node.field(REQUIRED), &at.child(REQUIRED), errors);
    }
    for (index, term) in node.list(PREFERRED).iter().enumerate() {
        let list = at.child(PREFERRED);
        let at = list.index(index);
        weight(term, &at, errors);
        node_term(term.field("preference"), false, &at.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (rules, at) = (affinity.field(kind), path.child(kind));
        for (index, term) in rules.list(REQUIRED).iter().enumerate() {
            pod_term(term, &at.child(REQUIRED).index(index), errors);
        }
        for (index, term) in rules.list(PREFERRED).iter().enumerate() {
            let list = at.child(PREFERRED);
            let at = list.index(index);
            weight(term, &at, errors);
            pod_term(term.field("podAffinityTerm"), &at.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let weight = term.int("weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// Rules for terms of which a node must meet one (`ValidateNodeSelector`).
pub(crate) fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let terms = selector.list("nodeSelectorTerms");
    let path = path.child("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(term, true, &path.index(index), errors);
    }
}

fn node_term(term: &Value, check_values: bool, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, one) in term.list("matchExpressions").iter().enumerate() {
        let list = path.child("matchExpressions");
        let at = list.index(index);
        operator(one, &at, &["Gt", "Lt"], errors);
        let key = one.text("key");
        errors.invalid_all(&at.child("key"), key, names::qualified(key));
        if check_values {
            label_values(one, &at, errors);
        }
    }
    for (index, one) in term.list("matchFields").iter().enumerate() {
        let list = path.child("matchFields");
        let at = list.index(index);
        match one.text("operator") {
            "In" | "NotIn" if one.list("values").len() == 1 => {}
            "In" | "NotIn" => {
                let detail =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&at.child("values"), detail);
            }
            other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
        if one.text("key") != "metadata.name" {
            errors.invalid(&at.child("key"), one.text("key"), "not a valid field selector key");
            continue;
        }
        for (index, value) in one.list("values").iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            errors.invalid_all(&at.child("values").index(index), value, names::subdomain(value));
        }
    }
}

fn pod_term(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    label_selector(term.field("labelSelector"), &path.child("labelSelector"), errors);
    label_selector(term.field("namespaceSelector"), &path.child("namespaceSelector"), errors);
    for name in term.list("namespaces") {
        let name = name.as_str().unwrap_or_default();
        errors.invalid_all(&path.child("namespace"), name, names::label(name));
    }
    label_keys(term, path, errors);
    let key = term.text("topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    errors.invalid_all(&path.child("topologyKey"), key, names::qualified(key));
}

fn label_keys(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        let (keys, at) = (term.list(list), path.child(list));
        if !keys.is_empty() && !term.has("labelSelector") {
            errors.forbidden(&at, "must not be specified when labelSelector is not set");
            continue;
        }
        for (index, key) in keys.iter().enumerate() {
            let key = key.as_str().unwrap_or_default();
            errors.invalid_all(&at.index(index), key, names::qualified(key));
        }
    }
    let mismatched = term.list("mismatchLabelKeys");
    for (index, key) in term.list("matchLabelKeys").iter().enumerate() {
        if mismatched.contains(key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&path.child("matchLabelKeys").index(index), key.clone(), detail);
        }
    }
}

/// Rules for `topologySpreadConstraints`.
pub(super) fn spread(constraints: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, one) in constraints.iter().enumerate() {
        let at = path.index(index);
        let skew = one.int("maxSkew").unwrap_or_default();
        if skew <= 0 {
            errors.invalid(&at.child("maxSkew"), skew, POSITIVE);
        }
        let (key, action) = (one.text("topologyKey"), one.text("whenUnsatisfiable"));
        if key.is_empty() {
            errors.required(&at.child("topologyKey"), "can not be empty");
        }
        errors.one_of(&at.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        let same =
            |other: &Value| other.text("topologyKey") == key && other.text("whenUnsatisfiable") == action;
        if constraints[index + 1..].iter().any(same) {
            errors.duplicate(&at.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = one.int("minDomains") {
            if domains <= 0 {
                errors.invalid(&at.child("minDomains"), domains, POSITIVE);
            }
            if action != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&at.child("minDomains"), domains, detail);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if one.has(policy) {
                errors.one_of(&at.child(policy), one.text(policy), &["Honor", "Ignore"]);
            }
        }
        label_keys(one, &at, errors);
        label_selector(one.field("labelSelector"), &at.child("labelSelector"), errors);
    }
}

/// Rules for `schedulingGates`.
pub(super) fn gates(gates: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, gate) in gates.iter().enumerate() {
        let (name, at) = (gate.text("name"), path.index(index));
        errors.invalid_all(&at, name, names::qualified(name));
        if !seen.insert(name) {
            errors.duplicate(&at, name);
        }
    }
}

/// Rules for `tolerations`.
pub(crate) fn tolerations(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, one) in list.iter().enumerate() {
        let at = path.index(index);
        let (key, operator, effect, value) =
            (one.text("key"), one.text("operator"), one.text("effect"), one.text("value"));
        if !key.is_empty() {
            errors.invalid_all(&at.child("key"), key, names::qualified(key));
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&at.child("operator"), operator, detail);
        }
        if one.has("tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&at.child("effect"), effect, detail);
        }
        match operator {
            "" | "Equal" => {
                let found = names::label_value(value);
                if !found.is_empty() {
                    errors.invalid(&at.child("operator"), value, found.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.invalid(&at.child("operator"), value, detail);
            }
            "Exists" => {}
            "Lt" | "Gt" => errors.one_of(&at.child("operator"), operator, &["Equal", "Exists"]),
            other => errors.one_of(&at.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            errors.one_of(&at.child("effect"), effect, &EFFECTS);
        }
    }
}

/// Rules for the taints of a node.
pub(crate) fn taints(taints: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let at = path.index(index);
        let (key, value, effect) = (taint.text("key"), taint.text("value"), taint.text("effect"));
        errors.invalid_all(&at.child("key"), key, names::qualified(key));
        let found = names::label_value(value);
        if !found.is_empty() {
            errors.invalid(&at.child("value"), value, found.join(";"));
        }
        errors.required_one_of(&at.child("effect"), effect, &EFFECTS);
        if !seen.insert((key, effect)) {
            let mut error = api::FieldError::duplicate(&at, Value::Null);
            error.detail = "taints must be unique by key and effect pair".to_owned();
            let added = taint.field("timeAdded");
            errors.add_shown(
                error,
                &format!(r#"{{"Key":{key:?},"Value":{value:?},"Effect":{effect:?},"TimeAdded":{added}}}"#),
            );
        }
    }
}
