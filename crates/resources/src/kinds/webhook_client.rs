//! How webhooks are reached: `clientConfig` and the versions of their reviews,
//! following `k8s.io/apiserver/pkg/util/webhook`.

use api::{ErrorList, Path};
use serde_json::Value;

use crate::fields::Fields;
use crate::names;
use crate::report::Report;

const FORM: &str = "; desired format: https://host[/path]";
/// The versions of reviews that are spoken.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// Rules for a `clientConfig`: one of `url` and `service`.
pub(super) fn client_config(config: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match (config.field("url").as_str(), config.field("service")) {
        (Some(text), Value::Null) => url(text, &path.child("url"), errors),
        (None, of) if of.is_object() => service(of, &path.child("service"), errors),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

/// Rules for the versions of reviews; `hint` is said when there are none.
pub(super) fn review_versions(versions: &[Value], hint: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if versions.is_empty() {
        return errors.required(path, hint);
    }
    let texts: Vec<&str> = versions.iter().map(|one| one.as_str().unwrap_or_default()).collect();
    for (index, text) in texts.iter().enumerate() {
        let at = path.index(index);
        if texts[..index].contains(text) {
            errors.invalid(&at, *text, "duplicate version");
        } else {
            errors.invalid_all(&at, text, names::dns1035_label(text, false));
        }
    }
    if !texts.iter().any(|text| REVIEWS.contains(text)) {
        let detail = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.invalid(path, versions.to_vec(), detail);
    }
}

fn url(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if scheme != "https" {
        errors.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if host.is_empty() {
        errors.invalid(path, host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn service(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    errors.required_text(of, "name", path);
    errors.required_text(of, "namespace", path);
    let port = of.int("port").unwrap_or(443);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        errors.invalid(&path.child("port"), port, format!("port is not valid: {}", wrong.join(", ")));
    }
    let (at, text) = (path.child("path"), of.text("path"));
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        return errors.invalid(&at, text, "segment[0] may not be empty");
    }
    if !text.starts_with('/') {
        errors.invalid(&at, text, "must start with a '/'");
    }
    let inner: String = text.chars().skip(1).collect();
    for (index, step) in inner.strip_suffix('/').unwrap_or(&inner).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&at, text, format!("segment[{index}] may not be empty"));
            continue;
        }
        for wrong in names::subdomain(step) {
            errors.invalid(&at, text, format!("segment[{index}]: {wrong}"));
        }
    }
}
