//! Whom a webhook wants to see, and how it is called; from its registration.

use std::time::Duration;

use api::Object;
use resources::cel::admission;
use serde_json::{Map, Value};

use super::review::Version;
use crate::admission::Request;
use crate::admission::equivalents::Seen;
use crate::admission::expressions::Conditions;
use crate::admission::matching::{Rules, Selectors};
use crate::connect::Destination;
use crate::registry::Kinds;

/// What a failed call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnFailure {
    Fail,
    Ignore,
}

/// One webhook.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    /// The registration's name and the webhook's.
    pub(super) id: String,
    pub(super) name: String,
    /// Where it is, or why that cannot be read.
    pub(super) destination: Result<Destination, String>,
    pub(super) version: Version,
    pub(super) timeout: Duration,
    pub(super) on_failure: OnFailure,
    pub(super) allows_dry_run: bool,
    pub(super) is_reinvoked: bool,
    pub(super) conditions: Conditions,
    rules: Rules,
    selectors: Selectors,
}

/// The webhooks of a registration, in its order.
pub(super) fn read(registration: &Object) -> Vec<Webhook> {
    let list = registration.get("webhooks").and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter().map(|one| webhook(registration.name(), one)).collect()
}

fn webhook(registration: &str, of: &Value) -> Webhook {
    let text = |field: &str| of[field].as_str().unwrap_or_default().to_owned();
    let seconds = of["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30);
    let version = Version::first_known(&of["admissionReviewVersions"]);
    let mut destination = Destination::read(&of["clientConfig"], &format!("?timeout={seconds}s"));
    if version.is_none() {
        destination = Err("webhook does not accept known AdmissionReview versions (v1, v1beta1)".to_owned());
    }
    let selectors = Selectors::read(of).unwrap_or_else(|error| {
        destination = Err(error);
        Selectors::default()
    });
    let name = text("name");
    Webhook {
        id: format!("{registration}/{name}"),
        name,
        destination,
        version: version.unwrap_or_default(),
        timeout: Duration::from_secs(seconds),
        on_failure: if text("failurePolicy") == "Ignore" { OnFailure::Ignore } else { OnFailure::Fail },
        allows_dry_run: matches!(text("sideEffects").as_str(), "None" | "NoneOnDryRun"),
        is_reinvoked: text("reinvocationPolicy") == "IfNeeded",
        conditions: Conditions::read(&of["matchConditions"], &admission::known),
        rules: Rules::read(&of["rules"], &of["matchPolicy"]),
        selectors,
    }
}

impl Webhook {
    /// As what the webhook wants to see a request. Without labels, the request is in
    /// no namespace.
    pub(super) fn wants(
        &self,
        request: &Request<'_>,
        namespace: Option<&Map<String, Value>>,
        kinds: &Kinds,
    ) -> Option<Seen> {
        self.rules.fit(request, kinds).filter(|_| self.selectors.select(request, namespace))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use resources::Catalogue;
    use serde_json::json;

    use super::*;
    use crate::admission::{Late, Operation};
    use crate::authn::User;
    use crate::registry::Caller;

    #[test]
    fn rules_and_selectors_choose() {
        let catalogue = Catalogue::built_in();
        let kinds = Kinds::new(&catalogue);
        let pods = catalogue.find("", "v1", "pods").expect("pods");
        let caller = Caller { user: Arc::new(User::default()), field_manager: String::new() };
        let mut pod = Object::default();
        pod.set_at(&["metadata", "labels", "app"], "web");
        let request = |subresource: &'static str| Request {
            kind: pods,
            requested: None,
            subresource,
            operation: Operation::Create,
            namespace: "n",
            name: "p",
            caller: &caller,
            object: Some(pod.clone()),
            old: None,
            dry_run: false,
            warnings: Vec::new(),
            late: Late::default(),
        };
        let labels = json!({"team": "a"}).as_object().cloned();
        let of = |resources: Value, more: Value| {
            let mut value = json!({
                "name": "h", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://h/"},
                "rules": [{"apiGroups": [""], "apiVersions": ["*"], "operations": ["CREATE"], "resources": resources}],
            });
            for (key, one) in more.as_object().into_iter().flatten() {
                value[key] = one.clone();
            }
            webhook("r", &value)
        };
        for (resources, subresource, wanted) in [
            (json!(["pods"]), "", true),
            (json!(["pods"]), "status", false),
            (json!(["pods/*"]), "status", true),
            (json!(["*"]), "", true),
            (json!(["*/status"]), "status", true),
            (json!(["*/*"]), "", true),
            (json!(["services"]), "", false),
        ] {
            let found =
                of(resources.clone(), json!({})).wants(&request(subresource), labels.as_ref(), &kinds);
            assert_eq!(found.is_some(), wanted, "{resources} {subresource}");
        }
        for (more, wanted) in [
            (json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}), true),
            (json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}), false),
            (json!({"objectSelector": {"matchLabels": {"app": "web"}}}), true),
            (json!({"objectSelector": {"matchLabels": {"app": "db"}}}), false),
        ] {
            let found = of(json!(["pods"]), more.clone()).wants(&request(""), labels.as_ref(), &kinds);
            assert_eq!(found.is_some(), wanted, "{more}");
        }
        assert!(of(json!([]), json!({"admissionReviewVersions": ["v7"]})).destination.is_err());
    }
}
