//! Roles, cluster roles and their bindings.

use api::{ErrorList, Object, Path};
use jiff::Timestamp;
use serde_json::Value;

use super::{cells, pod::scheduling};
use crate::fields::{Fields, default_text, object_at, objects_in, same};
use crate::report::Report;
use crate::{Part, Strategy, metadata, names};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The behaviour of roles and cluster roles.
pub(super) struct Role {
    /// Whether they live in namespaces.
    pub(super) namespaced: bool,
}

/// The behaviour of role bindings and cluster role bindings.
pub(super) struct Binding {
    /// Whether they live in namespaces.
    pub(super) namespaced: bool,
}

impl Strategy for Role {
    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let rules = Path::new("rules");
        for (index, one) in object.list("rules").iter().enumerate() {
            rule(one, self.namespaced, &rules.index(index), &mut errors);
        }
        let aggregation = object.field("aggregationRule");
        if !self.namespaced && !aggregation.is_null() {
            let root = Path::new("aggregationRule");
            let path = root.child("clusterRoleSelectors");
            let selectors = aggregation.list("clusterRoleSelectors");
            if selectors.is_empty() {
                let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.required(&path, detail);
            }
            for (index, selector) in selectors.iter().enumerate() {
                scheduling::label_selector(selector, &path.index(index), &mut errors);
            }
        }
        errors
    }

    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        cells::name_and_creation(object, now)
    }
}

fn rule(rule: &Value, namespaced: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let is_empty = |list: &str| rule.list(list).is_empty();
    if is_empty("verbs") {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if !is_empty("nonResourceURLs") {
        let (at, urls) = (path.child("nonResourceURLs"), rule.field("nonResourceURLs"));
        if namespaced {
            errors.invalid(&at, urls.clone(), "namespaced rules cannot apply to non-resource URLs");
        }
        if !is_empty("apiGroups") || !is_empty("resources") || !is_empty("resourceNames") {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&at, urls.clone(), detail);
        }
        return;
    }
    if is_empty("apiGroups") {
        errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if is_empty("resources") {
        errors.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
}

impl Strategy for Binding {
    fn default(&self, object: &mut Object) {
        if let Some(role) = object_at(object.as_map_mut(), "roleRef") {
            default_text(role, "apiGroup", GROUP);
        }
        for subject in objects_in(object.as_map_mut(), "subjects") {
            if matches!(subject.text("kind"), "User" | "Group") {
                default_text(subject, "apiGroup", GROUP);
            }
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let (role, path) = (object.field("roleRef"), Path::new("roleRef"));
        errors.one_of(&path.child("apiGroup"), role.text("apiGroup"), &[GROUP]);
        let kinds: &[&str] = if self.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
        errors.one_of(&path.child("kind"), role.text("kind"), kinds);
        let name = role.text("name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.invalid_all(&path.child("name"), name, names::path_segment(name, false));
        }
        let subjects = Path::new("subjects");
        for (index, one) in object.list("subjects").iter().enumerate() {
            subject(one, self.namespaced, &subjects.index(index), &mut errors);
        }
        errors
    }

    fn validate_update(&self, _part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        if !same(new.field("roleRef"), old.field("roleRef")) {
            let role = new.field("roleRef");
            let shown = format!(
                r#"{{"APIGroup":{:?},"Kind":{:?},"Name":{:?}}}"#,
                role.text("apiGroup"),
                role.text("kind"),
                role.text("name")
            );
            let error = api::FieldError::invalid(&Path::new("roleRef"), Value::Null, "cannot change roleRef");
            errors.add_shown(error, &shown);
        }
        errors
    }

    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let role = object.field("roleRef");
        let of = |kind: &str| {
            let found = object.list("subjects").iter().filter(|one| one.text("kind") == kind);
            let names = found.map(|one| match (kind, one.text("namespace")) {
                ("ServiceAccount", namespace) if !namespace.is_empty() => {
                    format!("{namespace}/{}", one.text("name"))
                }
                _ => one.text("name").to_owned(),
            });
            names.collect::<Vec<_>>().join(", ")
        };
        vec![
            object.name().into(),
            format!("{}/{}", role.text("kind"), role.text("name")).into(),
            metadata::age(object, now).into(),
            of("User").into(),
            of("Group").into(),
            of("ServiceAccount").into(),
        ]
    }
}

fn subject(subject: &Value, namespaced: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let (name, group) = (subject.text("name"), subject.text("apiGroup"));
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.invalid_all(&path.child("name"), name, names::subdomain(name));
            }
            errors.one_of(&path.child("apiGroup"), group, &[""]);
            if !namespaced && subject.text("namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => errors.one_of(&path.child("apiGroup"), group, &[GROUP]),
        other => errors.one_of(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}
