//! Rules for containers, init containers and ephemeral containers.

use std::collections::HashSet;

use api::{ErrorList, FieldError, Path};
use serde_json::Value;

use super::spec::Context;
use super::{env, probes, resources, security, volumes};
use crate::fields::{Fields, is_empty};
use crate::names;
use crate::report::Report;

/// Rules for all containers of a pod.
pub(super) fn validate_all(context: &Context<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    main(context, &path.child("containers"), errors);
    init(context, &path.child("initContainers"), errors);
    ephemeral(context, &path.child("ephemeralContainers"), errors);
}

fn main(context: &Context<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let containers = context.spec.list("containers");
    if containers.is_empty() {
        errors.required(path, "");
        return;
    }
    let mut seen = HashSet::new();
    for (index, container) in containers.iter().enumerate() {
        let at = path.index(index);
        common(context, container, &at, errors);
        if !seen.insert(container.text("name")) {
            errors.duplicate(&at.child("name"), container.text("name"));
        }
        lifecycle_and_probes(context, container, &at, errors);
        restart_policy(container, &at, errors);
    }
    host_port_conflicts(containers, path, errors);
}

fn init(context: &Context<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen: HashSet<&str> =
        context.spec.list("containers").iter().map(|container| container.text("name")).collect();
    for (index, container) in context.spec.list("initContainers").iter().enumerate() {
        let at = path.index(index);
        common(context, container, &at, errors);
        restart_policy(container, &at, errors);
        let name = container.text("name");
        if !name.is_empty() && !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        host_port_conflicts(std::slice::from_ref(container), path, errors);
        if container.text("restartPolicy") == "Always" {
            lifecycle_and_probes(context, container, &at, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(field) {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.forbidden(&at.child(field), detail);
            }
        }
        for (index, policy) in container.list("resizePolicy").iter().enumerate() {
            if policy.text("restartPolicy") == "RestartContainer" {
                errors.invalid(
                    &at.child("resizePolicy").index(index).child("restartPolicy"),
                    "RestartContainer",
                    "must not be set to 'RestartContainer' for non-sidecar initContainers",
                );
            }
        }
    }
}

fn ephemeral(context: &Context<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    const REFUSED: &str = "cannot be set for an Ephemeral Container";
    const FIELDS: [&str; 9] = [
        "ports",
        "resources",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
    ];
    let others: HashSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| context.spec.list(list))
        .map(|container| container.text("name"))
        .collect();
    let mut seen = others.clone();
    for (index, container) in context.spec.list("ephemeralContainers").iter().enumerate() {
        let at = path.index(index);
        common(context, container, &at, errors);
        only_for_pod(container, &at, errors);
        let name = container.text("name");
        if !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&at.child("targetContainerName"), target);
        }
        for field in FIELDS {
            if !is_empty(container.field(field)) {
                errors.forbidden(&at.child(field), REFUSED);
            }
        }
        for (index, mount) in container.list("volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    errors.forbidden(&at.child("volumeMounts").index(index).child(field), REFUSED);
                }
            }
        }
    }
}

/// Rules that hold in pods and not in templates, where they came too late.
pub(super) fn only_for_pod(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let image = container.text("image");
    if image.trim().len() != image.len() {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn common(context: &Context<'_>, container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let name = container.text("name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        errors.invalid_all(&path.child("name"), name, names::label(name));
    }
    errors.required_text(container, "image", path);
    errors.required_one_of(
        &path.child("terminationMessagePolicy"),
        container.text("terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
    );
    ports(container.list("ports"), &path.child("ports"), errors);
    env::variables(container.list("env"), &path.child("env"), errors);
    env::sources(container.list("envFrom"), &path.child("envFrom"), errors);
    volumes::mounts(context, container, &path.child("volumeMounts"), errors);
    volumes::devices(context, container, &path.child("volumeDevices"), errors);
    errors.required_one_of(
        &path.child("imagePullPolicy"),
        container.text("imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
    );
    resources::validate_container(container.field("resources"), &path.child("resources"), errors);
    resources::claims(
        context,
        container.field("resources"),
        &path.child("resources").child("claims"),
        errors,
    );
    resources::resize_policy(context, container.list("resizePolicy"), &path.child("resizePolicy"), errors);
    security::container(context, container.field("securityContext"), &path.child("securityContext"), errors);
}

fn ports(ports: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = path.index(index);
        let name = port.text("name");
        if !name.is_empty() {
            let found = names::port_name(name);
            if !found.is_empty() {
                errors.invalid_all(&at.child("name"), name, found);
            } else if !seen.insert(name) {
                errors.duplicate(&at.child("name"), name);
            }
        }
        match port.int("containerPort").unwrap_or_default() {
            0 => errors.required(&at.child("containerPort"), ""),
            number => errors.port(&at.child("containerPort"), number),
        }
        match port.int("hostPort").unwrap_or_default() {
            0 => {}
            number => errors.port(&at.child("hostPort"), number),
        }
        errors.required_one_of(&at.child("protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

fn host_port_conflicts(containers: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (at, port) in container.list("ports").iter().enumerate() {
            let number = port.int("hostPort").unwrap_or_default();
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if seen.contains(&key) {
                errors.duplicate(&path.index(index).child("ports").index(at).child("hostPort"), key);
            } else {
                seen.insert(key);
            }
        }
    }
}

fn lifecycle_and_probes(context: &Context<'_>, container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let lifecycle = container.field("lifecycle");
    probes::lifecycle(context, lifecycle, &path.child("lifecycle"), errors);
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        probes::probe(context, container.field(kind), kind, &path.child(kind), errors);
    }
}

fn restart_policy(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let rules = container.list("restartPolicyRules");
    let at = path.child("restartPolicy");
    if !container.has("restartPolicy") {
        if rules.is_empty() {
            return;
        }
        errors.required(&at, "must specify restartPolicy when restart rules are used");
    } else {
        errors.one_of(&at, container.text("restartPolicy"), &["Always", "Never", "OnFailure"]);
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.add(FieldError::too_many(&path, rules.len(), 20));
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = path.index(index);
        errors.one_of(&at.child("action"), rule.text("action"), &["Restart", "RestartAllContainers"]);
        let codes = rule.field("exitCodes");
        if codes.is_null() {
            errors.required(&at.child("exitCodes"), "must be specified");
            continue;
        }
        let at = at.child("exitCodes");
        errors.one_of(&at.child("operator"), codes.text("operator"), &["In", "NotIn"]);
        if codes.list("values").len() > 255 {
            errors.add(FieldError::too_many(&at.child("values"), codes.list("values").len(), 255));
        }
    }
}
