//! Rules for API services, following `pkg/apis/apiregistration`.

use api::{ErrorList, Object, Path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::fields::Fields;
use crate::report::Report;
use crate::{Part, names};

/// Rules for a service by itself (`ValidateAPIService`).
pub(super) fn service(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    let (group, version) = (spec.text("group"), spec.text("version"));
    let name = format!("{version}.{group}");
    if object.name() != name {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {name:?}");
        errors.invalid(&Path::new("metadata").child("name"), object.name(), detail);
    }
    if !group.is_empty() {
        errors.invalid_all(&path.child("group"), group, names::subdomain(group));
    } else if version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.required(&path.child("group"), detail);
    }
    errors.invalid_all(&path.child("version"), version, names::dns1035_label(version, false));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.int(field).unwrap_or_default();
        if !(1..=most).contains(&priority) {
            let detail = format!("must be positive and less than {most}");
            errors.invalid(&path.child(field), priority, detail);
        }
    }
    trust(object, &mut errors);
    errors
}

/// Where the group is served, and whose certificate it shows.
fn trust(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    let (bundle, is_blind) = (spec.text("caBundle"), spec.flag("insecureSkipTLSVerify"));
    let blind = path.child("insecureSkipTLSVerify");
    if !spec.has("service") {
        if !bundle.is_empty() {
            let detail = "local APIServices may not have a caBundle";
            let held = STANDARD.decode(bundle).map_or(bundle.len(), |bundle| bundle.len());
            errors.invalid(&path.child("caBundle"), format!("{held} bytes"), detail);
        }
        if is_blind {
            errors.invalid(&blind, true, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    let (service, at) = (spec.field("service"), path.child("service"));
    errors.required_text(service, "namespace", &at);
    errors.required_text(service, "name", &at);
    let port = service.int("port").unwrap_or_default();
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        errors.invalid(&at.child("port"), port, format!("port is not valid: {}", wrong.join(", ")));
    }
    if is_blind && !bundle.is_empty() {
        errors.invalid(&blind, true, "may not be true if caBundle is present");
    }
}

/// Rules for a change: the conditions of a status.
pub(super) fn service_update(part: Part<'_>, new: &Object, _old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if part == Part::Status {
        let path = Path::new("status");
        let list = path.child("conditions");
        for (index, condition) in new.field("status").list("conditions").iter().enumerate() {
            let at = list.index(index);
            errors.one_of(&at.child("status"), condition.text("status"), &["True", "False", "Unknown"]);
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn services() {
        let told = |change: Value| {
            let mut value = json!({
                "metadata": {"name": "v1.a.b"},
                "spec": {
                    "group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
                    "service": {"namespace": "n", "name": "s", "port": 443},
                },
            });
            api::patch::merge_patch(&mut value, change);
            let object = Object::from_value(value).expect("an object");
            service(&object).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for good in
            [json!({}), json!({"spec": {"service": null}}), json!({"spec": {"insecureSkipTLSVerify": true}})]
        {
            assert_eq!(told(good), Vec::<String>::new());
        }
        for (change, expected) in [
            (
                json!({"metadata": {"name": "other"}}),
                "metadata.name: Invalid value: \"other\": must be `spec.version+\".\"+spec.group`: \"v1.a.b\"",
            ),
            (
                json!({"spec": {"versionPriority": 0}}),
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
            ),
            (json!({"spec": {"service": {"name": null}}}), "spec.service.name: Required value"),
            (
                json!({"spec": {"service": {"port": 0}}}),
                "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ),
            (
                json!({"spec": {"insecureSkipTLSVerify": true, "caBundle": "YQ=="}}),
                "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
            ),
            (
                json!({"spec": {"service": null, "insecureSkipTLSVerify": true}}),
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
            ),
        ] {
            assert_eq!(told(change), [expected]);
        }
    }
}
