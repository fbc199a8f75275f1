//! Rules for resource requests and limits.

use std::collections::HashSet;

use api::{ErrorList, Path, Quantity};
use serde_json::{Map, Value};

use super::spec::Context;
use crate::fields::Fields;
use crate::names;
use crate::report::Report;

/// A quantity; zero where there is none.
pub(crate) fn quantity(value: &Value) -> Quantity {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(Quantity::ZERO)
}

pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether it is a resource that only some nodes offer.
#[must_use]
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified(&format!("requests.{name}")).is_empty()
}

/// Whether less may be requested than the limit allows.
pub(crate) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

pub(crate) fn is_standard(name: &str) -> bool {
    const STANDARD: [&str; 21] = [
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "storage",
        "requests.storage",
        "services.nodeports",
        "services.loadbalancers",
        "count",
    ];
    STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

pub(crate) fn container_resource_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let found = names::qualified(name);
    let bad = !found.is_empty();
    errors.invalid_all(path, name, found);
    if !name.contains('/') {
        if !bad && !is_standard(name) {
            errors.invalid(path, name, "must be a standard resource type or fully qualified");
        }
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

/// Rules for one value (`ValidateResourceQuantityValue`).
pub(crate) fn value(name: &str, value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let parsed = quantity(value);
    if parsed.is_negative() {
        errors.invalid(path, value.clone(), crate::metadata::NOT_NEGATIVE);
    }
    let counted = matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    );
    if (counted || is_extended(name)) && !parsed.is_whole() {
        errors.invalid(path, value.clone(), "must be an integer");
    }
}

/// Rules for a container's `resources`.
pub(crate) fn validate_container(resources: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    validate_with(resources, container_resource_name, path, errors);
}

/// Rules for the `resources` of a whole pod.
pub(super) fn validate_pod(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let resources = spec.field("resources");
    if resources.is_null() {
        return;
    }
    let path = path.child("resources");
    if spec.field("os").text("name") == "windows" {
        errors.forbidden(&path, "may not be set for a windows pod");
        return;
    }
    if resources.has("claims") {
        errors.forbidden(&path.child("claims"), "claims may not be set for Resources at pod-level");
    }
    validate_with(
        resources,
        |name, path, errors| {
            if !matches!(name, "cpu" | "memory") && !is_huge_page(name) {
                errors.one_of(path, name, &["cpu", "hugepages-", "memory"]);
            }
        },
        &path,
        errors,
    );
    for (name, pod_request) in resources.entries("requests") {
        let Some(sum) = spec.as_object().and_then(|spec| sum_of_requests(spec, name)) else { continue };
        if sum > quantity(pod_request) {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&path.child("requests").key(name), pod_request.clone(), detail);
        }
    }
    for (index, container) in spec.list("containers").iter().enumerate() {
        for (name, limit) in container.field("resources").entries("limits") {
            let most = resources.field("limits").field(name);
            if !most.is_null() && quantity(limit) > quantity(most) {
                let detail = format!("must be less than or equal to pod limits of {}", quantity(most));
                let containers = path.child("containers");
                errors.invalid(&containers.index(index).key(name).child("limits"), limit.clone(), detail);
            }
        }
    }
}

fn validate_with(
    resources: &Value,
    name_rules: fn(&str, &Path<'_>, &mut ErrorList),
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let (mut computes, mut huge) = (false, false);
    let mut note = |name: &str| {
        computes |= matches!(name, "cpu" | "memory");
        huge |= is_huge_page(name);
    };
    for (name, limit) in resources.entries("limits") {
        let at = limits_path.key(name);
        name_rules(name, &at, errors);
        value(name, limit, &at, errors);
        huge_page(name, limit, &at, errors);
        note(name);
    }
    for (name, request) in resources.entries("requests") {
        let at = requests_path.key(name);
        name_rules(name, &at, errors);
        value(name, request, &at, errors);
        let limit = resources.field("limits").field(name);
        let (wanted, most) = (quantity(request), quantity(limit));
        if limit.is_null() {
            if !may_overcommit(name) {
                errors.required(&limits_path, "Limit must be set for non overcommitable resources");
            }
        } else if wanted != most && !may_overcommit(name) {
            let detail = format!("must be equal to {name} limit of {most}");
            errors.invalid(&requests_path, request.clone(), detail);
        } else if wanted > most {
            let detail = format!("must be less than or equal to {name} limit of {most}");
            errors.invalid(&requests_path, request.clone(), detail);
        }
        huge_page(name, request, &at, errors);
        note(name);
    }
    if huge && !computes {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

fn huge_page(name: &str, value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(size) = name.strip_prefix("hugepages-").and_then(|size| size.parse::<Quantity>().ok()) else {
        return;
    };
    let (size, wanted) = (size.units(), quantity(value).units());
    if size <= 0 || wanted % size != 0 {
        let text = value.as_str().unwrap_or_default();
        errors.invalid(path, text, format!("{text} is not positive integer multiple of {name}"));
    }
}

/// Rules for references to resource claims.
pub(super) fn claims(context: &Context<'_>, resources: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let known: HashSet<&str> =
        context.spec.list("resourceClaims").iter().map(|claim| claim.text("name")).collect();
    let mut seen = HashSet::new();
    for (index, claim) in resources.list("claims").iter().enumerate() {
        let (name, at) = (claim.text("name"), path.index(index));
        if name.is_empty() {
            errors.required(&at, "");
        } else if !seen.insert((name, claim.text("request"))) {
            errors.duplicate(&at, name);
        } else if !known.contains(name) {
            errors.not_found(&at, name);
        }
    }
}

/// Rules for what a container does when its resources change.
pub(super) fn resize_policy(context: &Context<'_>, list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, policy) in list.iter().enumerate() {
        let (resource, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if !seen.insert(resource) {
            errors.duplicate(&path.index(index), resource);
        }
        errors.required_one_of(path, resource, &["cpu", "memory"]);
        errors.required_one_of(path, restart, &["NotRequired", "RestartContainer"]);
        if context.spec.text("restartPolicy") == "Never" && restart != "NotRequired" {
            errors.invalid(path, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

/// What the containers of a pod request together: the larger of what runs at
/// once and of what each init container needs while it runs.
pub(super) fn sum_of_requests(spec: &Map<String, Value>, name: &str) -> Option<Quantity> {
    let request = |container: &Value| {
        let value = container.below(&["resources", "requests"]).field(name);
        (!value.is_null()).then(|| quantity(value))
    };
    let mut any = false;
    let mut sum = Quantity::ZERO;
    for found in spec.list("containers").iter().filter_map(request) {
        any = true;
        sum += found;
    }
    let (mut sidecars, mut most) = (Quantity::ZERO, Quantity::ZERO);
    for container in spec.list("initContainers") {
        let found = request(container);
        any |= found.is_some();
        let found = found.unwrap_or(Quantity::ZERO);
        let while_running = if container.text("restartPolicy") == "Always" {
            sum += found;
            sidecars += found;
            sidecars
        } else {
            found + sidecars
        };
        if while_running > most {
            most = while_running;
        }
    }
    any.then_some(if most > sum { most } else { sum })
}
