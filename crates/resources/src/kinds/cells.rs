//! The rows of tables, as upstream's printers fill them
//! (`pkg/printers/internalversion`): building blocks, and the rows of kinds
//! that have no file of their own.

use std::collections::BTreeSet;

use api::Object;
use jiff::Timestamp;
use serde_json::Value;

use crate::fields::Fields;
use crate::metadata::{age, since};

/// A function that fills a row.
pub(crate) type Cells = fn(&Object, Timestamp) -> Vec<Value>;

/// `name`, and `<none>` where it is empty.
pub(crate) fn or_none(text: &str) -> &str {
    or(text, "<none>")
}

/// `text`, and `fallback` where it is empty.
pub(crate) fn or<'a>(text: &'a str, fallback: &'a str) -> &'a str {
    if text.is_empty() { fallback } else { text }
}

/// `key=value` pairs of a map.
pub(crate) fn labels(map: &Value) -> String {
    let mut pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    or_none(&pairs.join(",")).to_owned()
}

/// A label selector as text; `<none>` where it selects everything or nothing.
pub(crate) fn selector(value: &Value) -> String {
    match selector_text(value) {
        Some(text) => or_none(&text).to_owned(),
        None => "<error>".to_owned(),
    }
}

/// A label selector as text; `None` where it cannot be read.
pub(crate) fn selector_text(value: &Value) -> Option<String> {
    if value.is_null() {
        return Some(String::new());
    }
    let typed: api::metav1::LabelSelector = serde_json::from_value(value.clone()).ok()?;
    Some(api::LabelSelector::from_api(Some(&typed)).ok()?.to_string())
}

/// Names and images of containers.
pub(crate) fn containers(list: &[Value]) -> (String, String) {
    let all = |name: &str| list.iter().map(|one| one.text(name)).collect::<Vec<_>>().join(",");
    (all("name"), all("image"))
}

/// The first few of `list`, and how many more there are.
pub(crate) fn first_few(list: &[String], max: usize) -> String {
    let shown = list[..list.len().min(max)].join(",");
    if list.len() > max { format!("{shown} + {} more...", list.len() - max) } else { shown }
}

fn number(value: &Value, name: &str) -> i64 {
    value.int(name).unwrap_or_default()
}

/// A value of a map or field as plain text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Addresses of a load balancer.
pub(crate) fn load_balancer(status: &Value) -> String {
    let addresses: BTreeSet<&str> = status
        .below(&["loadBalancer"])
        .list("ingress")
        .iter()
        .map(|one| or(one.text("ip"), one.text("hostname")))
        .filter(|one| !one.is_empty())
        .collect();
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

/// Name and age.
pub(crate) fn name_and_age(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), age(object, now).into()]
}

/// Name and moment of creation, the row of kinds without a printer.
pub(crate) fn name_and_creation(object: &Object, _: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.text(&["metadata", "creationTimestamp"]).into()]
}

/// Kinds that are only answered, never listed.
pub(crate) fn component_status(object: &Object, _: Timestamp) -> Vec<Value> {
    let healthy = object.list("conditions").iter().find(|one| one.text("type") == "Healthy");
    let (status, message, error) = match healthy {
        Some(one) if one.text("status") == "True" => ("Healthy", one.text("message"), one.text("error")),
        Some(one) => ("Unhealthy", one.text("message"), one.text("error")),
        None => ("Unknown", "", ""),
    };
    vec![object.name().into(), status.into(), message.into(), error.into()]
}

pub(crate) fn pod_template(object: &Object, _: Timestamp) -> Vec<Value> {
    let (names, images) = containers(object.below(&["template", "spec"]).list("containers"));
    let labels = labels(object.below(&["template", "metadata", "labels"]));
    vec![object.name().into(), names.into(), images.into(), labels.into()]
}

pub(crate) fn replication_controller(object: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (object.field("spec"), object.field("status"));
    let (names, images) = containers(spec.below(&["template", "spec"]).list("containers"));
    vec![
        object.name().into(),
        number(spec, "replicas").into(),
        number(status, "replicas").into(),
        number(status, "readyReplicas").into(),
        age(object, now).into(),
        names.into(),
        images.into(),
        labels(spec.field("selector")).into(),
    ]
}

pub(crate) fn stateful_set(object: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (object.field("spec"), object.field("status"));
    let (names, images) = containers(spec.below(&["template", "spec"]).list("containers"));
    let ready = format!("{}/{}", number(status, "readyReplicas"), number(spec, "replicas"));
    vec![object.name().into(), ready.into(), age(object, now).into(), names.into(), images.into()]
}

pub(crate) fn cron_job(object: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (object.field("spec"), object.field("status"));
    let template = spec.below(&["jobTemplate", "spec"]);
    let (names, images) = containers(template.below(&["template", "spec"]).list("containers"));
    let last = status.text("lastScheduleTime");
    let suspend = match spec.field("suspend").as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    vec![
        object.name().into(),
        spec.text("schedule").into(),
        or_none(spec.text("timeZone")).into(),
        suspend.into(),
        status.list("active").len().into(),
        if last.is_empty() { "<none>".into() } else { since(last, now).into() },
        age(object, now).into(),
        names.into(),
        images.into(),
        selector(template.field("selector")).into(),
    ]
}

pub(crate) fn resource_quota(object: &Object, now: Timestamp) -> Vec<Value> {
    let status = object.field("status");
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let mut hard: Vec<_> = status.entries("hard").collect();
    hard.sort_by_key(|(name, _)| name.as_str());
    for (name, most) in hard {
        let used = status.below(&["used", name]);
        let used = if used.is_null() { "0".to_owned() } else { plain(used) };
        let to = if name.starts_with("limits.") { &mut limits } else { &mut requests };
        to.push(format!("{name}: {used}/{}", plain(most)));
    }
    vec![object.name().into(), requests.join(", ").into(), limits.join(", ").into(), age(object, now).into()]
}

fn access_modes(modes: &[Value]) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let found = short.iter().filter(|(mode, _)| modes.iter().any(|one| one == mode));
    found.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn storage_class_of(object: &Object) -> &str {
    object
        .annotation("volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| object.field("spec").text("storageClassName"))
}

fn phase(object: &Object) -> &str {
    if object.is_terminating() { "Terminating" } else { object.field("status").text("phase") }
}

pub(crate) fn persistent_volume(object: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (object.field("spec"), object.field("status"));
    let claim = spec.field("claimRef");
    let claim = match claim.is_null() {
        true => String::new(),
        false => format!("{}/{}", claim.text("namespace"), claim.text("name")),
    };
    vec![
        object.name().into(),
        or(spec.field("capacity").text("storage"), "0").into(),
        access_modes(spec.list("accessModes")).into(),
        spec.text("persistentVolumeReclaimPolicy").into(),
        phase(object).into(),
        claim.into(),
        storage_class_of(object).into(),
        or(spec.text("volumeAttributesClassName"), "<unset>").into(),
        status.text("reason").into(),
        age(object, now).into(),
        or(spec.text("volumeMode"), "<unset>").into(),
    ]
}

pub(crate) fn persistent_volume_claim(object: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (object.field("spec"), object.field("status"));
    let volume = spec.text("volumeName");
    let (capacity, modes) = if volume.is_empty() {
        ("", String::new())
    } else {
        (or(status.field("capacity").text("storage"), "0"), access_modes(status.list("accessModes")))
    };
    vec![
        object.name().into(),
        phase(object).into(),
        volume.into(),
        capacity.into(),
        modes.into(),
        storage_class_of(object).into(),
        or(spec.text("volumeAttributesClassName"), "<unset>").into(),
        age(object, now).into(),
        or(spec.text("volumeMode"), "<unset>").into(),
    ]
}

pub(crate) fn api_service(object: &Object, now: Timestamp) -> Vec<Value> {
    let service = object.below(&["spec", "service"]);
    let service = match service.is_null() {
        true => "Local".to_owned(),
        false => format!("{}/{}", service.text("namespace"), service.text("name")),
    };
    let available =
        object.field("status").list("conditions").iter().find(|one| one.text("type") == "Available");
    let available = match available {
        Some(one) if one.text("status") == "True" => "True".to_owned(),
        Some(one) => format!("{} ({})", one.text("status"), one.text("reason")),
        None => "Unknown".to_owned(),
    };
    vec![object.name().into(), service.into(), available.into(), age(object, now).into()]
}

pub(crate) fn controller_revision(object: &Object, now: Timestamp) -> Vec<Value> {
    let controller = object.owner_references().find(|one| one.controller).map(|one| {
        let kind = one.kind.to_lowercase();
        match one.api_version.split_once('/') {
            Some((group, _)) => format!("{kind}.{group}/{}", one.name),
            None => format!("{kind}/{}", one.name),
        }
    });
    let controller = controller.unwrap_or_else(|| "<none>".to_owned());
    vec![
        object.name().into(),
        controller.into(),
        object.field("revision").as_i64().unwrap_or_default().into(),
        age(object, now).into(),
    ]
}

pub(crate) fn certificate_signing_request(object: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (object.field("spec"), object.field("status"));
    let has = |kind: &str| status.list("conditions").iter().any(|one| one.text("type") == kind);
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied".to_owned(),
        (false, true) => "Approved".to_owned(),
        (false, false) => "Pending".to_owned(),
    };
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !status.text("certificate").is_empty() {
        state.push_str(",Issued");
    }
    let duration =
        spec.int("expirationSeconds").map_or_else(|| "<none>".to_owned(), api::time::human_duration);
    vec![
        object.name().into(),
        age(object, now).into(),
        or_none(spec.text("signerName")).into(),
        spec.text("username").into(),
        duration.into(),
        state.into(),
    ]
}

pub(crate) fn ingress_class(object: &Object, now: Timestamp) -> Vec<Value> {
    let spec = object.field("spec");
    let mut name = object.name().to_owned();
    if object.annotation("ingressclass.kubernetes.io/is-default-class") == Some("true") {
        name.push_str(" (default)");
    }
    let parameters = spec.field("parameters");
    let parameters = match (parameters.is_null(), parameters.text("apiGroup")) {
        (true, _) => "<none>".to_owned(),
        (false, "") => format!("{}/{}", parameters.text("kind"), parameters.text("name")),
        (false, group) => format!("{}.{group}/{}", parameters.text("kind"), parameters.text("name")),
    };
    vec![name.into(), spec.text("controller").into(), parameters.into(), age(object, now).into()]
}

pub(crate) fn ingress(object: &Object, now: Timestamp) -> Vec<Value> {
    let spec = object.field("spec");
    let rules = spec.list("rules");
    let hosts: Vec<&str> =
        rules.iter().take(3).map(|rule| rule.text("host")).filter(|host| !host.is_empty()).collect();
    let hosts = match (hosts.is_empty(), rules.len()) {
        (true, _) => "*".to_owned(),
        (false, all @ 4..) => format!("{} + {} more...", hosts.join(","), all - 3),
        (false, _) => hosts.join(","),
    };
    vec![
        object.name().into(),
        or_none(spec.text("ingressClassName")).into(),
        hosts.into(),
        load_balancer(object.field("status")).into(),
        if spec.list("tls").is_empty() { "80".into() } else { "80, 443".into() },
        age(object, now).into(),
    ]
}

pub(crate) fn ip_address(object: &Object, _: Timestamp) -> Vec<Value> {
    let parent = object.below(&["spec", "parentRef"]);
    let text = if parent.is_null() {
        "<none>".to_owned()
    } else {
        let mut text = api::status::qualified(parent.text("group"), parent.text("resource")).to_lowercase();
        for part in [parent.text("namespace"), parent.text("name")].iter().filter(|part| !part.is_empty()) {
            text.push('/');
            text.push_str(part);
        }
        text
    };
    vec![object.name().into(), text.into()]
}

pub(crate) fn network_policy(object: &Object, now: Timestamp) -> Vec<Value> {
    let pods = selector(object.below(&["spec", "podSelector"]));
    vec![object.name().into(), pods.into(), age(object, now).into()]
}

pub(crate) fn service_cidr(object: &Object, now: Timestamp) -> Vec<Value> {
    let cidrs: Vec<&str> = object.field("spec").list("cidrs").iter().filter_map(Value::as_str).collect();
    vec![object.name().into(), cidrs.join(",").into(), age(object, now).into()]
}

pub(crate) fn disruption_budget(object: &Object, now: Timestamp) -> Vec<Value> {
    let spec = object.field("spec");
    let bound = |name: &str| if spec.has(name) { plain(spec.field(name)) } else { "N/A".to_owned() };
    vec![
        object.name().into(),
        bound("minAvailable").into(),
        bound("maxUnavailable").into(),
        number(object.field("status"), "disruptionsAllowed").into(),
        age(object, now).into(),
    ]
}

pub(crate) fn csi_driver(object: &Object, now: Timestamp) -> Vec<Value> {
    let spec = object.field("spec");
    let texts =
        |name: &str, of: fn(&Value) -> &str| spec.list(name).iter().map(of).collect::<Vec<_>>().join(",");
    let tokens = match spec.has("tokenRequests") {
        true => texts("tokenRequests", |one| one.text("audience")),
        false => "<unset>".to_owned(),
    };
    let modes = texts("volumeLifecycleModes", |one| one.as_str().unwrap_or_default());
    vec![
        object.name().into(),
        spec.field("attachRequired").as_bool().unwrap_or(true).into(),
        spec.flag("podInfoOnMount").into(),
        spec.flag("storageCapacity").into(),
        tokens.into(),
        spec.flag("requiresRepublish").into(),
        or_none(&modes).into(),
        age(object, now).into(),
    ]
}

pub(crate) fn csi_node(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.field("spec").list("drivers").len().into(), age(object, now).into()]
}

pub(crate) fn storage_class(object: &Object, now: Timestamp) -> Vec<Value> {
    let mut name = object.name().to_owned();
    let is_default = |annotation: &str| object.annotation(annotation) == Some("true");
    if is_default("storageclass.kubernetes.io/is-default-class")
        || is_default("storageclass.beta.kubernetes.io/is-default-class")
    {
        name.push_str(" (default)");
    }
    vec![
        name.into(),
        object.text(&["provisioner"]).into(),
        or(object.text(&["reclaimPolicy"]), "Delete").into(),
        or(object.text(&["volumeBindingMode"]), "Immediate").into(),
        Fields::flag(object, "allowVolumeExpansion").into(),
        age(object, now).into(),
    ]
}

pub(crate) fn volume_attachment(object: &Object, now: Timestamp) -> Vec<Value> {
    let spec = object.field("spec");
    vec![
        object.name().into(),
        spec.text("attacher").into(),
        spec.field("source").text("persistentVolumeName").into(),
        spec.text("nodeName").into(),
        object.field("status").flag("attached").into(),
        age(object, now).into(),
    ]
}

pub(crate) fn attributes_class(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.text(&["driverName"]).into(), age(object, now).into()]
}

fn admission_policy(object: &Object, now: Timestamp, list: &str) -> Vec<Value> {
    let spec = object.field("spec");
    let kind = spec.field("paramKind");
    let kind = match kind.is_null() {
        true => "<unset>".to_owned(),
        false => format!("{}/{}", kind.text("apiVersion"), kind.text("kind")),
    };
    vec![object.name().into(), spec.list(list).len().into(), kind.into(), age(object, now).into()]
}

pub(crate) fn mutating_policy(object: &Object, now: Timestamp) -> Vec<Value> {
    admission_policy(object, now, "mutations")
}

pub(crate) fn validating_policy(object: &Object, now: Timestamp) -> Vec<Value> {
    admission_policy(object, now, "validations")
}

pub(crate) fn policy_binding(object: &Object, now: Timestamp) -> Vec<Value> {
    let spec = object.field("spec");
    let param = spec.field("paramRef");
    let param = match (param.text("name"), param.text("namespace")) {
        ("", _) if param.has("selector") => selector(param.field("selector")),
        ("", _) => "<unset>".to_owned(),
        (name, namespace) => format!("{}/{name}", or(namespace, "*")),
    };
    vec![object.name().into(), spec.text("policyName").into(), param.into(), age(object, now).into()]
}

pub(crate) fn webhooks(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.list("webhooks").len().into(), age(object, now).into()]
}

pub(crate) fn priority_class(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        object.name().into(),
        object.field("value").as_i64().unwrap_or_default().into(),
        Fields::flag(object, "globalDefault").into(),
        age(object, now).into(),
        object.text(&["preemptionPolicy"]).into(),
    ]
}

pub(crate) fn runtime_class(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.text(&["handler"]).into(), age(object, now).into()]
}

pub(crate) fn resource_claim(object: &Object, now: Timestamp) -> Vec<Value> {
    let status = object.field("status");
    let mut states = Vec::new();
    if object.is_terminating() {
        states.push("deleted");
    }
    if status.has("allocation") {
        states.push("allocated");
        if !status.list("reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !object.is_terminating() {
        states.push("pending");
    }
    vec![object.name().into(), states.join(",").into(), age(object, now).into()]
}

pub(crate) fn resource_slice(object: &Object, now: Timestamp) -> Vec<Value> {
    let spec = object.field("spec");
    vec![
        object.name().into(),
        spec.text("nodeName").into(),
        spec.text("driver").into(),
        spec.field("pool").text("name").into(),
        age(object, now).into(),
    ]
}

pub(crate) fn flow_schema(object: &Object, now: Timestamp) -> Vec<Value> {
    let spec = object.field("spec");
    let dangling =
        object.field("status").list("conditions").iter().find(|one| one.text("type") == "Dangling");
    vec![
        object.name().into(),
        spec.field("priorityLevelConfiguration").text("name").into(),
        number(spec, "matchingPrecedence").into(),
        or_none(spec.field("distinguisherMethod").text("type")).into(),
        age(object, now).into(),
        dangling.map_or("?", |one| one.text("status")).into(),
    ]
}

pub(crate) fn priority_level(object: &Object, now: Timestamp) -> Vec<Value> {
    let spec = object.field("spec");
    let limited = spec.field("limited");
    let queuing = limited.below(&["limitResponse", "queuing"]);
    let or_none = |value: &Value| if value.is_null() { "<none>".into() } else { value.clone() };
    vec![
        object.name().into(),
        spec.text("type").into(),
        or_none(limited.field("nominalConcurrencyShares")),
        or_none(queuing.field("queues")),
        or_none(queuing.field("handSize")),
        or_none(queuing.field("queueLengthLimit")),
        age(object, now).into(),
    ]
}
