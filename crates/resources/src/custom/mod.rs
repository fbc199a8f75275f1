//! Custom resources: from a definition to the same descriptors that built-in
//! kinds have, so that they take the same path.
//!
//! Start reading in [`descriptors`], then [`structural`] for what a schema is.

mod columns;
mod default;
mod format;
mod ownership;
mod prune;
mod rules;
mod strategy;
pub(crate) mod structural;
mod validate;

pub(crate) use format::fits as has_format;
pub(crate) use rules::{errors_of as rule_errors, uses_old as rule_uses_old};

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, LazyLock};

use api::Object;
use api::jsonpath::Template;
use serde_json::Value;

use crate::descriptor::ScalePaths;
use crate::fields::Fields;
use crate::{Descriptor, Subresource};
use strategy::{Compiled, Custom, Read, Selectable};
use structural::Structural;

/// What clients may do to custom resources.
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// How many values a definition's path may visit in one object.
const MOST_VISITED: usize = 10_000;
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

/// The served versions of a definition, with the names that it was accepted with.
///
/// # Errors
/// A schema that cannot be used, though it was accepted.
pub fn descriptors(definition: &Object) -> Result<Vec<Descriptor>, String> {
    let spec = definition.field("spec");
    let names = definition.field("status").field("acceptedNames");
    let group = spec.text("group");
    let versions = spec.list("versions");
    let stored = versions.iter().find(|version| version.flag("storage"));
    let stored = stored.ok_or("no version is the stored one")?.text("name");
    let mut served: Vec<&Value> = versions.iter().filter(|version| version.flag("served")).collect();
    served.sort_by_key(|version| std::cmp::Reverse(priority(version.text("name"))));
    let mut found = Vec::new();
    for version in served {
        found.push(descriptor(spec, names, version, &format!("{group}/{stored}"))?);
    }
    Ok(found)
}

/// How much clients prefer a version: `v10` before `v2` before `v2beta1` before
/// anything else, as upstream orders them.
fn priority(name: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let parsed = || -> Option<(u8, u64, u64)> {
        let rest = name.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        let stage = &rest[digits..];
        if stage.is_empty() {
            return Some((3, major, 0));
        }
        let (rank, minor) = match (stage.strip_prefix("beta"), stage.strip_prefix("alpha")) {
            (Some(minor), _) => (2, minor),
            (None, Some(minor)) => (1, minor),
            (None, None) => return None,
        };
        Some((rank, major, minor.parse().ok()?))
    };
    let (rank, major, minor) = parsed().unwrap_or_default();
    (rank, major, minor, std::cmp::Reverse(name.to_owned()))
}

/// A path of a definition, whose author may mean harm.
fn path(text: &str) -> Result<Template, String> {
    let template = Template::parse(text).map_err(|error| format!("{text}: {error}"))?;
    Ok(template.limited_to(MOST_VISITED))
}

/// Checks a value of an object against a schema.
pub(crate) fn check(map: &serde_json::Map<String, Value>, of: &Structural) -> api::ErrorList {
    validate::validate(map, of)
}

fn descriptor(
    spec: &Value,
    names: &Value,
    version: &Value,
    stored_version: &str,
) -> Result<Descriptor, String> {
    let (group, name, kind) = (spec.text("group"), version.text("name"), names.text("kind"));
    let document = version.below(&["schema", "openAPIV3Schema"]);
    let subresources = version.field("subresources");
    let has_status = subresources.has("status");
    let scale = scale_paths(subresources.field("scale"));
    let columns = columns::of(version)?;
    let converts = spec.list("versions").len() > 1;
    let mut selectable = Vec::new();
    for field in version.list("selectableFields") {
        let text = field.text("jsonPath");
        let shown = text.trim_start_matches('.').to_owned();
        // Versions may mean different things by one name.
        let stored = if converts { format!("{name}/{shown}") } else { shown.clone() };
        selectable.push(Selectable { shown, stored, path: path(text)? });
    }
    let text: Arc<str> = document.to_string().into();
    let schema: Arc<Read> = Arc::new(LazyLock::new({
        let text = Arc::clone(&text);
        // It was written from a value just now.
        Box::new(move || Compiled::of(&serde_json::from_str(&text).unwrap_or_default()))
    }));
    let shape = LazyLock::new({
        let (schema, name) = (Arc::clone(&schema), format!("{group}/{name}.{kind}"));
        Box::new(move || ownership::schema(&name, &schema.structural)) as Box<_>
    });
    let api_version = format!("{group}/{name}");
    let headings = columns.iter().map(|column| column.heading.clone()).collect();
    let main = |name: &str| Subresource {
        name: name.to_owned(),
        kind: kind.to_owned(),
        group_version: None,
        verbs: words(&STATUS_VERBS),
        scale: None,
    };
    let mut parts = Vec::new();
    if has_status {
        parts.push(main("status"));
    }
    if let Some(paths) = scale {
        parts.push(Subresource {
            kind: "Scale".to_owned(),
            group_version: Some(("autoscaling".to_owned(), "v1".to_owned())),
            scale: Some(paths),
            ..main("scale")
        });
    }
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let form = format!("{name}/{:x}", hasher.finish());
    let strategy = Custom {
        schema,
        document: text,
        columns,
        selectable,
        has_status,
        stored_version: stored_version.to_owned(),
        api_version,
        form,
    };
    let conversion = spec.field("conversion");
    let conversion = (conversion.text("strategy") == "Webhook").then(|| conversion.field("webhook"));
    let list = |field: &str| names.list(field).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(Descriptor {
        group: group.to_owned(),
        version: name.to_owned(),
        resource: names.text("plural").to_owned(),
        kind: kind.to_owned(),
        singular: names.text("singular").to_owned(),
        short_names: list("shortNames"),
        categories: list("categories"),
        namespaced: spec.text("scope") == "Namespaced",
        verbs: words(&VERBS),
        subresources: parts,
        columns: headings,
        shape: Arc::new(shape),
        storage: (group.to_owned(), names.text("plural").to_owned()),
        stored_version: stored_version.to_owned(),
        conversion: conversion.cloned().map(Arc::new),
        strategy: Arc::new(strategy),
    })
}

fn scale_paths(scale: &Value) -> Option<ScalePaths> {
    let path = |field: &str| -> Vec<String> {
        let text = scale.text(field).trim_start_matches('.');
        text.split('.').filter(|step| !step.is_empty()).map(str::to_owned).collect()
    };
    scale.is_object().then(|| ScalePaths {
        spec_replicas: path("specReplicasPath"),
        status_replicas: path("statusReplicasPath"),
        selector: path("labelSelectorPath"),
    })
}

#[cfg(test)]
mod tests;
