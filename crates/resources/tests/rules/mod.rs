//! Valid and invalid objects of each kind with rules, and the exact texts that
//! clients read.

mod core;
mod limits;
mod pods;
mod workloads;

use std::sync::{Arc, OnceLock};

use api::Object;
use api::schema::conform;
use resources::{Catalogue, Descriptor, Part};
use serde_json::{Value, json};

fn kind(resource: &str) -> Arc<Descriptor> {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    let catalogue = CATALOGUE.get_or_init(Catalogue::built_in);
    let (group, resource) = resource.split_once('/').unwrap_or(("", resource));
    let found = catalogue.iter().find(|one| one.group == group && one.resource == resource);
    found.unwrap_or_else(|| panic!("no {group}/{resource}")).clone()
}

/// An object as the server has it before it validates: conformed, defaulted,
/// prepared. `changes` are laid over `base` as a merge patch.
fn made(resource: &str, base: &Value, changes: Value) -> Object {
    let kind = kind(resource);
    let mut value = base.clone();
    api::patch::merge_patch(&mut value, changes);
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.kind.clone().into();
    if value["metadata"].is_null() {
        value["metadata"] = json!({});
    }
    if value["metadata"]["name"].is_null() {
        value["metadata"]["name"] = "a".into();
    }
    if kind.namespaced && value["metadata"]["namespace"].is_null() {
        value["metadata"]["namespace"] = "n".into();
    }
    value["metadata"]["uid"] = "u".into();
    value["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    let mut object = Object::from_value(value).expect("an object");
    let found = conform(&kind.shape.0, kind.shape.1, object.as_map_mut()).expect("an object that conforms");
    assert_eq!(found.unknown, Vec::<String>::new());
    kind.strategy.default(&mut object);
    kind.strategy.prepare_create(&mut object);
    object
}

fn texts(errors: &[api::FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// What a create of `base` with `changes` is told.
fn create(resource: &str, base: &Value, changes: Value) -> Vec<String> {
    let object = made(resource, base, changes);
    let kind = kind(resource);
    let mut errors = resources::metadata::validate(&kind, &object);
    errors.extend(kind.strategy.validate(&object));
    texts(&errors)
}

/// What an update of `part` by `changes` is told.
fn update(resource: &str, part: Part<'_>, base: &Value, changes: Value) -> Vec<String> {
    let (_, errors) = updated(resource, part, &made(resource, base, json!({})), changes);
    errors
}

fn updated(resource: &str, part: Part<'_>, old: &Object, changes: Value) -> (Object, Vec<String>) {
    let kind = kind(resource);
    let mut old = old.clone();
    old.set_at(&["metadata", "resourceVersion"], "1");
    let mut new = old.clone().into_value();
    api::patch::merge_patch(&mut new, changes);
    let mut new = Object::from_value(new).expect("an object");
    conform(&kind.shape.0, kind.shape.1, new.as_map_mut()).expect("an object that conforms");
    kind.strategy.default(&mut new);
    kind.strategy.prepare_update(part, &mut new, &old);
    let mut errors = resources::metadata::validate_update(&kind, &new, &old);
    if part == Part::Main {
        errors.extend(kind.strategy.validate(&new));
    }
    errors.extend(kind.strategy.validate_update(part, &new, &old));
    (new, texts(&errors))
}

/// Each case is a name, changes of a valid object, and what they are told.
fn check(resource: &str, base: &Value, cases: &[(Value, &[&str])]) {
    assert_eq!(create(resource, base, json!({})), Vec::<String>::new(), "the valid {resource}");
    for (changes, expected) in cases {
        assert_eq!(create(resource, base, changes.clone()), *expected, "{changes}");
    }
}

fn row(resource: &str, object: Value) -> Vec<String> {
    let kind = kind(resource);
    let object = Object::from_value(object).expect("an object");
    let now = "2026-01-01T01:00:00Z".parse().expect("a time");
    let cells = kind.strategy.cells(&object, now);
    assert_eq!(cells.len(), kind.columns.len());
    cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
}
