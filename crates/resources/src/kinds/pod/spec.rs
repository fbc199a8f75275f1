//! Rules for a pod's spec (`ValidatePodSpec`), for pods and for templates.

use std::collections::HashMap;

use api::{ErrorList, Path};
use serde_json::Value;

use super::{containers, resources, scheduling, security, volumes};
use crate::fields::Fields;
use crate::names;
use crate::report::Report;

/// What the rules for a pod's parts need to know of the whole.
pub(super) struct Context<'a> {
    /// The spec.
    pub(super) spec: &'a Value,
    /// A pod, not a template of pods.
    pub(super) is_pod: bool,
    /// The volumes that are well-formed, by name.
    pub(super) volumes: HashMap<&'a str, &'a Value>,
}

impl Context<'_> {
    /// The seconds that the pod has to end.
    pub(super) fn grace(&self) -> Option<i64> {
        self.spec.int("terminationGracePeriodSeconds")
    }

    /// Whether the pod runs in the host's user namespace.
    pub(super) fn host_users(&self) -> bool {
        self.spec.field("hostUsers").as_bool().unwrap_or(true)
    }
}

/// Rules for a spec.
pub(crate) fn validate(spec: &Value, pod_name: Option<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    if !spec.has("terminationGracePeriodSeconds") {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volumes::validate(spec.list("volumes"), pod_name, &path.child("volumes"), errors);
    let context = Context { spec, is_pod: pod_name.is_some(), volumes };
    containers::validate_all(&context, path, errors);
    resources::validate_pod(spec, path, errors);
    host_ports(&context, &path.child("containers"), errors);
    errors.required_one_of(
        &path.child("restartPolicy"),
        spec.text("restartPolicy"),
        &["Always", "OnFailure", "Never"],
    );
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.required_one_of(&path.child("dnsPolicy"), spec.text("dnsPolicy"), &policies);
    crate::metadata::labels(spec.field("nodeSelector"), &path.child("nodeSelector"), errors);
    security::pod(spec.field("securityContext"), spec, &path.child("securityContext"), errors);
    scheduling::affinity(spec.field("affinity"), &path.child("affinity"), errors);
    dns(spec, &path.child("dnsConfig"), errors);
    for (index, gate) in spec.list("readinessGates").iter().enumerate() {
        let kind = gate.text("conditionType");
        let gates = path.child("readinessGates");
        errors.invalid_all(&gates.index(index).child("conditionType"), kind, names::qualified(kind));
    }
    scheduling::gates(spec.list("schedulingGates"), &path.child("schedulingGates"), errors);
    scheduling::spread(
        spec.list("topologySpreadConstraints"),
        &path.child("topologySpreadConstraints"),
        errors,
    );
    security::host_users(&context, path, errors);
    texts(spec, path, errors);
    scheduling::tolerations(spec.list("tolerations"), &path.child("tolerations"), errors);
    host_aliases(spec.list("hostAliases"), &path.child("hostAliases"), errors);
    if let Some(overhead) = spec.field("overhead").as_object() {
        let overhead = serde_json::json!({"limits": overhead});
        resources::validate_container(&overhead, &path.child("overhead"), errors);
    }
    security::operating_system(spec, path, errors);
}

/// Rules for a pod template (`ValidatePodTemplateSpec`).
pub(crate) fn validate_template(template: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let metadata = template.field("metadata");
    crate::metadata::labels(metadata.field("labels"), &path.child("labels"), errors);
    crate::metadata::annotations(metadata.field("annotations"), &path.child("annotations"), errors);
    let spec_path = path.child("spec");
    validate(template.field("spec"), None, &spec_path, errors);
    if !template.field("spec").list("ephemeralContainers").is_empty() {
        errors.forbidden(
            &spec_path.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

fn texts(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for name in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let value = spec.text(name);
        if !value.is_empty() || (name == "runtimeClassName" && spec.has(name)) {
            errors.invalid_all(&path.child(name), value, names::subdomain(value));
        }
    }
    if let Some(seconds) = spec.int("activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, names::between(1, i64::from(i32::MAX)));
    }
    for name in ["hostname", "subdomain"] {
        let value = spec.text(name);
        if !value.is_empty() {
            errors.invalid_all(&path.child(name), value, names::label(value));
        }
    }
    if spec.has("preemptionPolicy") {
        let policy = spec.text("preemptionPolicy");
        errors.required_one_of(&path.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
    }
    if spec.has("hostnameOverride") {
        let (value, path) = (spec.text("hostnameOverride"), path.child("hostnameOverride"));
        if spec.flag("setHostnameAsFQDN") {
            errors.forbidden(&path, "may not be specified when setHostnameAsFQDN is true");
        }
        if spec.flag("hostNetwork") {
            errors.forbidden(&path, "may not be specified when hostNetwork is true");
        }
        if value.len() > 64 {
            errors.add(api::FieldError::too_long(&path, 64));
        }
        errors.invalid_all(&path, value, names::subdomain(value));
    }
}

fn host_ports(context: &Context<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    if !context.spec.flag("hostNetwork") {
        return;
    }
    for (index, container) in context.spec.list("containers").iter().enumerate() {
        for (at, port) in container.list("ports").iter().enumerate() {
            let host = port.int("hostPort").unwrap_or_default();
            let differs = host != port.int("containerPort").unwrap_or_default();
            if (context.is_pod || host != 0) && differs {
                errors.invalid(
                    &path.index(index).child("ports").index(at).child("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}

fn dns(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let config = spec.field("dnsConfig");
    if spec.text("dnsPolicy") == "None" {
        if config.is_null() {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if config.list("nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&path.child("nameservers"), detail);
            return;
        }
    }
    let servers = config.list("nameservers");
    if servers.len() > 3 {
        let detail = "must not have more than 3 nameservers";
        errors.invalid(&path.child("nameservers"), config.field("nameservers").clone(), detail);
    }
    for (index, server) in servers.iter().enumerate() {
        let server = server.as_str().unwrap_or_default();
        errors.invalid_all(&path.child("nameservers").index(index), server, names::ip(server));
    }
    let searches: Vec<&str> = config.list("searches").iter().filter_map(Value::as_str).collect();
    if searches.len() > 32 {
        let detail = "must not have more than 32 search paths";
        errors.invalid(&path.child("searches"), config.field("searches").clone(), detail);
    }
    if searches.join(" ").len() > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&path.child("searches"), config.field("searches").clone(), detail);
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| **search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        let found = names::subdomain_with_underscore(search);
        errors.invalid_all(&path.child("searches").index(index), search, found);
    }
    for (index, option) in config.list("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

fn host_aliases(aliases: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, alias) in aliases.iter().enumerate() {
        let at = path.index(index);
        let ip = alias.text("ip");
        errors.invalid_all(&at.child("ip"), ip, names::ip(ip));
        for (index, name) in alias.list("hostnames").iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            errors.invalid_all(&at.child("hostnames").index(index), name, names::subdomain(name));
        }
    }
}
