//! OpenAPI v3 documents, one for each group version, made from the schema that
//! the server itself decodes with, so that they cannot disagree.

pub(crate) mod v2;
pub(crate) mod wire;

use std::sync::Arc;

use resources::Descriptor;
use resources::openapi::{components, definition_of, reference};
use serde_json::{Map, Value, json};

/// The document of one group version.
#[must_use]
pub(crate) fn document(kinds: &[Arc<Descriptor>], group: &str, version: &str) -> Value {
    let own: Vec<_> = kinds.iter().filter(|kind| kind.group == group && kind.version == version).collect();
    let mut paths = Map::new();
    for kind in &own {
        let gvk = json!({"group": group, "version": version, "kind": kind.kind});
        let reference = reference(&definition_of(kind));
        for (path, operations) in paths_of(kind, &gvk, &reference) {
            paths.insert(path, operations);
        }
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths,
        "components": components(kinds, group, version),
    })
}

fn paths_of(kind: &Descriptor, gvk: &Value, reference: &Value) -> Vec<(String, Value)> {
    let root = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    let scope = if kind.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
    let operation = |action: &str| {
        let parameters: Vec<Value> = parameters_of(action)
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
            .collect();
        json!({
            "parameters": parameters,
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
        })
    };
    let mut of_collection = Map::new();
    let mut of_object = Map::new();
    for verb in &kind.verbs {
        let (into, method) = match verb.as_str() {
            "list" => (&mut of_collection, "get"),
            "create" => (&mut of_collection, "post"),
            "deletecollection" => (&mut of_collection, "delete"),
            "get" => (&mut of_object, "get"),
            "update" => (&mut of_object, "put"),
            "patch" => (&mut of_object, "patch"),
            "delete" => (&mut of_object, "delete"),
            _ => continue,
        };
        into.insert(method.to_owned(), operation(verb));
    }
    let mut paths = vec![(format!("{scope}/{}", kind.resource), Value::Object(of_collection))];
    if kind.namespaced && kind.allows("list") {
        paths.push((format!("{root}/{}", kind.resource), json!({"get": operation("list")})));
    }
    if !of_object.is_empty() {
        paths.push((format!("{scope}/{}/{{name}}", kind.resource), Value::Object(of_object)));
    }
    paths
}

/// The query parameters that clients look for before they use them.
fn parameters_of(action: &str) -> &'static [&'static str] {
    match action {
        "create" | "update" | "patch" => &["dryRun", "fieldManager", "fieldValidation"],
        "delete" | "deletecollection" => &["dryRun", "gracePeriodSeconds", "propagationPolicy"],
        "list" => &[
            "allowWatchBookmarks",
            "continue",
            "fieldSelector",
            "labelSelector",
            "limit",
            "resourceVersion",
            "watch",
        ],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use resources::Catalogue;

    use super::*;

    #[test]
    fn every_reference_resolves() {
        let kinds: Vec<_> = Catalogue::built_in().iter().cloned().collect();
        let document = document(&kinds, "apps", "v1");
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let text = document.to_string();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().expect("closed");
            assert!(schemas.contains_key(name), "{name}");
        }
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(
            schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"][0]["kind"],
            "Deployment"
        );
    }
}
