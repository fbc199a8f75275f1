//! Config maps, secrets, service accounts and leases: data with few rules.

use api::{ErrorList, FieldError, Object, Path};
use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::fields::{Fields, default_text, same};
use crate::report::Report;
use crate::{Part, Strategy, metadata, names};

/// The largest config map or secret, in bytes.
const MAX_SIZE: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";

/// The behaviour of config maps.
pub(super) struct ConfigMap;
/// The behaviour of secrets.
pub(super) struct Secret;
/// The behaviour of service accounts.
pub(super) struct ServiceAccount;
/// The behaviour of leases.
pub(super) struct Lease;

/// The bytes behind base64.
fn decoded(value: &Value) -> Vec<u8> {
    let engine = base64::engine::general_purpose::STANDARD;
    value.as_str().and_then(|text| engine.decode(text).ok()).unwrap_or_default()
}

fn frozen(new: &Object, old: &Object, fields: &[&str]) -> ErrorList {
    let mut errors = ErrorList::new();
    if !Fields::flag(old, "immutable") {
        return errors;
    }
    if !Fields::flag(new, "immutable") {
        errors.forbidden(&Path::new("immutable"), FROZEN);
    }
    for field in fields {
        if !same(new.field(field), old.field(field)) {
            errors.forbidden(&Path::new(field), FROZEN);
        }
    }
    errors
}

fn count(object: &Object, field: &str) -> usize {
    object.field(field).as_object().map_or(0, Map::len)
}

impl Strategy for ConfigMap {
    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let mut size = 0;
        for (key, value) in object.entries("data") {
            let path = Path::new("data");
            errors.invalid_all(&path.key(key), key, names::config_map_key(key));
            if object.field("binaryData").get(key).is_some() {
                errors.invalid(&path.key(key), key.as_str(), "duplicate of key present in binaryData");
            }
            size += value.as_str().map_or(0, str::len);
        }
        for (key, value) in object.entries("binaryData") {
            let path = Path::new("binaryData");
            errors.invalid_all(&path.key(key), key, names::config_map_key(key));
            size += decoded(value).len();
        }
        if size > MAX_SIZE {
            errors.add(FieldError::too_long(&Path::new(""), MAX_SIZE));
        }
        errors
    }

    fn validate_update(&self, _part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        frozen(new, old, &["data", "binaryData"])
    }

    fn creates_on_update(&self) -> bool {
        false
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let keys = count(object, "data") + count(object, "binaryData");
        vec![object.name().into(), keys.into(), metadata::age(object, now).into()]
    }
}

impl Strategy for Secret {
    fn default(&self, object: &mut Object) {
        default_text(object.as_map_mut(), "type", "Opaque");
        // `stringData` is write-only: it lands in `data`.
        if let Some(Value::Object(texts)) = object.remove("stringData") {
            let engine = base64::engine::general_purpose::STANDARD;
            for (key, text) in texts {
                let encoded = engine.encode(text.as_str().unwrap_or_default());
                object.set_at(&["data", &key], encoded);
            }
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let data = Path::new("data");
        let mut size = 0;
        for (key, value) in object.entries("data") {
            errors.invalid_all(&data.key(key), key, names::config_map_key(key));
            size += decoded(value).len();
        }
        if size > MAX_SIZE {
            errors.add(FieldError::too_long(&data, MAX_SIZE));
        }
        by_type(object, &data, &mut errors);
        errors
    }

    fn validate_update(&self, _part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::immutable(new.field("type"), old.field("type"), &Path::new("type"), &mut errors);
        errors.extend(frozen(new, old, &["data"]));
        errors
    }

    fn selectable_names(&self) -> Vec<&str> {
        vec!["type"]
    }

    fn selectable(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("type", object.text(&["type"]).to_owned())]
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let keys = count(object, "data");
        vec![
            object.name().into(),
            object.text(&["type"]).into(),
            keys.into(),
            metadata::age(object, now).into(),
        ]
    }
}

/// What the type of a secret wants to find in it.
fn by_type(object: &Object, data: &Path<'_>, errors: &mut ErrorList) {
    let value = |key: &str| object.field("data").get(key);
    match object.text(&["type"]) {
        "kubernetes.io/service-account-token" => {
            const NAME: &str = "kubernetes.io/service-account.name";
            if object.annotation(NAME).unwrap_or_default().is_empty() {
                let path = Path::new("metadata");
                errors.required(&path.child("annotations").key(NAME), "");
            }
        }
        "kubernetes.io/dockercfg" => json_value(value(".dockercfg"), &data.key(".dockercfg"), errors),
        "kubernetes.io/dockerconfigjson" => {
            json_value(value(".dockerconfigjson"), &data.key(".dockerconfigjson"), errors);
        }
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            errors.required(&data.key("username"), "");
            errors.required(&data.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(|one| decoded(one).is_empty()) => {
            errors.required(&data.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if value(key).is_none() {
                    errors.required(&data.key(key), "");
                }
            }
        }
        _ => {}
    }
}

fn json_value(value: Option<&Value>, path: &Path<'_>, errors: &mut ErrorList) {
    match value {
        None => errors.required(path, ""),
        Some(value) => {
            if let Err(error) = serde_json::from_slice::<Map<String, Value>>(&decoded(value)) {
                errors.invalid(path, "<secret contents redacted>", error.to_string());
            }
        }
    }
}

impl Strategy for ServiceAccount {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), metadata::age(object, now).into()]
    }
}

impl Strategy for Lease {
    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let (spec, path) = (object.field("spec"), Path::new("spec"));
        if let Some(seconds) = spec.int("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
            errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        errors.not_negative(spec, "leaseTransitions", &path);
        if !spec.text("preferredHolder").is_empty() && spec.text("strategy").is_empty() {
            let detail = "may only be specified if `strategy` is defined";
            errors.forbidden(&path.child("preferredHolder"), detail);
        }
        errors
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn updates_unconditionally(&self) -> bool {
        false
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let holder = object.field("spec").text("holderIdentity");
        vec![object.name().into(), holder.into(), metadata::age(object, now).into()]
    }
}
