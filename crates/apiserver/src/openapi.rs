//! OpenAPI v3 documents, one for each group version, made from the schema that
//! the server itself decodes with, so that they cannot disagree.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::schema::{Field, ListType, MapType, Schema, Shape, StructId};
use resources::Descriptor;
use serde_json::{Map, Value, json};

/// The document of one group version.
#[must_use]
pub(crate) fn document(kinds: &[Arc<Descriptor>], group: &str, version: &str) -> Value {
    let own: Vec<_> = kinds.iter().filter(|kind| kind.group == group && kind.version == version).collect();
    let mut components = Components { schemas: Map::new(), done: BTreeSet::new() };
    let mut paths = Map::new();
    for kind in &own {
        components.add(&kind.shape.0, kind.shape.1);
        let gvk = json!({"group": group, "version": version, "kind": kind.kind});
        let name = component_name(&kind.shape.0.get(kind.shape.1).name);
        if let Some(schema) = components.schemas.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] = json!([gvk]);
        }
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        for (path, operations) in paths_of(kind, &gvk, &reference) {
            paths.insert(path, operations);
        }
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths,
        "components": {"schemas": components.schemas},
    })
}

fn paths_of(kind: &Descriptor, gvk: &Value, reference: &Value) -> Vec<(String, Value)> {
    let root = if kind.group.is_empty() { format!("/api/{}", kind.version) } else { format!("/apis/{}/{}", kind.group, kind.version) };
    let scope = if kind.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
    let operation = |action: &str| {
        json!({
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

struct Components {
    schemas: Map<String, Value>,
    done: BTreeSet<StructId>,
}

impl Components {
    fn add(&mut self, schema: &Schema, id: StructId) {
        if !self.done.insert(id) {
            return;
        }
        let of = schema.get(id);
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (name, field) in &of.fields {
            properties.insert(name.clone(), self.property(schema, field));
            if field.required {
                required.push(name.clone());
            }
        }
        let mut object = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            object["required"] = json!(required);
        }
        if of.atomic {
            object["x-kubernetes-map-type"] = "atomic".into();
        }
        self.schemas.insert(component_name(&of.name), object);
    }

    fn property(&mut self, schema: &Schema, field: &Field) -> Value {
        let mut value = self.shape(schema, &field.shape);
        match &field.list_type {
            ListType::Unset => {}
            ListType::Atomic => value["x-kubernetes-list-type"] = "atomic".into(),
            ListType::Set => value["x-kubernetes-list-type"] = "set".into(),
            ListType::Map(keys) => {
                value["x-kubernetes-list-type"] = "map".into();
                value["x-kubernetes-list-map-keys"] = json!(keys);
            }
        }
        if field.map_type == MapType::Atomic {
            value["x-kubernetes-map-type"] = "atomic".into();
        }
        let patch = &field.patch;
        let strategies = [(patch.merge, "merge"), (patch.replace, "replace"), (patch.retain_keys, "retainKeys")];
        let strategy: Vec<&str> = strategies.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        if !strategy.is_empty() {
            value["x-kubernetes-patch-strategy"] = strategy.join(",").into();
        }
        if let Some(key) = &patch.merge_key {
            value["x-kubernetes-patch-merge-key"] = key.as_str().into();
        }
        if let Some(default) = field.default.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            value["default"] = default;
        }
        value
    }

    fn shape(&mut self, schema: &Schema, shape: &Shape) -> Value {
        match shape {
            Shape::String => json!({"type": "string"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Float => json!({"type": "number", "format": "double"}),
            Shape::Quantity => self.named("io.k8s.apimachinery.pkg.api.resource.Quantity", json!({
                "oneOf": [{"type": "string"}, {"type": "number"}],
            })),
            Shape::IntOrString => self.named("io.k8s.apimachinery.pkg.util.intstr.IntOrString", json!({
                "format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}],
            })),
            Shape::Time => self.named("io.k8s.apimachinery.pkg.apis.meta.v1.Time", json!({
                "type": "string", "format": "date-time",
            })),
            Shape::MicroTime => self.named("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", json!({
                "type": "string", "format": "date-time",
            })),
            Shape::Duration => json!({"type": "string"}),
            Shape::Any => json!({"x-kubernetes-preserve-unknown-fields": true}),
            Shape::Fields => self.named("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", json!({"type": "object"})),
            Shape::Struct(id) => {
                self.add(schema, *id);
                let name = component_name(&schema.get(*id).name);
                json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]})
            }
            Shape::List(of) => {
                let items = self.shape(schema, of);
                json!({"type": "array", "items": items})
            }
            Shape::Map(of) => {
                let values = self.shape(schema, of);
                json!({"type": "object", "additionalProperties": values})
            }
        }
    }

    fn named(&mut self, name: &str, schema: Value) -> Value {
        self.schemas.entry(name.to_owned()).or_insert(schema);
        json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]})
    }
}

/// Upstream's name of a struct: `core/v1.Pod` is `io.k8s.api.core.v1.Pod`.
fn component_name(name: &str) -> String {
    let (package, short) = name.split_once('.').unwrap_or(("", name));
    let path = package.replace('/', ".");
    let prefix = match package.split('/').next().unwrap_or_default() {
        "meta" => "io.k8s.apimachinery.pkg.apis",
        "apiextensions" => "io.k8s.apiextensions-apiserver.pkg.apis",
        "apiregistration" => "io.k8s.kube-aggregator.pkg.apis",
        _ => "io.k8s.api",
    };
    format!("{prefix}.{path}.{short}")
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
        assert_eq!(schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
    }
}
