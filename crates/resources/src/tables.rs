//! The API tables, read once into the schema and the descriptors.
//!
//! The tables are facts about Kubernetes v1.36 (see `tables/`); nothing about a
//! single kind stands in this module. What tells kinds apart in behaviour is
//! looked up in [`crate::kinds`].

mod schema;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use api::schema::Schema;

use crate::descriptor::ScalePaths;
use crate::{Column, Descriptor, Subresource, kinds};

const RESOURCES: &str = include_str!("../tables/resources.tsv");
const COLUMNS: &str = include_str!("../tables/columns.tsv");

/// The shape of every built-in type. Read once per process: descriptors share it.
#[must_use]
pub fn schema() -> Arc<Schema> {
    static SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    SCHEMA.get_or_init(|| Arc::new(schema::read().schema)).clone()
}

/// The lines of a table without its heading, split into columns.
fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split('\t').collect())
}

/// The package of the schema that holds a group's types: `core/v1`, `rbac/v1`.
#[must_use]
pub fn package(group: &str, version: &str) -> String {
    let short = match group {
        "" => "core",
        "flowcontrol.apiserver.k8s.io" => "flowcontrol",
        other => other.split('.').next().unwrap_or(other),
    };
    format!("{short}/{version}")
}

fn group_name(text: &str) -> &str {
    if text == "core" { "" } else { text }
}

fn words(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Every built-in resource, with its subresources, in the order of the table.
pub(crate) fn descriptors() -> Vec<Arc<Descriptor>> {
    let schema = schema();
    let mut columns = columns();
    let mut found: Vec<Descriptor> = Vec::new();
    for row in rows(RESOURCES) {
        let [group, version, path, kind, scope, singular, short_names, categories, verbs, response] =
            row.as_slice()
        else {
            continue;
        };
        let group = group_name(group);
        if let Some((resource, name)) = path.split_once('/') {
            let of = found
                .iter_mut()
                .find(|one| one.resource == resource && one.group == group && one.version == *version);
            if let Some(of) = of {
                of.subresources.push(subresource(name, kind, verbs, response));
            }
            continue;
        }
        let Some(shape) = schema.find(&format!("{}.{kind}", package(group, version))) else { continue };
        let key = (group.to_owned(), (*version).to_owned(), (*path).to_owned());
        let (storage, stored_version) = storage(group, version, path);
        found.push(Descriptor {
            group: group.to_owned(),
            version: (*version).to_owned(),
            resource: (*path).to_owned(),
            kind: (*kind).to_owned(),
            singular: (*singular).to_owned(),
            short_names: words(short_names),
            categories: words(categories),
            namespaced: *scope == "Namespaced",
            verbs: words(verbs),
            subresources: Vec::new(),
            columns: columns.remove(&key).unwrap_or_else(plain_columns),
            shape: Arc::new(LazyLock::new({
                let schema = Arc::clone(&schema);
                Box::new(move || (schema, shape))
            })),
            storage,
            stored_version,
            conversion: None,
            strategy: kinds::strategy(group, version, path, shape),
        });
    }
    found.into_iter().map(Arc::new).collect()
}

fn subresource(name: &str, kind: &str, verbs: &str, response: &str) -> Subresource {
    let group_version = match response.split('/').collect::<Vec<_>>().as_slice() {
        [group, version, _] => Some((group_name(group).to_owned(), (*version).to_owned())),
        _ => None,
    };
    Subresource {
        name: name.to_owned(),
        kind: kind.to_owned(),
        group_version,
        verbs: words(verbs),
        scale: (name == "scale").then(scale_paths),
    }
}

fn scale_paths() -> ScalePaths {
    let path = |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect();
    ScalePaths {
        spec_replicas: path(&["spec", "replicas"]),
        status_replicas: path(&["status", "replicas"]),
        selector: path(&["spec", "selector"]),
    }
}

fn plain_columns() -> Vec<Column> {
    let column = |name: &str, format: &str| Column {
        name: name.into(),
        kind: "string".into(),
        format: format.into(),
        priority: 0,
    };
    vec![column("Name", "name"), column("Age", "")]
}

type ResourceKey = (String, String, String);

fn columns() -> HashMap<ResourceKey, Vec<Column>> {
    let mut all: HashMap<ResourceKey, Vec<Column>> = HashMap::new();
    for row in rows(COLUMNS) {
        let [group, version, resource, name, kind, format, priority] = row.as_slice() else { continue };
        let key = (group_name(group).to_owned(), (*version).to_owned(), (*resource).to_owned());
        all.entry(key).or_default().push(Column {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            format: (*format).to_owned(),
            priority: priority.parse().unwrap_or_default(),
        });
    }
    all
}

/// Where objects of a resource are stored, and in which version: two groups
/// serve the same events, two versions the same autoscalers.
fn storage(group: &str, version: &str, resource: &str) -> ((String, String), String) {
    let (group, version) = match (group, resource) {
        ("events.k8s.io", "events") => ("", "v1"),
        ("autoscaling", "horizontalpodautoscalers") => ("autoscaling", "v2"),
        _ => (group, version),
    };
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ((group.to_owned(), resource.to_owned()), api_version)
}

#[cfg(test)]
mod tests;
