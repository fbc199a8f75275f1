//! Registrations of webhooks.

use api::{ErrorList, Object, Path};
use serde_json::Value;

use super::{FAILURE_POLICIES, REINVOCATION_POLICIES, conditions, rules};
use crate::cel::admission::known;
use crate::fields::Fields;
use crate::kinds::pod::scheduling::label_selector;
use crate::kinds::webhook_client::{client_config, review_versions};
use crate::names;
use crate::report::Report;

const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const WAITS: std::ops::RangeInclusive<i64> = 1..=30;

/// Rules for the webhooks of a registration.
pub(in crate::kinds) fn webhooks(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("webhooks");
    let all = object.field("webhooks").as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, of) in all.iter().enumerate() {
        let at = path.index(index);
        webhook(of, &at, &mut errors);
        let hint = "must specify one of v1, v1beta1";
        let versions = at.child("admissionReviewVersions");
        review_versions(of.list("admissionReviewVersions"), hint, &versions, &mut errors);
        let name = of.text("name");
        if !name.is_empty() && all[..index].iter().any(|other| other.text("name") == name) {
            errors.duplicate(&at.child("name"), name);
        }
    }
    errors
}

fn webhook(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    full_name(of.text("name"), &path.child("name"), errors);
    let list = path.child("rules");
    for (index, one) in of.list("rules").iter().enumerate() {
        rules::rule(one, &list.index(index), errors);
    }
    for (name, allowed) in [
        ("failurePolicy", FAILURE_POLICIES.as_slice()),
        ("matchPolicy", &rules::MATCH_POLICIES),
        ("reinvocationPolicy", &REINVOCATION_POLICIES),
    ] {
        if of.has(name) {
            errors.one_of(&path.child(name), of.text(name), allowed);
        }
    }
    let at = path.child("sideEffects");
    if of.has("sideEffects") {
        errors.one_of(&at, of.text("sideEffects"), &SIDE_EFFECTS);
    } else {
        errors.required(&at, &format!("must specify one of {}", SIDE_EFFECTS.join(", ")));
    }
    if let Some(seconds) = of.int("timeoutSeconds").filter(|seconds| !WAITS.contains(seconds)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.child("timeoutSeconds"), seconds, detail);
    }
    for name in ["namespaceSelector", "objectSelector"] {
        label_selector(of.field(name), &path.child(name), errors);
    }
    client_config(of.field("clientConfig"), &path.child("clientConfig"), errors);
    conditions(of, path, &known, errors);
}

/// A name with a domain of at least two parts behind it.
fn full_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let wrong = names::subdomain(name);
    if !wrong.is_empty() {
        errors.invalid(path, name, wrong.join(","));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.invalid(path, name, detail);
    }
}
