//! What a pod gets that its author left out (`pkg/apis/core/v1/defaults.go`).
//!
//! Everything is set only where it is absent, so that defaulting twice changes
//! nothing.

use api::Object;
use serde_json::{Map, Value, json};

use crate::fields::{Fields, default_number, default_text, default_to, object_at, object_in, objects_in};

type Json = Map<String, Value>;

/// Defaults of a pod.
pub(crate) fn pod(object: &mut Object) {
    let Some(spec) = object_at(object.as_map_mut(), "spec") else { return };
    self::spec(spec);
    for list in ["containers", "initContainers"] {
        for container in objects_in(spec, list) {
            requests_from_limits(container);
        }
    }
    pod_requests(spec);
    default_to(spec, "enableServiceLinks", true);
}

/// Defaults of a pod template: those of a pod's spec.
pub(crate) fn template(template: &mut Json) {
    if let Some(spec) = object_at(template, "spec") {
        self::spec(spec);
    }
}

fn spec(spec: &mut Json) {
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "restartPolicy", "Always");
    default_to(spec, "securityContext", json!({}));
    default_to(spec, "terminationGracePeriodSeconds", 30);
    default_text(spec, "schedulerName", "default-scheduler");
    accounts(spec);
    for volume in objects_in(spec, "volumes") {
        self::volume(volume);
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in objects_in(spec, list) {
            self::container(container);
        }
    }
    if spec.flag("hostNetwork") {
        for list in ["containers", "initContainers"] {
            for container in objects_in(spec, list) {
                for port in objects_in(container, "ports") {
                    let number = port.int("containerPort").unwrap_or_default();
                    if number != 0 {
                        default_number(port, "hostPort", number);
                    }
                }
            }
        }
    }
    if let Some(overhead) = object_in(spec, "overhead") {
        round_up(overhead);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`: both say the same.
fn accounts(spec: &mut Json) {
    let (name, old) = (spec.text("serviceAccountName").to_owned(), spec.text("serviceAccount").to_owned());
    let account = if name.is_empty() { old } else { name };
    if !account.is_empty() {
        spec.insert("serviceAccountName".into(), account.clone().into());
        spec.insert("serviceAccount".into(), account.into());
    }
}

fn container(container: &mut Json) {
    if container.text("imagePullPolicy").is_empty() {
        let policy = pull_policy(container.text("image"));
        container.insert("imagePullPolicy".into(), policy.into());
    }
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    for port in objects_in(container, "ports") {
        default_text(port, "protocol", "TCP");
    }
    for variable in objects_in(container, "env") {
        let from = object_in(variable, "valueFrom");
        if let Some(field) = from.and_then(|from| object_in(from, "fieldRef")) {
            default_text(field, "apiVersion", "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object_in(container, probe) {
            default_number(probe, "timeoutSeconds", 1);
            default_number(probe, "periodSeconds", 10);
            default_number(probe, "successThreshold", 1);
            default_number(probe, "failureThreshold", 3);
            http_get(probe);
            if let Some(grpc) = object_in(probe, "grpc") {
                default_to(grpc, "service", "");
            }
        }
    }
    if let Some(lifecycle) = object_in(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = object_in(lifecycle, hook) {
                http_get(hook);
            }
        }
    }
    if let Some(resources) = object_in(container, "resources") {
        for list in ["limits", "requests"] {
            if let Some(list) = object_in(resources, list) {
                round_up(list);
            }
        }
    }
}

/// `Always` for the tag `latest` and no tag at all, following upstream's
/// `parsers.ParseImageName`.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = last.split_once(':').map(|(_, tag)| tag);
    match (tag, digest) {
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

fn http_get(owner: &mut Json) {
    if let Some(http) = object_in(owner, "httpGet") {
        default_text(http, "path", "/");
        default_text(http, "scheme", "HTTP");
    }
}

fn volume(volume: &mut Json) {
    if volume.keys().all(|name| name == "name") {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = object_in(volume, source) {
            default_to(source, "defaultMode", 0o644);
        }
    }
    if let Some(host) = object_in(volume, "hostPath") {
        default_to(host, "type", "");
    }
    if let Some(api) = object_in(volume, "downwardAPI") {
        downward_files(api);
    }
    if let Some(projected) = object_in(volume, "projected") {
        for source in objects_in(projected, "sources") {
            if let Some(token) = object_in(source, "serviceAccountToken") {
                default_number(token, "expirationSeconds", 3600);
            }
            if let Some(api) = object_in(source, "downwardAPI") {
                downward_files(api);
            }
        }
    }
    if let Some(iscsi) = object_in(volume, "iscsi") {
        default_text(iscsi, "iscsiInterface", "default");
    }
    if let Some(image) = object_in(volume, "image")
        && image.text("pullPolicy").is_empty()
    {
        let policy = pull_policy(image.text("reference"));
        image.insert("pullPolicy".into(), policy.into());
    }
    let claim = object_in(volume, "ephemeral").and_then(|one| object_in(one, "volumeClaimTemplate"));
    if let Some(spec) = claim.and_then(|claim| object_in(claim, "spec")) {
        default_to(spec, "volumeMode", "Filesystem");
    }
}

fn downward_files(api: &mut Json) {
    for file in objects_in(api, "items") {
        if let Some(field) = object_in(file, "fieldRef") {
            default_text(field, "apiVersion", "v1");
        }
    }
}

/// Quantities finer than a thousandth are rounded up to one.
fn round_up(list: &mut Json) {
    for value in list.values_mut() {
        let Some(parsed) = value.as_str().and_then(|text| text.parse::<api::Quantity>().ok()) else {
            continue;
        };
        let rounded = api::Quantity::from_millis(parsed.millis());
        if rounded != parsed {
            *value = rounded.to_string().into();
        }
    }
}

/// A limit without a request is a request too.
fn requests_from_limits(container: &mut Json) {
    let Some(resources) = object_in(container, "resources") else { return };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = object_at(resources, "requests") {
        for (name, limit) in limits {
            default_to(requests, &name, limit);
        }
    }
}

/// Limits of the whole pod: what its containers request, and else the limit.
fn pod_requests(spec: &mut Json) {
    const SUPPORTED: [&str; 2] = ["cpu", "memory"];
    if spec.field("resources").field("limits").as_object().is_none_or(Map::is_empty) {
        return;
    }
    let sums: Vec<(&str, Option<api::Quantity>)> =
        SUPPORTED.iter().map(|name| (*name, super::resources::sum_of_requests(spec, name))).collect();
    let Some(resources) = object_in(spec, "resources") else { return };
    let limits = resources.field("limits").clone();
    let Some(requests) = object_at(resources, "requests") else { return };
    for (name, sum) in sums {
        if let Some(sum) = sum {
            default_to(requests, name, sum.to_string());
        }
        if let Some(limit) = limits.get(name) {
            default_to(requests, name, limit.clone());
        }
    }
}

/// Turns `matchLabelKeys` into requirements of the selector beside them, when a
/// pod is created (`mutatePodAffinity`, `mutateTopologySpreadConstraints`).
pub(super) fn match_label_keys(object: &mut Object) {
    let labels = object.labels().cloned().unwrap_or_default();
    let Some(spec) = object_in(object.as_map_mut(), "spec") else { return };
    for constraint in objects_in(spec, "topologySpreadConstraints") {
        merge_keys(constraint, &labels, "matchLabelKeys", "In");
    }
    let Some(affinity) = object_in(spec, "affinity") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(rules) = object_in(affinity, kind) else { continue };
        for term in objects_in(rules, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge_keys(term, &labels, "matchLabelKeys", "In");
            merge_keys(term, &labels, "mismatchLabelKeys", "NotIn");
        }
        for weighted in objects_in(rules, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = object_in(weighted, "podAffinityTerm") {
                merge_keys(term, &labels, "matchLabelKeys", "In");
                merge_keys(term, &labels, "mismatchLabelKeys", "NotIn");
            }
        }
    }
}

fn merge_keys(term: &mut Json, labels: &Json, keys: &str, operator: &str) {
    let keys: Vec<String> = term.list(keys).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if keys.is_empty() || !term.has("labelSelector") {
        return;
    }
    let Some(selector) = object_in(term, "labelSelector") else { return };
    let mut all = selector.list("matchExpressions").to_vec();
    for key in keys {
        if let Some(value) = labels.get(&key) {
            let requirement = json!({"key": key, "operator": operator, "values": [value]});
            if !all.contains(&requirement) {
                all.push(requirement);
            }
        }
    }
    selector.insert("matchExpressions".into(), all.into());
}
