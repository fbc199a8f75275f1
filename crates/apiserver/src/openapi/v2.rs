//! The OpenAPI v2 document of all kinds, made from those of the third version:
//! the same definitions under older rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use resources::Descriptor;
use serde_json::{Map, Value, json};

/// What the second version has no word for.
const UNKNOWN: [&str; 5] = ["oneOf", "anyOf", "not", "nullable", "x-kubernetes-validations"];

/// The document.
#[must_use]
pub(crate) fn document(kinds: &[Arc<Descriptor>]) -> Value {
    let mut versions = BTreeSet::new();
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for kind in kinds {
        if !versions.insert((kind.group.clone(), kind.version.clone())) {
            continue;
        }
        let third = super::document(kinds, &kind.group, &kind.version);
        for (path, item) in third["paths"].as_object().into_iter().flatten() {
            paths.insert(path.clone(), path_item(item));
        }
        for (name, schema) in third["components"]["schemas"].as_object().into_iter().flatten() {
            match definitions.get_mut(name) {
                // A shared type is of several groups.
                Some(known) => join_kinds(known, schema),
                // kubectl would take what is named for all that there may be.
                None if schema[KINDS].is_array() && schema[FREE] == true => {
                    definitions.insert(name.clone(), json!({"type": "object", KINDS: schema[KINDS]}));
                }
                None => {
                    definitions.insert(name.clone(), converted(schema));
                }
            }
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths,
        "definitions": definitions,
    })
}

const KINDS: &str = "x-kubernetes-group-version-kind";
const FREE: &str = "x-kubernetes-preserve-unknown-fields";

fn join_kinds(known: &mut Value, schema: &Value) {
    let Some(more) = schema[KINDS].as_array() else { return };
    let mut all = known[KINDS].as_array().cloned().unwrap_or_default();
    all.extend(more.iter().filter(|one| !all.contains(one)).cloned().collect::<Vec<_>>());
    known[KINDS] = all.into();
}

fn path_item(item: &Value) -> Value {
    let parts = item.as_object().into_iter().flatten();
    let part = |(name, of): (&String, &Value)| {
        let new = if name == "parameters" { parameters(of).into() } else { operation(of) };
        (name.clone(), new)
    };
    Value::Object(parts.map(part).collect())
}

fn operation(of: &Value) -> Value {
    let mut new = Map::new();
    let mut taken = parameters(&of["parameters"]);
    let content = of["requestBody"]["content"].as_object();
    if let Some((media, body)) = content.and_then(|content| content.iter().next()) {
        let schema = converted(&body["schema"]);
        let is_required = &of["requestBody"]["required"];
        taken.insert(0, json!({"name": "body", "in": "body", "required": is_required, "schema": schema}));
        let consumed: Vec<&String> = content.into_iter().flat_map(Map::keys).collect();
        new.insert("consumes".to_owned(), if media == "*/*" { json!(["*/*"]) } else { json!(consumed) });
    }
    new.insert("parameters".to_owned(), taken.into());
    let answers = of["responses"].as_object().into_iter().flatten();
    let answer = |(code, one): (&String, &Value)| {
        let mut new = json!({"description": one["description"]});
        let schema = &one["content"]["application/json"]["schema"];
        if !schema.is_null() {
            new["schema"] = converted(schema);
        }
        (code.clone(), new)
    };
    new.insert("responses".to_owned(), Value::Object(answers.map(answer).collect()));
    for (name, value) in of.as_object().into_iter().flatten() {
        if name.starts_with("x-") || matches!(name.as_str(), "operationId" | "tags") {
            new.insert(name.clone(), value.clone());
        }
    }
    Value::Object(new)
}

/// Parameters of a path or a query, with their types beside their names.
fn parameters(of: &Value) -> Vec<Value> {
    let parameter = |one: &Value| {
        let mut new = json!({
            "name": one["name"], "in": one["in"], "type": one["schema"]["type"], "uniqueItems": true,
        });
        if one["required"] == true {
            new["required"] = true.into();
        }
        new
    };
    of.as_array().into_iter().flatten().map(parameter).collect()
}

/// Adds what another server says of a group version: its paths, and the definitions
/// that this one does not have.
pub(crate) fn add(document: &mut Value, other: &Value, group: &str, version: &str) {
    let under = format!("/apis/{group}/{version}/");
    let entries = |of: &'static str| other[of].as_object().into_iter().flatten();
    if let Some(paths) = document["paths"].as_object_mut() {
        let own = entries("paths").filter(|(path, _)| path.starts_with(&under));
        paths.extend(own.map(|(path, item)| (path.clone(), item.clone())));
    }
    if let Some(definitions) = document["definitions"].as_object_mut() {
        for (name, definition) in entries("definitions") {
            definitions.entry(name.clone()).or_insert_with(|| definition.clone());
        }
    }
}

/// A schema of the third version as one of the second.
fn converted(schema: &Value) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    if let Some(Value::String(target)) = map.get("$ref") {
        let name = target.rsplit('/').next().unwrap_or_default();
        return json!({"$ref": format!("#/definitions/{name}")});
    }
    // The third version wraps a reference, so that facts can stand beside it.
    if let Some([only]) = map.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
        && only.get("$ref").is_some()
    {
        let mut new = converted(only);
        for (name, value) in map.iter().filter(|(name, _)| *name != "allOf") {
            new[name] = value.clone();
        }
        return new;
    }
    let is_free = map.get(FREE) == Some(&Value::Bool(true));
    let mut new = Map::new();
    for (name, value) in map {
        let value = match name.as_str() {
            name if UNKNOWN.contains(&name) => continue,
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                Value::Object(properties.map(|(name, one)| (name.clone(), converted(one))).collect())
            }
            // Old clients refuse fields beside those that are named.
            "type" | "items" if is_free => continue,
            "items" | "additionalProperties" => converted(value),
            "allOf" => value.as_array().into_iter().flatten().map(converted).collect(),
            _ => value.clone(),
        };
        new.insert(name.clone(), value);
    }
    let is_scalar = map.get("oneOf").is_some() && !new.contains_key("properties");
    if is_scalar {
        new.entry("type").or_insert_with(|| "string".into());
    }
    if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        new.remove("type");
    }
    Value::Object(new)
}

#[cfg(test)]
mod tests {
    use resources::Catalogue;

    use super::*;

    #[test]
    fn every_reference_resolves() {
        let kinds: Vec<_> = Catalogue::built_in().iter().cloned().collect();
        let document = document(&kinds);
        let definitions = document["definitions"].as_object().expect("definitions");
        let text = document.to_string();
        for part in text.split("\"#/definitions/").skip(1) {
            let name = part.split('"').next().expect("closed");
            assert!(definitions.contains_key(name), "{name}");
        }
        assert!(!text.contains("\"oneOf\":[") && !text.contains("#/components"));
        let quantity = &definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"];
        assert_eq!(quantity["type"], "string");
        let spec = &definitions["io.k8s.api.core.v1.Pod"]["properties"]["spec"];
        assert_eq!(spec, &json!({"$ref": "#/definitions/io.k8s.api.core.v1.PodSpec"}));
        let options = &definitions["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"];
        assert_eq!(options["type"], "object");
        let pods = &document["paths"]["/api/v1/namespaces/{namespace}/pods"]["post"];
        assert_eq!(pods[KINDS]["kind"], "Pod");
        let body = &pods["parameters"][0];
        assert_eq!(
            (&body["in"], &body["schema"]["$ref"]),
            (&json!("body"), &json!("#/definitions/io.k8s.api.core.v1.Pod"))
        );
        let limit = document["paths"]["/api/v1/pods"]["get"]["parameters"].as_array().expect("a list");
        assert!(limit.iter().any(|one| one["name"] == "limit" && one["type"] == "integer"));
        assert_eq!(pods["responses"]["200"]["schema"]["$ref"], "#/definitions/io.k8s.api.core.v1.Pod");
    }

    #[test]
    fn what_another_server_says_is_added() {
        let mut own = json!({"paths": {"/api/v1/pods": {}}, "definitions": {"A": {"type": "object"}}});
        let other = json!({
            "paths": {"/apis/x.io/v1/ys": {"get": {}}, "/apis/": {}, "/apis/x.io/v2/ys": {}},
            "definitions": {"A": {"type": "string"}, "B": {}},
        });
        add(&mut own, &other, "x.io", "v1");
        assert_eq!(
            own,
            json!({
                "paths": {"/api/v1/pods": {}, "/apis/x.io/v1/ys": {"get": {}}},
                "definitions": {"A": {"type": "object"}, "B": {}},
            })
        );
    }
}
