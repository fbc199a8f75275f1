//! Nodes.

use std::collections::{BTreeSet, HashSet};

use api::{ErrorList, FieldError, Object, Path};
use jiff::Timestamp;
use serde_json::Value;

use super::cells::{or, or_none};
use super::pod::{scheduling, value};
use crate::fields::Fields;
use crate::report::Report;
use crate::{Part, Strategy, metadata, names};

/// The behaviour of nodes.
pub(super) struct Node;

impl Strategy for Node {
    fn default(&self, object: &mut Object) {
        let capacity = object.at(&["status", "capacity"]).cloned();
        if let (Some(capacity), None) = (capacity, object.at(&["status", "allocatable"])) {
            object.set_at(&["status", "allocatable"], capacity);
        }
        // `podCIDR` and the first of `podCIDRs` say the same.
        let one = object.field("spec").text("podCIDR").to_owned();
        if !one.is_empty() && object.field("spec").list("podCIDRs").is_empty() {
            object.set_at(&["spec", "podCIDRs"], vec![Value::from(one)]);
        } else if one.is_empty()
            && let Some(first) = object.field("spec").list("podCIDRs").first().cloned()
        {
            object.set_at(&["spec", "podCIDR"], first);
        }
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        metadata::keep_other_parts(part, new, old);
    }

    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = resources(object);
        let (spec, meta, path) = (object.field("spec"), Path::new("metadata"), Path::new("spec"));
        // Upstream names this path, too.
        scheduling::taints(spec.list("taints"), &meta.child("taints"), &mut errors);
        let (cidrs, path) = (spec.list("podCIDRs"), path.child("podCIDRs"));
        for (index, cidr) in cidrs.iter().enumerate() {
            let cidr = cidr.as_str().unwrap_or_default();
            errors.invalid_all(&path.index(index), cidr, names::cidr(cidr));
        }
        let six = cidrs.iter().filter(|one| one.as_str().is_some_and(|one| one.contains(':'))).count();
        if cidrs.len() > 2 || (cidrs.len() == 2 && six != 1) {
            let detail = "may specify no more than one CIDR for each IP family";
            errors.invalid(&path, cidrs.to_vec(), detail);
        }
        errors
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = if part == Part::Main { ErrorList::new() } else { resources(new) };
        let (spec, path) = (Path::new("spec"), Path::new("status"));
        let mut seen = HashSet::new();
        for (index, address) in new.field("status").list("addresses").iter().enumerate() {
            if !seen.insert((address.text("type"), address.text("address"))) {
                let list = path.child("addresses");
                let shown = format!(
                    r#"{{"Type":{:?},"Address":{:?}}}"#,
                    address.text("type"),
                    address.text("address")
                );
                errors.add_shown(FieldError::duplicate(&list.index(index), Value::Null), &shown);
            }
        }
        let cidrs = |of: &Object| of.field("spec").list("podCIDRs").to_vec();
        if !cidrs(old).is_empty() && cidrs(old) != cidrs(new) {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            errors.forbidden(&spec.child("podCIDRs"), detail);
        }
        let provider = |of: &Object| of.field("spec").text("providerID").to_owned();
        if !provider(old).is_empty() && provider(old) != provider(new) {
            let detail = "node updates may not change providerID except from \"\" to valid";
            errors.forbidden(&spec.child("providerID"), detail);
        }
        errors
    }

    fn selectable_names(&self) -> Vec<&str> {
        vec!["spec.unschedulable"]
    }

    fn selectable(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", object.field("spec").flag("unschedulable").to_string())]
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let (status, info) = (object.field("status"), object.below(&["status", "nodeInfo"]));
        let address = |kind: &str| {
            let found = status.list("addresses").iter().find(|one| one.text("type") == kind);
            found.map_or("<none>", |one| one.text("address")).to_owned()
        };
        let mut kernel = or(info.text("kernelVersion"), "<unknown>").to_owned();
        if !info.text("architecture").is_empty() {
            kernel.push_str(&format!(" ({})", info.text("architecture")));
        }
        vec![
            object.name().into(),
            condition(object).into(),
            or_none(&roles(object)).into(),
            metadata::age(object, now).into(),
            info.text("kubeletVersion").into(),
            address("InternalIP").into(),
            address("ExternalIP").into(),
            or(info.text("osImage"), "<unknown>").into(),
            kernel.into(),
            or(info.text("containerRuntimeVersion"), "<unknown>").into(),
        ]
    }
}

fn resources(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("status");
    for list in ["capacity", "allocatable"] {
        for (name, quantity) in object.field("status").entries(list) {
            value(name, quantity, &path.child(list).child(name), &mut errors);
        }
    }
    errors
}

fn condition(object: &Object) -> String {
    let ready = object.field("status").list("conditions").iter().find(|one| one.text("type") == "Ready");
    let mut text = match ready {
        Some(one) if one.text("status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object.field("spec").flag("unschedulable") {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(object: &Object) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in object.labels().into_iter().flatten() {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some("") => {}
            Some(role) => {
                roles.insert(role);
            }
            None if key == "kubernetes.io/role" => {
                roles.extend(value.as_str().filter(|one| !one.is_empty()));
            }
            None => {}
        }
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}
