//! Certificate signing requests.

mod contents;

use std::collections::HashSet;

use api::{ErrorList, FieldError, Object, Path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
        let usages = spec.list("usages");
        if usages.is_empty() {
            errors.required(&path.child("usages"), "");
        }
        known_once(usages, &path.child("usages"), &mut errors);
        let (signer, at) = (spec.text("signerName"), path.child("signerName"));
        if signer == "kubernetes.io/legacy-unknown" {
            errors.invalid(&at, signer, "the legacy signerName is not allowed via this API version");
        } else {
            signer_name(signer, &at, &mut errors);
        }
        if let Some(seconds) = spec.int("expirationSeconds").filter(|seconds| *seconds < 600) {
            let detail = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.invalid(&path.child("expirationSeconds"), seconds, detail);
        }
        errors
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let (text, spec) = (object.field("spec").text("request"), Path::new("spec"));
        let request = STANDARD.decode(text).unwrap_or_default();
        if let Some(why) = contents::request_error(&request) {
            errors.invalid(&spec.child("request"), text, why);
        }
        errors
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        conditions(new, old, &mut errors);
        let certificate = |of: &Object| of.field("status").field("certificate").clone();
        let (before, after) = (certificate(old), certificate(new));
        if part != Part::Status || same(&before, &after) {
            return errors;
        }
        let status = Path::new("status");
        let at = status.child("certificate");
        let pem = STANDARD.decode(after.as_str().unwrap_or_default()).unwrap_or_default();
        if !pem.is_empty()
            && let Some(why) = contents::certificates_error(&pem)
        {
            errors.invalid(&at, "<certificate data>", why);
        }
        if !before.is_null() {
            errors.forbidden(&at, "updates may not modify existing certificate content");
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

/// The uses that a certificate can have, in upstream's order.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn known_once(usages: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, usage) in usages.iter().filter_map(Value::as_str).enumerate() {
        let at = path.index(index);
        errors.one_of(&at, usage, &USAGES);
        if !seen.insert(usage) {
            errors.duplicate(&at, usage);
        }
    }
}

/// Rules for conditions: those that decide are true, stay, and do not contradict
/// each other.
fn conditions(new: &Object, old: &Object, errors: &mut ErrorList) {
    let status = Path::new("status");
    let path = status.child("conditions");
    let all = |of: &Object| of.field("status").list("conditions").to_vec();
    let (before, after) = (all(old), all(new));
    let has = |list: &[Value], kind: &str| list.iter().any(|one| one.text("type") == kind);
    let mut seen = HashSet::new();
    for (index, condition) in after.iter().enumerate() {
        let (at, kind) = (path.index(index), condition.text("type"));
        if kind.is_empty() {
            errors.required(&at.child("type"), "");
        }
        let is_final = matches!(kind, "Approved" | "Denied" | "Failed");
        let allowed: &[&str] = if is_final { &["True"] } else { &["False", "True", "Unknown"] };
        errors.required_one_of(&at.child("status"), condition.text("status"), allowed);
        if !seen.insert(kind) {
            errors.duplicate(&at.child("type"), kind);
        }
    }
    let contradicts = |list: &[Value]| has(list, "Approved") && has(list, "Denied");
    if contradicts(&after) && !contradicts(&before) {
        let last = after.iter().rev().map(|one| one.text("type"));
        let shown = last.into_iter().find(|kind| matches!(*kind, "Approved" | "Denied")).unwrap_or_default();
        errors.invalid(&path, shown, "Approved and Denied conditions are mutually exclusive");
    }
    for kind in ["Approved", "Denied", "Failed"] {
        if has(&before, kind) && !has(&after, kind) {
            errors.forbidden(&path, format!("updates may not remove a condition of type {kind:?}"));
        }
    }
}

/// Rules for the name of a signer (`ValidateSignerName`).
fn signer_name(signer: &str, path: &Path<'_>, errors: &mut ErrorList) {
    const LONGEST: usize = 253 + 1 + 253 + 63 + 1;
    if signer.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((domain, rest)) = signer.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.invalid(path, signer, detail);
        return;
    };
    if domain.len() > 253 {
        errors.add(FieldError::too_long(path, 253));
    }
    first_wrong(domain, names::label, path, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid(path, domain, detail);
    }
    first_wrong(rest, names::subdomain, path, errors);
    if signer.len() > LONGEST {
        errors.add(FieldError::too_long(path, LONGEST));
    }
}

/// What is wrong with the first bad part between dots.
fn first_wrong(text: &str, rule: fn(&str) -> Vec<String>, path: &Path<'_>, errors: &mut ErrorList) {
    let found = text.split('.').map(|part| (part, rule(part))).find(|(_, wrong)| !wrong.is_empty());
    for (part, why) in
        found.into_iter().flat_map(|(part, wrong)| wrong.into_iter().map(move |why| (part, why)))
    {
        errors.invalid(path, text, format!("validating label {part:?}: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_by_themselves() {
        let told = |change: Value| {
            let mut spec = json!({"signerName": "a.b/c", "usages": ["client auth"], "request": ""});
            api::patch::merge_patch(&mut spec, change);
            let object = Object::from_value(json!({"spec": spec})).expect("an object");
            SigningRequest.validate(&object).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(json!({})), Vec::<String>::new());
        for (change, expected) in [
            (json!({"usages": []}), "spec.usages: Required value"),
            (
                json!({"usages": ["client auth", "client auth"]}),
                "spec.usages[1]: Duplicate value: \"client auth\"",
            ),
            (json!({"signerName": ""}), "spec.signerName: Required value"),
            (
                json!({"signerName": "a/b"}),
                "spec.signerName: Invalid value: \"a\": should be a domain with at least two segments separated by dots",
            ),
            (
                json!({"signerName": "a.b"}),
                "spec.signerName: Invalid value: \"a.b\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ),
            (
                json!({"expirationSeconds": 599}),
                "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
            ),
        ] {
            assert_eq!(told(change), [expected]);
        }
        assert!(
            told(json!({"usages": ["nothing"]}))[0]
                .starts_with("spec.usages[0]: Unsupported value: \"nothing\"")
        );
    }

    #[test]
    fn conditions_stay() {
        let with = |list: &[(&str, &str)]| {
            let one = |(kind, status): &(&str, &str)| json!({"type": kind, "status": status});
            let conditions: Vec<Value> = list.iter().map(one).collect();
            Object::from_value(json!({"status": {"conditions": conditions}})).expect("an object")
        };
        let told = |new: &[(&str, &str)], old: &[(&str, &str)]| {
            let found = SigningRequest.validate_update(Part::Status, &with(new), &with(old));
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let approved = ("Approved", "True");
        assert_eq!(told(&[approved], &[]), Vec::<String>::new());
        for (new, old, expected) in [
            (
                &[approved, ("Denied", "True")][..],
                &[approved][..],
                "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
            ),
            (
                &[],
                &[approved],
                "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"",
            ),
            (
                &[("Approved", "False")],
                &[],
                "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"",
            ),
            (&[("Other", "True"); 2], &[], "status.conditions[1].type: Duplicate value: \"Other\""),
        ] {
            assert_eq!(told(new, old), [expected]);
        }
    }
}
