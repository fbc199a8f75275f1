//! Rules for ingresses and ingress classes, following `pkg/apis/networking`.

use api::{ErrorList, FieldError, Object, Path};
use serde_json::Value;

use crate::fields::Fields;
use crate::report::Report;
use crate::{Part, metadata, names};

const CLASS: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const NO_PARTS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const NO_ENDS: [&str; 2] = ["/..", "/."];
const NO_ADDRESS: &str = "must be a DNS name, not an IP address";
/// The longest name of a controller.
const MAX_CONTROLLER: usize = 250;

/// Rules for an ingress (`validateIngress`).
pub(super) fn ingress(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    let list = spec.list("rules");
    if list.is_empty() && !spec.has("defaultBackend") {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(&path, spec.field("rules").clone(), detail);
    }
    if spec.has("defaultBackend") {
        backend(spec.field("defaultBackend"), &path.child("defaultBackend"), &mut errors);
    }
    for (index, one) in list.iter().enumerate() {
        rule(one, &path.child("rules").index(index), &mut errors);
    }
    for (index, one) in spec.list("tls").iter().enumerate() {
        let list = path.child("tls");
        let at = list.index(index);
        for (index, name) in one.list("hosts").iter().enumerate() {
            host(name.as_str().unwrap_or_default(), &at.child("hosts").index(index), &mut errors);
        }
        let secret = one.text("secretName");
        if !secret.is_empty() {
            errors.invalid_all(&at.child("secretName"), secret, names::subdomain(secret));
        }
    }
    if spec.has("ingressClassName") {
        let class = spec.text("ingressClassName");
        errors.invalid_all(&path.child("ingressClassName"), class, names::subdomain(class));
    }
    errors
}

/// Rules for a new ingress only.
pub(super) fn new_ingress(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = object.field("spec");
    if let Some(class) = object.annotation(CLASS)
        && spec.has("ingressClassName")
        && spec.text("ingressClassName") != class
    {
        let at = Path::new("annotations");
        errors.invalid(&at.child(CLASS), class, "must match `ingressClassName` when both are specified");
    }
    errors
}

/// Rules for a change of an ingress: what is written to its status.
pub(super) fn ingress_update(part: Part<'_>, new: &Object, _old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if part != Part::Status {
        return errors;
    }
    let (status, balancer) = (Path::new("status"), new.below(&["status", "loadBalancer"]));
    let at = status.child("loadBalancer");
    let list = at.child("ingress");
    for (index, one) in balancer.list("ingress").iter().enumerate() {
        let at = list.index(index);
        let (address, name) = (one.text("ip"), one.text("hostname"));
        if !address.is_empty() && names::parse_ip(address).is_none() {
            errors.invalid_all(&at.child("ip"), address, names::ip(address));
        }
        if !name.is_empty() {
            errors.invalid_all(&at.child("hostname"), name, names::subdomain(name));
            if names::parse_ip(name).is_some() {
                errors.invalid(&at.child("hostname"), name, NO_ADDRESS);
            }
        }
    }
    errors
}

fn host(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let found = if name.contains('*') { names::wildcard_subdomain(name) } else { names::subdomain(name) };
    errors.invalid_all(path, name, found);
}

fn rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let name = rule.text("host");
    if !name.is_empty() {
        if names::parse_ip(name).is_some() {
            errors.invalid(&path.child("host"), name, NO_ADDRESS);
        }
        host(name, &path.child("host"), errors);
    }
    if !rule.has("http") {
        return;
    }
    let (paths, http) = (rule.below(&["http", "paths"]), path.child("http"));
    let at = http.child("paths");
    let paths = paths.as_array().map_or(&[][..], Vec::as_slice);
    if paths.is_empty() {
        errors.required(&at, "");
    }
    for (index, one) in paths.iter().enumerate() {
        http_path(one, &at.index(index), errors);
    }
}

fn http_path(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (kind, text, at) = (of.text("pathType"), of.text("path"), path.child("path"));
    if !of.has("pathType") {
        errors.required(&path.child("pathType"), "pathType must be specified");
        return;
    }
    let is_exact = matches!(kind, "Exact" | "Prefix");
    if !is_exact && kind != "ImplementationSpecific" {
        errors.one_of(&path.child("pathType"), kind, &PATH_TYPES);
    } else if !text.starts_with('/') && (is_exact || !text.is_empty()) {
        errors.invalid(&at, text, "must be an absolute path");
    }
    if is_exact {
        for part in NO_PARTS.into_iter().filter(|part| text.contains(part)) {
            errors.invalid(&at, text, format!("must not contain '{part}'"));
        }
        for end in NO_ENDS.into_iter().filter(|end| text.ends_with(end)) {
            errors.invalid(&at, text, format!("cannot end with '{end}'"));
        }
    }
    backend(of.field("backend"), &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match (backend.has("resource"), backend.has("service")) {
        (true, true) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (true, false) => reference(backend.field("resource"), &path.child("resource"), errors),
        (false, true) => service(backend.field("service"), path, errors),
        (false, false) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn service(service: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("service");
    let name = service.text("name");
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        errors.invalid_all(&at.child("name"), name, names::label(name));
    }
    let (port, at) = (service.field("port"), at.child("port"));
    let (name, number) = (port.text("name"), port.int("number").unwrap_or_default());
    match (name.is_empty(), number) {
        (true, 0) => errors.required(path, "port name or number is required"),
        (true, _) => errors.port(&at.child("number"), number),
        (false, 0) => errors.invalid_all(&at.child("name"), name, names::port_name(name)),
        (false, _) => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}

/// A reference by group, kind and name.
fn reference(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if of.has("apiGroup") {
        let group = of.text("apiGroup");
        errors.invalid_all(&path.child("apiGroup"), group, names::subdomain(group));
    }
    for field in ["kind", "name"] {
        let (text, at) = (of.text(field), path.child(field));
        if text.is_empty() {
            errors.required(&at, "");
        } else {
            errors.invalid_all(&at, text, names::path_segment(text, false));
        }
    }
}

/// Rules for an ingress class (`ValidateIngressClass`).
pub(super) fn class(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    let (controller, at) = (spec.text("controller"), path.child("controller"));
    if controller.len() > MAX_CONTROLLER {
        errors.add(FieldError::too_long(&at, MAX_CONTROLLER));
    }
    domain_path(controller, &at, &mut errors);
    if spec.has("parameters") {
        let (of, at) = (spec.field("parameters"), path.child("parameters"));
        reference(of, &at, &mut errors);
        scope(of, &at, &mut errors);
    }
    errors
}

fn scope(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if !of.has("scope") {
        errors.required(&path.child("scope"), "");
        return;
    }
    let at = path.child("namespace");
    match of.text("scope") {
        "Namespace" if !of.has("namespace") => {
            errors.required(&at, "`parameters.scope` is set to 'Namespace'");
        }
        "Namespace" => {
            let namespace = of.text("namespace");
            errors.invalid_all(&at, namespace, names::label(namespace));
        }
        "Cluster" if of.has("namespace") => errors.forbidden(&at, "`parameters.scope` is set to 'Cluster'"),
        other => errors.one_of(&path.child("scope"), other, &["Cluster", "Namespace"]),
    }
}

/// A domain, a slash and a path (`IsDomainPrefixedPath`).
fn domain_path(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((domain, rest)) =
        text.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        errors.invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    errors.invalid_all(path, domain, names::subdomain(domain));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(is_plain) {
        let detail = names::shape_message("Invalid path", &[], r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+");
        errors.invalid(path, rest, detail);
    }
}

/// Rules for a change of an ingress class.
pub(super) fn class_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (path, field) = (Path::new("spec"), "controller");
    let at = path.child(field);
    metadata::immutable(new.field("spec").field(field), old.field("spec").field(field), &at, &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(rules: fn(&Object) -> ErrorList, spec: Value) -> Vec<String> {
        let object = Object::from_value(json!({"spec": spec})).expect("an object");
        rules(&object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ingresses() {
        let service = json!({"service": {"name": "web", "port": {"number": 80}}});
        let path = |path: Value| json!({"rules": [{"host": "a.b", "http": {"paths": [path]}}]});
        let at = |text: &str, kind: &str| path(json!({"path": text, "pathType": kind, "backend": service}));
        for good in [
            json!({"defaultBackend": service}),
            json!({"rules": [{"host": "*.a.b"}], "tls": [{"hosts": ["*.a.b"], "secretName": "s"}]}),
            at("/a", "Prefix"),
            at("", "ImplementationSpecific"),
        ] {
            assert_eq!(told(ingress, good), Vec::<String>::new());
        }
        let first = "spec.rules[0].http.paths[0]";
        let default = |backend: Value| json!({"defaultBackend": backend});
        let table = [
            (
                json!({}),
                "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified".to_owned(),
            ),
            (at("a", "Exact"), format!("{first}.path: Invalid value: \"a\": must be an absolute path")),
            (at("/a//b", "Prefix"), format!("{first}.path: Invalid value: \"/a//b\": must not contain '//'")),
            (at("/a/..", "Prefix"), format!("{first}.path: Invalid value: \"/a/..\": cannot end with '/..'")),
            (
                at("/", "Regex"),
                format!(
                    "{first}.pathType: Unsupported value: \"Regex\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\""
                ),
            ),
            (
                path(json!({"backend": service})),
                format!("{first}.pathType: Required value: pathType must be specified"),
            ),
            (
                json!({"rules": [{"http": {"paths": []}}]}),
                "spec.rules[0].http.paths: Required value".to_owned(),
            ),
            (
                default(json!({})),
                "spec.defaultBackend: Invalid value: \"\": resource or service backend is required"
                    .to_owned(),
            ),
            (
                default(json!({"service": {"name": "web"}})),
                "spec.defaultBackend: Required value: port name or number is required".to_owned(),
            ),
            (
                default(json!({"service": {"name": "web", "port": {"number": 1, "name": "a"}}})),
                "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number"
                    .to_owned(),
            ),
            (
                default(json!({"resource": {"kind": "Bucket"}})),
                "spec.defaultBackend.resource.name: Required value".to_owned(),
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(told(ingress, spec), [expected]);
        }
        assert!(told(ingress, json!({"rules": [{"host": "10.0.0.1"}]}))[0].ends_with(NO_ADDRESS));
    }

    #[test]
    fn both_ways_to_name_a_class() {
        let object = |class: &str| {
            let annotations = json!({CLASS: "one"});
            Object::from_value(
                json!({"metadata": {"annotations": annotations}, "spec": {"ingressClassName": class}}),
            )
            .expect("an object")
        };
        assert!(new_ingress(&object("one")).is_empty());
        assert_eq!(
            new_ingress(&object("two"))[0].to_string(),
            "annotations.kubernetes.io/ingress.class: Invalid value: \"one\": must match `ingressClassName` when both are specified"
        );
    }

    #[test]
    fn classes() {
        let with = |parameters: Value| json!({"controller": "a.b/c", "parameters": parameters});
        let parameters = |scope: &str| json!({"kind": "K", "name": "n", "scope": scope});
        assert_eq!(told(class, with(parameters("Cluster"))), Vec::<String>::new());
        for (spec, expected) in [
            (json!({}), "spec.controller: Required value"),
            (
                json!({"controller": "plain"}),
                "spec.controller: Invalid value: \"plain\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (with(json!({"kind": "K", "name": "n"})), "spec.parameters.scope: Required value"),
            (
                with(parameters("Namespace")),
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
            (
                with(parameters("Zone")),
                "spec.parameters.scope: Unsupported value: \"Zone\": supported values: \"Cluster\", \"Namespace\"",
            ),
        ] {
            assert_eq!(told(class, spec), [expected]);
        }
    }
}
