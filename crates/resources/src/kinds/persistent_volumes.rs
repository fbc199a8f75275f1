//! Rules for persistent volumes (`ValidatePersistentVolume`), and for those that a
//! volume attachment holds inline.

use api::{ErrorList, FieldError, Object, Path, Quantity};
use serde_json::Value;

use super::claims::access_modes;
use super::pod::resources::{quantity, value};
use super::pod::{scheduling, volumes};
use super::storage::driver_name;
use crate::fields::{Fields, same};
use crate::report::Report;
use crate::{Part, metadata, names};

const POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
/// The fields that say where the data is, in upstream's order.
const SOURCES: [&str; 23] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
    "image",
];
const SECRETS: [&str; 4] = [
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
];

/// Rules for a volume by itself.
pub(super) fn volume(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    access_modes(spec, "", &path, &mut errors);
    capacity(spec.field("capacity"), &path.child("capacity"), &mut errors);
    let policy = spec.text("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        errors.one_of(&path.child("persistentVolumeReclaimPolicy"), policy, &POLICIES);
    }
    let (affinity, at) = (spec.field("nodeAffinity"), path.child("nodeAffinity"));
    if affinity.has("required") {
        scheduling::node_selector(affinity.field("required"), &at.child("required"), &mut errors);
    } else if !affinity.is_null() {
        errors.required(&at.child("required"), "must specify required node constraints");
    }
    source(spec, object.name(), &path, &mut errors);
    if spec.has("local") && affinity.is_null() {
        errors.required(&at, "Local volume requires node affinity");
    }
    let host_path = spec.field("hostPath").text("path");
    let is_root = !host_path.is_empty() && host_path.split('/').all(|part| matches!(part, "" | "."));
    if policy == "Recycle" && is_root {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), detail);
    }
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        errors.invalid_all(&path.child("storageClassName"), class, names::subdomain(class));
    }
    if spec.has("volumeMode") {
        errors.one_of(&path.child("volumeMode"), spec.text("volumeMode"), &["Block", "Filesystem"]);
    }
    attributes_class(spec, &path, &mut errors);
    errors
}

/// Rules for the specification of a volume that no object stands for.
pub(super) fn inline(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const INLINE: &str = "may not be specified in the context of inline volumes";
    for field in ["claimRef", "capacity"] {
        if !crate::fields::is_empty(spec.field(field)) {
            errors.forbidden(&path.child(field), INLINE);
        }
    }
    if !spec.has("csi") {
        errors.required(&path.child("csi"), "has to be specified in the context of inline volumes");
    }
    access_modes(spec, "", path, errors);
    for (field, only) in [("persistentVolumeReclaimPolicy", "Retain"), ("volumeMode", "Filesystem")] {
        let text = spec.text(field);
        if !text.is_empty() && text != only {
            let may =
                if field == "volumeMode" { "may not specify volumeMode other than" } else { "may only be" };
            errors.forbidden(&path.child(field), format!("{may} {only} in the context of inline volumes"));
        }
    }
    source(spec, "", path, errors);
    for field in ["nodeAffinity", "storageClassName"] {
        if spec.has(field) && spec.field(field) != "" {
            errors.forbidden(&path.child(field), INLINE);
        }
    }
    attributes_class(spec, path, errors);
}

fn capacity(capacity: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let amounts: Vec<_> = capacity.as_object().into_iter().flatten().collect();
    if amounts.is_empty() {
        errors.required(path, "");
    }
    if !capacity.has("storage") || amounts.len() > 1 {
        errors.add(FieldError::not_supported(path, capacity.clone(), &["storage"]));
    }
    for (name, amount) in amounts {
        let at = path.key(name);
        if quantity(amount) <= Quantity::ZERO {
            errors.invalid(&at, amount.clone(), "must be greater than zero");
        } else {
            value(name, amount, &at, errors);
        }
    }
}

fn attributes_class(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let field = "volumeAttributesClassName";
    if !spec.has(field) {
        return;
    }
    let (class, at) = (spec.text(field), path.child(field));
    if class.is_empty() {
        errors.required(&at, "an empty string is disallowed");
    } else {
        errors.invalid_all(&at, class, names::subdomain(class));
    }
    if !spec.has("csi") {
        errors.required(&path.child("csi"), "has to be specified when using volumeAttributesClassName");
    }
}

fn source(spec: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let mut found = SOURCES.into_iter().filter(|field| spec.has(field));
    let Some(kind) = found.next() else {
        errors.required(path, "must specify a volume type");
        return;
    };
    let (of, at) = (spec.field(kind), path.child(kind));
    match kind {
        "hostPath" => volumes::host_path(of, &at, errors),
        "nfs" => volumes::nfs(of, &at, errors),
        "local" => {
            let text = of.text("path");
            if text.is_empty() {
                errors.required(&at.child("path"), "");
            } else {
                volumes::no_backsteps(text, &at.child("path"), errors);
            }
        }
        "csi" => csi(of, &at, errors),
        "fc" => fibre_channel(of, &at, errors),
        "iscsi" => iscsi(of, name, &at, errors),
        other => {
            for field in required_of(other) {
                errors.required_text(of, field, &at);
            }
        }
    }
    for other in found {
        errors.forbidden(&path.child(other), "may not specify more than 1 volume type");
    }
}

/// What sources without rules of their own must name.
fn required_of(source: &str) -> &'static [&'static str] {
    match source {
        "gcePersistentDisk" => &["pdName"],
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "glusterfs" => &["endpoints", "path"],
        "rbd" => &["image"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "azureDisk" => &["diskName", "diskURI"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        _ => &[],
    }
}

fn csi(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    driver_name(of.text("driver"), &path.child("driver"), errors);
    errors.required_text(of, "volumeHandle", path);
    for field in SECRETS.into_iter().filter(|field| of.has(field)) {
        let (secret, at) = (of.field(field), path.child(field));
        let rules: [(&str, fn(&str) -> Vec<String>); 2] =
            [("name", names::subdomain), ("namespace", names::label)];
        for (field, rule) in rules {
            let (text, at) = (secret.text(field), at.child(field));
            if text.is_empty() {
                errors.required(&at, "");
            } else {
                errors.invalid_all(&at, text, rule(text));
            }
        }
    }
}

fn fibre_channel(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (names, ids, at) = (of.list("targetWWNs"), of.list("wwids"), path.child("targetWWNs"));
    match (names.is_empty(), ids.is_empty()) {
        (true, true) => errors.required(&at, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            errors.invalid(&at, names.to_vec(), detail);
        }
        _ => {}
    }
    if names.is_empty() {
        return;
    }
    match of.int("lun") {
        None => errors.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
        Some(lun) => unit(lun, path, errors),
    }
}

fn unit(lun: i64, path: &Path<'_>, errors: &mut ErrorList) {
    if !(0..=255).contains(&lun) {
        errors.invalid(&path.child("lun"), lun, names::between(0, 255));
    }
}

fn iscsi(of: &Value, volume: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let portal = of.text("targetPortal");
    errors.required_text(of, "targetPortal", path);
    if of.has("initiatorName") && volume.len() + 1 + portal.len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.invalid(&path.child("targetportal"), portal, detail);
    }
    errors.required_text(of, "iqn", path);
    for (field, shown) in [("iqn", "iqn"), ("initiatorName", "initiatorname")] {
        let name = of.text(field);
        let is_empty = name.is_empty() && (field == "iqn" || !of.has(field));
        if !is_empty && !["iqn.", "eui.", "naa."].iter().any(|prefix| name.starts_with(prefix)) {
            errors.invalid(&path.child(shown), name, "must be valid format");
        }
    }
    unit(of.int("lun").unwrap_or_default(), path, errors);
    let authenticates = of.flag("chapAuthDiscovery") || of.flag("chapAuthSession");
    let secret = path.child("secretRef");
    if authenticates && !of.has("secretRef") {
        errors.required(&secret, "");
    }
    if of.has("secretRef") {
        errors.required_text(of.field("secretRef"), "name", &secret);
    }
}

/// Rules for a change of a volume: where the data is stays, and what it looks like.
pub(super) fn volume_update(part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if part != Part::Main {
        return errors;
    }
    let (before, after) = (old.field("spec"), new.field("spec"));
    let is_kept = SOURCES.iter().all(|source| {
        let (before, mut after) = (before.field(source), after.field(source).clone());
        // A secret for growing may come later.
        if *source == "csi"
            && !before.has("controllerExpandSecretRef")
            && before.is_object()
            && let Some(after) = after.as_object_mut()
        {
            after.remove("controllerExpandSecretRef");
        }
        same(before, &after)
    });
    let path = Path::new("spec");
    if !is_kept {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.forbidden(&path.child("persistentvolumesource"), detail);
    }
    let mode = "volumeMode";
    metadata::immutable(after.field(mode), before.field(mode), &Path::new(mode), &mut errors);
    if before.has("nodeAffinity") {
        let field = "nodeAffinity";
        metadata::immutable(after.field(field), before.field(field), &Path::new(field), &mut errors);
    }
    let class = "volumeAttributesClassName";
    if before.has(class) && !after.has(class) {
        errors.forbidden(&path.child(class), "update from non-nil value to nil is forbidden");
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(change: Value) -> Object {
        let mut spec = json!({
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a", "type": ""},
            "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem",
        });
        api::patch::merge_patch(&mut spec, change);
        Object::from_value(json!({"metadata": {"name": "v"}, "spec": spec})).expect("an object")
    }

    #[test]
    fn volumes_by_themselves() {
        let told =
            |change: Value| volume(&object(change)).iter().map(ToString::to_string).collect::<Vec<_>>();
        let csi = |change: Value| {
            let mut csi = json!({"driver": "a.b", "volumeHandle": "h"});
            api::patch::merge_patch(&mut csi, change);
            json!({"hostPath": null, "csi": csi})
        };
        let zone = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "z", "operator": "Exists"}]}]}});
        for good in [
            json!({}),
            csi(json!({"nodePublishSecretRef": {"name": "s", "namespace": "n"}})),
            json!({"hostPath": null, "local": {"path": "/a"}, "nodeAffinity": zone}),
            json!({"hostPath": null, "nfs": {"server": "s", "path": "/a"}}),
        ] {
            assert_eq!(told(good), Vec::<String>::new());
        }
        for (change, expected) in [
            (json!({"accessModes": []}), "spec.accessModes: Required value"),
            (
                json!({"accessModes": ["ReadWriteOncePod", "ReadOnlyMany"]}),
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ),
            (
                json!({"capacity": {"storage": "0"}}),
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
            ),
            (
                json!({"persistentVolumeReclaimPolicy": "Burn"}),
                "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
            ),
            (
                json!({"persistentVolumeReclaimPolicy": "Recycle", "hostPath": {"path": "/"}}),
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ),
            (json!({"hostPath": null}), "spec: Required value: must specify a volume type"),
            (
                json!({"nfs": {"server": "s", "path": "/a"}}),
                "spec.nfs: Forbidden: may not specify more than 1 volume type",
            ),
            (csi(json!({"volumeHandle": ""})), "spec.csi.volumeHandle: Required value"),
            (
                csi(json!({"nodePublishSecretRef": {"name": "s"}})),
                "spec.csi.nodePublishSecretRef.namespace: Required value",
            ),
            (
                json!({"hostPath": null, "local": {"path": "/a"}}),
                "spec.nodeAffinity: Required value: Local volume requires node affinity",
            ),
            (
                json!({"volumeAttributesClassName": "c"}),
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
            ),
            (
                json!({"hostPath": null, "fc": {"targetWWNs": ["a"], "lun": 256}}),
                "spec.fc.lun: Invalid value: 256: must be between 0 and 255, inclusive",
            ),
            (
                json!({"hostPath": null, "iscsi": {"targetPortal": "p", "iqn": "x"}}),
                "spec.iscsi.iqn: Invalid value: \"x\": must be valid format",
            ),
        ] {
            assert_eq!(told(change), [expected]);
        }
    }

    #[test]
    fn changes() {
        let told = |change: Value| volume_update(Part::Main, &object(change), &object(json!({}))).len();
        assert_eq!(
            told(json!({"capacity": {"storage": "2Gi"}, "persistentVolumeReclaimPolicy": "Delete"})),
            0
        );
        assert_eq!(told(json!({"hostPath": {"path": "/b"}})), 1);
        assert_eq!(told(json!({"volumeMode": "Block"})), 1);
    }
}
