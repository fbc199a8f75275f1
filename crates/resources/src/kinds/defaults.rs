//! Defaults of kinds that have no file of their own.

use api::Object;
use serde_json::{Map, Value, json};

use super::pod;
use crate::fields::{Fields, default_text, default_to, object_at, object_in, objects_in};

type Json = Map<String, Value>;

fn spec(object: &mut Object) -> Option<&mut Json> {
    object_at(object.as_map_mut(), "spec")
}

fn template(spec: &mut Json) {
    if let Some(template) = object_at(spec, "template") {
        pod::defaults::template(template);
    }
}

pub(super) fn pod_template(object: &mut Object) {
    template(object.as_map_mut());
}

pub(super) fn replication_controller(object: &mut Object) {
    let Some(spec) = spec(object) else { return };
    default_to(spec, "replicas", 1);
    let labels = spec.field("template").below(&["metadata", "labels"]).clone();
    if spec.has("template") {
        template(spec);
    }
    if labels.is_null() {
        return;
    }
    if spec.field("selector").as_object().is_none_or(Map::is_empty) {
        spec.insert("selector".into(), labels.clone());
    }
    if object.labels().is_none_or(Map::is_empty) {
        object.set_at(&["metadata", "labels"], labels);
    }
}

pub(super) fn stateful_set(object: &mut Object) {
    let Some(spec) = spec(object) else { return };
    default_text(spec, "podManagementPolicy", "OrderedReady");
    default_to(spec, "replicas", 1);
    default_to(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = object_at(spec, "updateStrategy") {
        let unset = strategy.text("type").is_empty();
        default_text(strategy, "type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate" {
            if unset {
                default_to(strategy, "rollingUpdate", json!({}));
            }
            if let Some(rolling) = object_in(strategy, "rollingUpdate") {
                default_to(rolling, "partition", 0);
            }
        }
    }
    if let Some(policy) = object_at(spec, "persistentVolumeClaimRetentionPolicy") {
        default_text(policy, "whenDeleted", "Retain");
        default_text(policy, "whenScaled", "Retain");
    }
    template(spec);
    for claim in objects_in(spec, "volumeClaimTemplates") {
        claim_of(claim);
        default_text(claim, "apiVersion", "v1");
        default_text(claim, "kind", "PersistentVolumeClaim");
    }
}

pub(super) fn cron_job(object: &mut Object) {
    let Some(spec) = spec(object) else { return };
    default_text(spec, "concurrencyPolicy", "Allow");
    default_to(spec, "suspend", false);
    default_to(spec, "successfulJobsHistoryLimit", 3);
    default_to(spec, "failedJobsHistoryLimit", 1);
    let Some(job) = object_at(spec, "jobTemplate").and_then(|one| object_at(one, "spec")) else { return };
    // Jobs are defaulted when they are made; only their pods are here.
    template(job);
}

fn claim_of(claim: &mut Json) {
    if let Some(status) = object_at(claim, "status") {
        default_text(status, "phase", "Pending");
    }
    if let Some(spec) = object_at(claim, "spec") {
        default_to(spec, "volumeMode", "Filesystem");
    }
}

pub(super) fn persistent_volume_claim(object: &mut Object) {
    claim_of(object.as_map_mut());
}

pub(super) fn persistent_volume(object: &mut Object) {
    if let Some(status) = object_at(object.as_map_mut(), "status") {
        default_text(status, "phase", "Pending");
    }
    if let Some(spec) = spec(object) {
        default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        default_to(spec, "volumeMode", "Filesystem");
        if let Some(host) = object_in(spec, "hostPath") {
            default_to(host, "type", "");
        }
    }
}

pub(super) fn limit_range(object: &mut Object) {
    let Some(spec) = spec(object) else { return };
    for item in objects_in(spec, "limits").filter(|item| item.text("type") == "Container") {
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let Some(Value::Object(source)) = item.get(from).cloned() else { continue };
            if let Some(target) = object_at(item, to) {
                for (name, value) in source {
                    default_to(target, &name, value);
                }
            }
        }
    }
}

pub(super) fn storage_class(object: &mut Object) {
    let map = object.as_map_mut();
    default_to(map, "reclaimPolicy", "Delete");
    default_to(map, "volumeBindingMode", "Immediate");
}

pub(super) fn csi_driver(object: &mut Object) {
    let Some(spec) = spec(object) else { return };
    default_to(spec, "attachRequired", true);
    default_to(spec, "podInfoOnMount", false);
    default_to(spec, "storageCapacity", false);
    default_to(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if spec.list("volumeLifecycleModes").is_empty() {
        spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
    }
    default_to(spec, "requiresRepublish", false);
    default_to(spec, "seLinuxMount", false);
}

pub(super) fn ingress_class(object: &mut Object) {
    if let Some(parameters) = spec(object).and_then(|spec| object_in(spec, "parameters")) {
        default_to(parameters, "scope", "Cluster");
    }
}

pub(super) fn network_policy(object: &mut Object) {
    let Some(spec) = spec(object) else { return };
    if spec.list("policyTypes").is_empty() {
        let mut types = vec!["Ingress"];
        if !spec.list("egress").is_empty() {
            types.push("Egress");
        }
        spec.insert("policyTypes".into(), json!(types));
    }
    for list in ["ingress", "egress"] {
        for rule in objects_in(spec, list) {
            for port in objects_in(rule, "ports") {
                default_to(port, "protocol", "TCP");
            }
        }
    }
}

pub(super) fn autoscaler_v1(object: &mut Object) {
    if let Some(spec) = spec(object) {
        default_to(spec, "minReplicas", 1);
    }
}

pub(super) fn autoscaler(object: &mut Object) {
    let Some(spec) = spec(object) else { return };
    default_to(spec, "minReplicas", 1);
    if spec.list("metrics").is_empty() {
        let cpu = json!({
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
        });
        spec.insert("metrics".into(), json!([cpu]));
    }
    let Some(behavior) = object_in(spec, "behavior") else { return };
    let pods = |value: i64| json!({"type": "Pods", "value": value, "periodSeconds": 15});
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    for (direction, policies) in [("scaleUp", json!([pods(4), percent])), ("scaleDown", json!([percent]))] {
        let Some(rules) = object_at(behavior, direction) else { continue };
        default_to(rules, "selectPolicy", "Max");
        if direction == "scaleUp" {
            default_to(rules, "stabilizationWindowSeconds", 0);
        }
        default_to(rules, "policies", policies);
    }
}

pub(super) fn priority_class(object: &mut Object) {
    default_to(object.as_map_mut(), "preemptionPolicy", "PreemptLowerPriority");
}

pub(super) fn webhooks(object: &mut Object) {
    let mutating = object.kind() == "MutatingWebhookConfiguration";
    for hook in objects_in(object.as_map_mut(), "webhooks") {
        default_to(hook, "failurePolicy", "Fail");
        default_to(hook, "matchPolicy", "Equivalent");
        default_to(hook, "namespaceSelector", json!({}));
        default_to(hook, "objectSelector", json!({}));
        default_to(hook, "timeoutSeconds", 10);
        if mutating {
            default_to(hook, "reinvocationPolicy", "Never");
        }
        for rule in objects_in(hook, "rules") {
            default_to(rule, "scope", "*");
        }
        let client = object_in(hook, "clientConfig");
        if let Some(service) = client.and_then(|client| object_in(client, "service")) {
            default_to(service, "port", 443);
        }
    }
}

pub(super) fn admission_policy(object: &mut Object) {
    let Some(spec) = spec(object) else { return };
    default_to(spec, "failurePolicy", "Fail");
    match_resources(spec, "matchConstraints");
}

pub(super) fn admission_policy_binding(object: &mut Object) {
    let Some(spec) = spec(object) else { return };
    match_resources(spec, "matchResources");
}

fn match_resources(spec: &mut Map<String, Value>, name: &str) {
    let Some(constraints) = object_in(spec, name) else { return };
    default_to(constraints, "matchPolicy", "Equivalent");
    default_to(constraints, "namespaceSelector", json!({}));
    default_to(constraints, "objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in objects_in(constraints, list) {
            default_to(rule, "scope", "*");
        }
    }
}

pub(super) fn api_service(object: &mut Object) {
    let service = spec(object).and_then(|spec| object_in(spec, "service"));
    if let Some(service) = service {
        default_to(service, "port", 443);
    }
}

pub(super) fn custom_resource_definition(object: &mut Object) {
    let Some(spec) = spec(object) else { return };
    default_text(spec, "scope", "Namespaced");
    if let Some(conversion) = object_at(spec, "conversion") {
        default_text(conversion, "strategy", "None");
        let service = object_in(conversion, "webhook")
            .and_then(|hook| object_in(hook, "clientConfig"))
            .and_then(|client| object_in(client, "service"));
        if let Some(service) = service {
            default_to(service, "port", 443);
        }
    }
    if let Some(names) = object_at(spec, "names") {
        let kind = names.text("kind").to_owned();
        if !kind.is_empty() {
            default_text(names, "singular", &kind.to_lowercase());
            default_text(names, "listKind", &format!("{kind}List"));
        }
    }
}
