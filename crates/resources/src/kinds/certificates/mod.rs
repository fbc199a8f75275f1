//! Certificate signing requests.

use api::{ErrorList, Object, Path};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use crate::fields::{Fields, same};
use crate::report::Report;
use crate::{Part, Strategy, metadata, names};

/// The behaviour of certificate signing requests.
pub(super) struct SigningRequest;

impl Strategy for SigningRequest {
    fn default(&self, object: &mut Object) {
        if object.has("spec") && !object.field("spec").has("usages") {
            object.set_at(&["spec", "usages"], json!(["digital signature", "key encipherment"]));
        }
    }

    fn prepare_create(&self, object: &mut Object) {
        object.set("status", json!({}));
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        let written = new.field("status").clone();
        match part {
            // The spec never changes, neither does who asked.
            Part::Main => {
                metadata::keep_other_parts(part, new, old);
                if let Some(spec) = old.get("spec") {
                    new.set("spec", spec.clone());
                }
            }
            Part::Status => {
                metadata::keep_other_parts(part, new, old);
                let decided = |one: &&Value| matches!(one.text("type"), "Approved" | "Denied");
                let mut conditions: Vec<Value> =
                    old.field("status").list("conditions").iter().filter(decided).cloned().collect();
                conditions.extend(written.list("conditions").iter().filter(|one| !decided(one)).cloned());
                if !conditions.is_empty() {
                    new.set_at(&["status", "conditions"], conditions);
                }
            }
            Part::Other(_) => {
                // An approval brings conditions, never a certificate.
                metadata::keep_other_parts(Part::Status, new, old);
                let mut status = old.field("status").clone();
                if let Some(conditions) = written.get("conditions") {
                    if !status.is_object() {
                        status = json!({});
                    }
                    status["conditions"] = conditions.clone();
                }
                new.set("status", status);
            }
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let (spec, path) = (object.field("spec"), Path::new("spec"));
        if spec.text("request").is_empty() {
            errors.required(&path.child("request"), "");
        }
        if spec.list("usages").is_empty() {
            errors.required(&path.child("usages"), "usages is required");
        }
        let (signer, at) = (spec.text("signerName"), path.child("signerName"));
        match signer.split_once('/') {
            _ if signer.is_empty() => errors.required(&at, ""),
            Some((domain, name)) if !name.is_empty() => {
                errors.invalid_all(&at, domain, names::subdomain(domain));
            }
            _ => {
                let detail =
                    "must be a fully qualified domain and path of the form 'example.com/signer-name'";
                errors.invalid(&at, signer, detail);
            }
        }
        if let Some(seconds) = spec.int("expirationSeconds").filter(|seconds| *seconds < 600) {
            let detail = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.invalid(&path.child("expirationSeconds"), seconds, detail);
        }
        errors
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let root = Path::new("status");
        let path = root.child("conditions");
        let conditions = |of: &Object| of.field("status").list("conditions").to_vec();
        let has = |kind: &str| conditions(new).iter().any(|one| one.text("type") == kind);
        if has("Approved") && has("Denied") {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&path, new.field("status").field("conditions").clone(), detail);
        }
        for condition in conditions(old) {
            let kind = condition.text("type");
            if matches!(kind, "Approved" | "Denied" | "Failed") && !has(kind) {
                let detail = format!("updates may not remove a condition of type {kind:?}");
                errors.forbidden(&path, detail);
            }
        }
        let certificate = |of: &Object| of.field("status").field("certificate").clone();
        if part == Part::Status && !certificate(old).is_null() && !same(&certificate(old), &certificate(new))
        {
            let detail = "updates may not set certificate content when one is already present";
            errors.forbidden(&root.child("certificate"), detail);
        }
        errors
    }

    fn selectable_names(&self) -> Vec<&str> {
        vec!["spec.signerName"]
    }

    fn selectable(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", object.field("spec").text("signerName").to_owned())]
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        cells::certificate_signing_request(object, now)
    }
}
