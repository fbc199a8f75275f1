//! Rules for whole pods: creating, changing, and the subresources.

use api::{ErrorList, FieldError, Object, Path};
use serde_json::Value;

use super::{MIRROR, containers, qos_class, spec};
use crate::fields::{Fields, same};
use crate::names;
use crate::report::Report;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Rules for a pod by itself. One without a resource version is being created.
pub(super) fn by_itself(pod: &Object) -> ErrorList {
    let mut errors = whole(pod);
    if !pod.resource_version().is_empty() {
        return errors;
    }
    let (spec, path) = (pod.field("spec"), Path::new("spec"));
    if !spec.list("ephemeralContainers").is_empty() {
        errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.text("nodeName").is_empty() && !spec.list("schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&path.child("nodeName"), detail);
    }
    errors
}

fn whole(pod: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (pod.field("spec"), Path::new("spec"));
    mirror(pod, &mut errors);
    spec::validate(spec, Some(pod.name()), &path, &mut errors);
    if spec.text("serviceAccountName").is_empty() {
        for (index, volume) in spec.list("volumes").iter().enumerate() {
            for (at, source) in volume.field("projected").list("sources").iter().enumerate() {
                if source.has("serviceAccountToken") {
                    let volumes = path.child("volumes");
                    let volume = volumes.index(index);
                    let projected = volume.child("projected");
                    let sources = projected.child("sources");
                    errors.forbidden(
                        &sources.index(at).child("serviceAccountToken"),
                        "must not be specified when serviceAccountName is not set",
                    );
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for (index, container) in spec.list(list).iter().enumerate() {
            containers::only_for_pod(container, &path.child(list).index(index), &mut errors);
        }
    }
    errors
}

/// Annotations that mean something to the system.
fn mirror(pod: &Object, errors: &mut ErrorList) {
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let root = Path::new("metadata");
    let path = root.child("annotations");
    if let Some(value) = pod.annotation(MIRROR).filter(|_| pod.field("spec").text("nodeName").is_empty()) {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&path.key(MIRROR), value, detail);
    }
    if let Some(cost) = pod.annotation(COST).filter(|cost| cost.parse::<i32>().is_err()) {
        errors.invalid(&path.key(COST), cost, "must be a 32bit integer");
    }
}

fn mirror_unchanged(new: &Object, old: &Object, errors: &mut ErrorList) {
    let root = Path::new("metadata");
    let path = root.child("annotations");
    match (new.annotation(MIRROR), old.annotation(MIRROR)) {
        (new, old) if new == old => {}
        (_, Some(_)) => errors.forbidden(&path.key(MIRROR), "may not remove or update mirror pod annotation"),
        (_, None) => errors.forbidden(&path.key(MIRROR), "may not add mirror pod annotation"),
    }
}

/// Rules for a change of the main resource.
pub(super) fn main(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    mirror_unchanged(new, old, &mut errors);
    let (after, before, path) = (new.field("spec"), old.field("spec"), Path::new("spec"));
    for list in ["containers", "initContainers"] {
        let path = path.child(list);
        if after.list(list).len() != before.list(list).len() {
            errors.forbidden(&path, "pod updates may not add or remove containers");
            return errors;
        }
    }
    if !deadline(after, before, &path, &mut errors) {
        return errors;
    }
    tolerations(after, before, &path.child("tolerations"), &mut errors);
    gates(after, before, &path.child("schedulingGates"), &mut errors);
    let mut rest = after.clone();
    let gated = !before.list("schedulingGates").is_empty();
    if gated {
        gated_placement(&mut rest, before, &path, &mut errors);
    }
    let negative = before.int("terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0);
    let mut allowed = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    if negative && after.int("terminationGracePeriodSeconds") == Some(1) {
        allowed.push("terminationGracePeriodSeconds");
    }
    copy(&mut rest, before, &allowed);
    for list in ["containers", "initContainers"] {
        let old = before.list(list);
        let new = rest.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, old) in new.zip(old) {
            copy(container, old, &["image"]);
        }
    }
    if !same(&rest, before) {
        let detail = format!(
            "pod updates may not change fields other than {UPDATABLE}\n{}",
            difference(before, &rest)
        );
        errors.forbidden(&path, detail);
    }
    errors
}

/// Makes fields what they are in another object.
fn copy(to: &mut Value, from: &Value, fields: &[&str]) {
    let Some(to) = to.as_object_mut() else { return };
    for field in fields {
        match from.get(*field) {
            Some(value) => to.insert((*field).to_owned(), value.clone()),
            None => to.remove(*field),
        };
    }
}

/// The changed top-level fields, one a line, old and new.
fn difference(old: &Value, new: &Value) -> String {
    let mut lines = Vec::new();
    let mut names: Vec<&String> =
        [old, new].iter().filter_map(|one| one.as_object()).flat_map(|one| one.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        if !same(old.field(name), new.field(name)) {
            lines.push(format!("-{name}: {}\n+{name}: {}", old.field(name), new.field(name)));
        }
    }
    lines.join("\n")
}

fn deadline(after: &Value, before: &Value, path: &Path<'_>, errors: &mut ErrorList) -> bool {
    let path = path.child("activeDeadlineSeconds");
    match (after.int("activeDeadlineSeconds"), before.int("activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.invalid(&path, new, names::between(0, i64::from(i32::MAX)));
            false
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(&path, new, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn tolerations(after: &Value, before: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let kept = |old: &Value| {
        after.list("tolerations").iter().any(|new| {
            let mut old = old.clone();
            copy(&mut old, new, &["tolerationSeconds"]);
            same(&old, new)
        })
    };
    if !before.list("tolerations").iter().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.forbidden(path, detail);
    }
}

fn gates(after: &Value, before: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let old: Vec<&str> = before.list("schedulingGates").iter().map(|gate| gate.text("name")).collect();
    for (index, gate) in after.list("schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        if !old.contains(&name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(index).child("name"), detail);
        }
    }
}

/// A gated pod's placement may be narrowed, never widened.
fn gated_placement(rest: &mut Value, before: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let kept =
        before.entries("nodeSelector").all(|(key, value)| rest.field("nodeSelector").get(key) == Some(value));
    if !kept {
        errors.invalid(
            &path.child("nodeSelector"),
            rest.field("nodeSelector").clone(),
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
    }
    copy(rest, before, &["nodeSelector"]);
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms =
        |spec: &Value| spec.below(&["affinity", "nodeAffinity", REQUIRED]).list("nodeSelectorTerms").to_vec();
    let (new, old) = (terms(rest), terms(before));
    let affinity = path.child("affinity");
    let node = affinity.child("nodeAffinity");
    let required = node.child(REQUIRED);
    let list = required.child("nodeSelectorTerms");
    if !old.is_empty() && old.len() != new.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&list, new.clone(), detail);
    } else {
        for (index, (new, old)) in new.iter().zip(&old).enumerate() {
            let grown = |name: &str| new.list(name).starts_with(old.list(name));
            let was_empty = old.list("matchExpressions").is_empty() && old.list("matchFields").is_empty();
            if !grown("matchExpressions") || !grown("matchFields") || (was_empty && !same(new, old)) {
                let detail = "only additions are allowed (no mutations or deletions)";
                errors.invalid(&list.index(index), new.clone(), detail);
            }
        }
    }
    let mut munged = rest.field("affinity").clone();
    copy(&mut munged, before.field("affinity"), &["nodeAffinity"]);
    copy(rest, &serde_json::json!({"affinity": munged}), &["affinity"]);
}

/// Rules for a write of the status.
pub(super) fn status(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    mirror_unchanged(new, old, &mut errors);
    let (after, before, path) = (new.field("status"), old.field("status"), Path::new("status"));
    for (index, condition) in after.list("conditions").iter().enumerate() {
        let list = path.child("conditions");
        let at = list.index(index);
        if let Some(seen) = condition.int("observedGeneration").filter(|seen| *seen < 0) {
            errors.invalid(&at.child("observedGeneration"), seen, "must be a non-negative integer");
        }
        let kind = condition.text("type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            errors.invalid_all(&at.child("Type"), kind, names::qualified(kind));
        }
    }
    let (nominated, was) = (after.text("nominatedNodeName"), before.text("nominatedNodeName"));
    if nominated != was && !nominated.is_empty() {
        let at = path.child("nominatedNodeName");
        errors.invalid_all(&at, nominated, names::subdomain(nominated));
        if !old.field("spec").text("nodeName").is_empty() {
            errors.forbidden(&at, "may not be set on pods that are already bound to a node");
        }
    }
    if let Some(seen) = after.int("observedGeneration").filter(|seen| *seen < 0) {
        errors.invalid(&path.child("observedGeneration"), seen, "must be a non-negative integer");
    }
    let (class, was) = (after.text("qosClass"), before.text("qosClass"));
    if class != was && !was.is_empty() {
        errors.invalid(&path.child("qosClass"), class, crate::metadata::IMMUTABLE);
    }
    for list in ["containerStatuses", "initContainerStatuses"] {
        transitions(new, old, list, &path.child(list), &mut errors);
    }
    addresses(after, "podIPs", &path, &mut errors);
    addresses(after, "hostIPs", &path, &mut errors);
    let hosts = after.list("hostIPs");
    if let Some(first) = hosts.first().filter(|first| first.text("ip") != after.text("hostIP")) {
        let list = path.child("hostIPs");
        errors.invalid(&list.index(0).child("ip"), first.text("ip"), "must be equal to `hostIP`");
    }
    errors
}

fn addresses(status: &Value, list: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let (all, path) = (status.list(list), path.child(list));
    for (index, one) in all.iter().enumerate() {
        errors.invalid_all(&path.index(index), one.text("ip"), names::ip(one.text("ip")));
    }
    let six = all.iter().filter(|one| one.text("ip").contains(':')).count();
    if all.len() > 2 || (all.len() == 2 && six != 1) {
        let detail = "may specify no more than one IP for each IP family";
        errors.invalid(&path, all.to_vec(), detail);
    }
}

/// A container that ended for good stays ended.
fn transitions(new: &Object, old: &Object, list: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let spec = old.field("spec");
    let declared = if list == "containerStatuses" { "containers" } else { "initContainers" };
    for (index, was) in old.field("status").list(list).iter().enumerate() {
        let ended = was.below(&["state", "terminated"]);
        if ended.is_null() {
            continue;
        }
        let name = was.text("name");
        let container = spec.list(declared).iter().find(|one| one.text("name") == name);
        let own = container.map_or("", |one| one.text("restartPolicy"));
        let by_rule = container.is_some_and(|one| restarts_by_rule(one, ended));
        let policy = if own.is_empty() { spec.text("restartPolicy") } else { own };
        let failed = ended.int("exitCode").unwrap_or_default() != 0;
        if by_rule || policy == "Always" || (policy == "OnFailure" && failed) {
            continue;
        }
        let now = new.field("status").list(list).iter().find(|one| one.text("name") == name);
        if now.is_some_and(|now| now.below(&["state", "terminated"]).is_null()) {
            let detail = "may not be transitioned to non-terminated state";
            errors.forbidden(&path.index(index).child("state"), detail);
        }
    }
}

fn restarts_by_rule(container: &Value, ended: &Value) -> bool {
    let code = ended.int("exitCode").unwrap_or_default();
    let rule = container.list("restartPolicyRules").iter().find(|rule| {
        let codes = rule.field("exitCodes");
        let listed = codes.list("values").iter().any(|one| one.as_i64() == Some(code));
        listed == (codes.text("operator") == "In")
    });
    rule.is_some()
}

/// Rules for `pods/ephemeralcontainers`: they are added, never changed.
pub(super) fn ephemeral_containers(new: &Object, old: &Object) -> ErrorList {
    if old.annotation(MIRROR).is_some() {
        let path = Path::new("");
        return vec![FieldError::forbidden(&path, "static pods do not support ephemeral containers")];
    }
    let mut errors = whole(new);
    let spec_path = Path::new("spec");
    let path = spec_path.child("ephemeralContainers");
    let now = new.field("spec").list("ephemeralContainers");
    for was in old.field("spec").list("ephemeralContainers") {
        let name = was.text("name");
        match now.iter().find(|one| one.text("name") == name) {
            None => errors
                .forbidden(&path, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(one) if !same(one, was) => {
                let detail = format!(
                    "existing ephemeral containers {name:?} may not be changed\n{}",
                    difference(was, one)
                );
                errors.forbidden(&path, detail);
            }
            Some(_) => {}
        }
    }
    errors
}

/// Rules for `pods/resize`: only CPU and memory change.
pub(super) fn resize(new: &Object, old: &Object) -> ErrorList {
    let root = Path::new("");
    if old.annotation(MIRROR).is_some() {
        return vec![FieldError::forbidden(&root, "static pods cannot be resized")];
    }
    if old.below(&["spec", "os"]).text("name") == "windows" {
        return vec![FieldError::forbidden(&root, "windows pods cannot be resized")];
    }
    let mut errors = whole(new);
    let (after, before, path) = (new.field("spec"), old.field("spec"), Path::new("spec"));
    if qos_class(old) != qos_class(new) {
        let class = new.field("status").text("qosClass");
        errors.invalid(&path, class, "Pod QOS Class may not change as a result of resizing");
    }
    let running = old.field("status").list("containerStatuses");
    if running.iter().find(|one| one.field("state").has("running")).is_some_and(|one| !one.has("resources")) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    if !same_containers(after, before, &path, &mut errors) {
        return errors;
    }
    let mut rest = after.clone();
    for list in ["initContainers", "containers"] {
        let at = path.child(list);
        let old = before.list(list);
        let new = rest.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (index, (container, old)) in new.zip(old).enumerate() {
            let changed = !same(container, old);
            for kind in ["requests", "limits"] {
                let (now, was) = (&container["resources"][kind], old.field("resources").field(kind));
                if was.as_object().into_iter().flatten().any(|(name, _)| now.get(name).is_none()) {
                    let index = at.index(index);
                    let resources = index.child("resources");
                    errors.forbidden(&resources.child(kind), format!("resource {kind} cannot be removed"));
                }
                keep_compute(container, old, kind);
            }
            if same(container, old) {
                continue;
            }
            if list == "containers" {
                errors.forbidden(&path, "only cpu and memory resources are mutable");
            } else if changed {
                errors.forbidden(&path, "resources for non-sidecar init containers are immutable");
            }
        }
    }
    if errors.is_empty() && !same(&rest, before) {
        errors.forbidden(&path, "only cpu and memory resources are mutable");
    }
    errors
}

/// Makes a container's CPU and memory what they were.
fn keep_compute(container: &mut Value, old: &Value, kind: &str) {
    let was = old.field("resources").field(kind).clone();
    let Some(map) = container.as_object_mut() else { return };
    let Some(resources) = crate::fields::object_at(map, "resources") else { return };
    let Some(list) = crate::fields::object_at(resources, kind) else { return };
    for name in ["cpu", "memory"] {
        match was.get(name) {
            Some(value) => list.insert(name.to_owned(), value.clone()),
            None => list.remove(name),
        };
    }
}

fn same_containers(after: &Value, before: &Value, path: &Path<'_>, errors: &mut ErrorList) -> bool {
    let count = errors.len();
    for list in ["containers", "initContainers"] {
        let (new, old, at) = (after.list(list), before.list(list), path.child(list));
        if new.len() != old.len() {
            errors.forbidden(&at, format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if new.text("name") != old.text("name") {
                let detail = format!("{list} may not be renamed or reordered on resize");
                errors.forbidden(&at.index(index).child("name"), detail);
            }
        }
    }
    errors.len() == count
}
