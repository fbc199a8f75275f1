//! Rules for stateful sets (`ValidateStatefulSet`).

use std::collections::HashSet;

use api::{ErrorList, Object, Path};
use serde_json::{Value, json};

use super::{POSITIVE_INT, at_most_all, int_or_percent, selected_template};
use crate::fields::{Fields, same};
use crate::names;
use crate::report::Report;
use crate::{Part, kinds::claims};

const UPDATABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
const MAY_CHANGE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// Rules for a stateful set by itself.
pub(in crate::kinds) fn stateful_set(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    let policy = spec.text("podManagementPolicy");
    if policy.is_empty() {
        errors.required(&path.child("podManagementPolicy"), "");
    } else if !matches!(policy, "OrderedReady" | "Parallel") {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        errors.invalid(&path.child("podManagementPolicy"), policy, detail);
    }
    strategy(spec, &path, &mut errors);
    retention(spec.field("persistentVolumeClaimRetentionPolicy"), &path, &mut errors);
    // What cannot change is judged once, at the creation.
    if object.resource_version().is_empty() {
        for (index, claim) in spec.list("volumeClaimTemplates").iter().enumerate() {
            let templates = path.child("volumeClaimTemplates");
            claims::spec(claim.field("spec"), &templates.index(index).child("spec"), &mut errors);
        }
        let service = spec.text("serviceName");
        if !service.is_empty() {
            errors.invalid_all(&path.child("serviceName"), service, names::label(service));
        }
    }
    errors.not_negative(spec, "replicas", &path);
    for field in POSITIVE_INT {
        errors.not_negative(spec, field, &path);
    }
    if let Some(start) = spec.field("ordinals").int("start").filter(|start| *start < 0) {
        errors.invalid(&path.child("ordinals.start"), start, crate::metadata::NOT_NEGATIVE);
    }
    selected_template(&with_claims(object), "statefulset", "StatefulSet", &mut errors);
    errors
}

/// The set as its pods will be: with a volume for each claim, and without the
/// names that every pod gets of its own.
fn with_claims(object: &Object) -> Object {
    let templates = object.field("spec").list("volumeClaimTemplates");
    let claimed: Vec<&str> = templates.iter().map(|claim| claim.field("metadata").text("name")).collect();
    let mut seen = HashSet::new();
    let mut volumes: Vec<Value> = claimed
        .iter()
        .filter(|name| seen.insert(**name))
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    let own = object.below(&["spec", "template", "spec"]).list("volumes");
    volumes.extend(own.iter().filter(|volume| !claimed.contains(&volume.text("name"))).cloned());
    let mut set = object.clone();
    if object.below(&["spec", "template", "spec"]).is_object() {
        for name in ["subdomain", "hostname"] {
            set.remove_at(&["spec", "template", "spec", name]);
        }
        if !claimed.is_empty() {
            set.set_at(&["spec", "template", "spec", "volumes"], volumes);
        }
    }
    set
}

fn strategy(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (strategy, at) = (spec.field("updateStrategy"), path.child("updateStrategy"));
    let rolling_path = at.child("rollingUpdate");
    let rolling = strategy.field("rollingUpdate");
    match strategy.text("type") {
        "" => errors.required(&at, ""),
        "OnDelete" => {
            if !rolling.is_null() {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.invalid(&rolling_path, rolling.clone(), detail);
            }
        }
        "RollingUpdate" => {
            errors.not_negative(rolling, "partition", &rolling_path);
            let most = rolling.field("maxUnavailable");
            if !most.is_null() {
                let at = rolling_path.child("maxUnavailable");
                if int_or_percent(most, &at, errors) == 0 {
                    errors.invalid(&at, most.clone(), "cannot be 0");
                }
                at_most_all(most, &at, errors);
            }
        }
        _ => errors.invalid(&at, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

fn retention(policy: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if policy.is_null() {
        return;
    }
    let at = path.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        errors.one_of(&at.child(field), policy.text(field), &["Retain", "Delete"]);
    }
}

/// Rules for a change of a stateful set.
pub(in crate::kinds) fn stateful_set_update(part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if part != Part::Main {
        return errors;
    }
    let mut kept = new.field("spec").clone();
    for field in MAY_CHANGE {
        let before = old.field("spec").field(field).clone();
        if let Some(kept) = kept.as_object_mut() {
            kept.insert(field.to_owned(), before);
        }
    }
    if !same(&kept, old.field("spec")) {
        errors.forbidden(&Path::new("spec"), UPDATABLE);
    }
    errors
}
