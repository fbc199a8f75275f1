//! The OpenAPI v3 schemas of a group and version, from the schema and the
//! catalogue: what kubectl's `explain`, client-side patches and code generators
//! read.
//!
//! Descriptions of fields are left out: they are upstream's texts.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::schema::{Field, ListType, MapType, Schema, Shape, StructId};
use serde_json::{Map, Value, json};

use crate::{Descriptor, Subresource};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// Bodies and answers of every group.
const SHARED: [&str; 4] = ["DeleteOptions", "Status", "WatchEvent", "APIResourceList"];

/// The `components` object of the document of one group and version: every type
/// that its kinds are made of. Empty where there is no such group.
#[must_use]
pub fn components<'k>(
    kinds: impl IntoIterator<Item = &'k Arc<Descriptor>>,
    group: &str,
    version: &str,
) -> Value {
    let kinds: Vec<&Descriptor> = kinds
        .into_iter()
        .map(AsRef::as_ref)
        .filter(|one| one.group == group && one.version == version)
        .collect();
    if kinds.is_empty() {
        return json!({"schemas": {}});
    }
    let schema = &*crate::tables::schema();
    let mut walk = Walk { schema, schemas: Map::new(), seen: BTreeSet::new() };
    for name in SHARED {
        walk.named(&format!("meta/v1.{name}"));
    }
    for kind in &kinds {
        walk.kind(kind);
    }
    json!({"schemas": walk.schemas})
}

/// The name under which OpenAPI knows a struct of the schema: `core/v1.Pod` is
/// `io.k8s.api.core.v1.Pod`.
#[must_use]
pub fn definition_name(name: &str) -> String {
    let (package, short) = name.split_once('.').unwrap_or(("", name));
    let dotted = package.replace('/', ".");
    match package.split('/').next() {
        Some("meta") => format!("{META}.{short}"),
        Some("apiextensions") => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.{dotted}.{short}")
        }
        Some("apiregistration") => format!("io.k8s.kube-aggregator.pkg.apis.{dotted}.{short}"),
        _ => format!("io.k8s.api.{dotted}.{short}"),
    }
}

/// The name of the definition of a kind's objects.
#[must_use]
pub fn definition_of(kind: &Descriptor) -> String {
    if kind.strategy.document().is_none() {
        return definition_name(&kind.shape.0.get(kind.shape.1).name);
    }
    let reversed: Vec<&str> = kind.group.rsplit('.').collect();
    format!("{}.{}.{}", reversed.join("."), kind.version, kind.kind)
}

/// The name of the type of a subresource's bodies, as the schema has it.
fn type_of(kind: &Descriptor, sub: &Subresource) -> String {
    let package = match &sub.group_version {
        Some((group, version)) => format!("{}/{version}", group.split('.').next().unwrap_or_default()),
        None => {
            let of = &kind.shape.0.get(kind.shape.1).name;
            of.split('.').next().unwrap_or_default().to_owned()
        }
    };
    format!("{package}.{}", sub.kind)
}

/// The name of the definition of a subresource's bodies.
#[must_use]
pub fn definition_of_part(kind: &Descriptor, sub: &Subresource) -> String {
    if sub.kind == kind.kind && sub.group_version.is_none() {
        return definition_of(kind);
    }
    definition_name(&type_of(kind, sub))
}

/// A reference to a definition.
#[must_use]
pub fn reference(definition: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{definition}")})
}

struct Walk<'s> {
    schema: &'s Schema,
    schemas: Map<String, Value>,
    seen: BTreeSet<StructId>,
}

/// A field that every object has, with what `kubectl explain` says of it.
/// What the fields are for that every object has in its metadata.
const OF_METADATA: [(&str, &str); 15] = [
    ("annotations", "Annotations are notes of tools and people, by key. Nothing selects by them."),
    (
        "creationTimestamp",
        "CreationTimestamp is a timestamp, set by the server when the object is made (RFC 3339, UTC). It never changes.",
    ),
    (
        "deletionGracePeriodSeconds",
        "DeletionGracePeriodSeconds says how many seconds the object has for its end, once it is being deleted. It only becomes shorter.",
    ),
    (
        "deletionTimestamp",
        "DeletionTimestamp is the time (RFC 3339, UTC) at which the object shall be gone; the server sets it when somebody deletes an object that cannot go at once.",
    ),
    (
        "finalizers",
        "Finalizers are those who have work to do before the object may go. Each takes its own name away; the object goes with the last one.",
    ),
    (
        "generateName",
        "GenerateName is what the server begins the name with if there is no name; a random ending makes it unique.",
    ),
    ("generation", "Generation counts the changes of what is wanted; changes of the status leave it alone."),
    ("labels", "Labels are keys and values by which objects are selected."),
    ("managedFields", "ManagedFields says who set which fields, for server-side apply."),
    ("name", "Name is unique among the objects of a resource in a namespace. It never changes."),
    (
        "namespace",
        "Namespace is where the name is unique; objects of the whole cluster have none. It never changes.",
    ),
    (
        "ownerReferences",
        "OwnerReferences are the objects that this one exists for; when all of them are gone, the garbage collector deletes it.",
    ),
    (
        "resourceVersion",
        "ResourceVersion names this state of the object. It is compared for equality only, and passed back unchanged: a write with an old one fails.",
    ),
    ("selfLink", "SelfLink is not used any more."),
    ("uid", "UID is unique over time and space: an object made again under its old name has another one."),
];

fn described(name: &str, mut schema: Value) -> Value {
    let text = match name {
        "apiVersion" => {
            "APIVersion defines the version of the schema that the object is written in, as GROUP/VERSION. A server takes the versions that it knows and refuses others."
        }
        "kind" => {
            "Kind says in CamelCase what the object is. The path of a request says it too, and it never changes."
        }
        "metadata" => {
            "Standard object's metadata: name, namespace, labels and what else every object carries."
        }
        _ => return schema,
    };
    schema["description"] = text.into();
    schema
}

impl Walk<'_> {
    fn named(&mut self, name: &str) -> Option<String> {
        let id = self.schema.find(name)?;
        self.structure(id);
        Some(definition_name(&self.schema.get(id).name))
    }

    fn kind(&mut self, kind: &Descriptor) {
        if let Some(document) = kind.strategy.document() {
            // Whoever stored it wrote it from a value.
            let document = serde_json::from_str(document).unwrap_or_default();
            return self.documented(kind, &document);
        }
        let of = self.schema.get(kind.shape.1).name.clone();
        for (suffix, name) in [("", of.clone()), ("List", format!("{of}List"))] {
            if let Some(definition) = self.named(&name) {
                let tag = (kind.group.as_str(), kind.version.as_str(), format!("{}{suffix}", kind.kind));
                self.tag(&definition, tag.0, tag.1, &tag.2);
            }
        }
        for sub in &kind.subresources {
            let (group, version) =
                sub.group_version.clone().unwrap_or_else(|| (kind.group.clone(), kind.version.clone()));
            if let Some(definition) = self.named(&type_of(kind, sub)) {
                self.tag(&definition, &group, &version, &sub.kind);
            }
        }
    }

    /// A kind that brings its own schema.
    fn documented(&mut self, kind: &Descriptor, document: &Value) {
        let name = definition_of(kind);
        let mut own = document.clone();
        own["properties"]["apiVersion"] = described("apiVersion", json!({"type": "string"}));
        own["properties"]["kind"] = described("kind", json!({"type": "string"}));
        let meta =
            |walk: &mut Self, name: &str| walk.named(&format!("meta/v1.{name}")).map(|name| reference(&name));
        if let Some(metadata) = meta(self, "ObjectMeta") {
            own["properties"]["metadata"] = described("metadata", json!({"allOf": [metadata]}));
        }
        let list_meta = meta(self, "ListMeta").unwrap_or_default();
        let list = json!({
            "type": "object", "required": ["items"],
            "properties": {
                "apiVersion": described("apiVersion", json!({"type": "string"})),
                "kind": described("kind", json!({"type": "string"})),
                "metadata": described("metadata", json!({"allOf": [list_meta]})),
                "items": {"type": "array", "items": reference(&name)},
            },
        });
        let list_name = format!("{name}List");
        self.schemas.insert(name.clone(), own);
        self.schemas.insert(list_name.clone(), list);
        self.tag(&name, &kind.group, &kind.version, &kind.kind);
        self.tag(&list_name, &kind.group, &kind.version, &format!("{}List", kind.kind));
    }

    /// Says which kind a definition is.
    fn tag(&mut self, definition: &str, group: &str, version: &str, kind: &str) {
        if let Some(schema) = self.schemas.get_mut(definition).and_then(Value::as_object_mut) {
            let tag = json!([{"group": group, "kind": kind, "version": version}]);
            schema.insert("x-kubernetes-group-version-kind".into(), tag);
        }
    }

    fn structure(&mut self, id: StructId) {
        if !self.seen.insert(id) {
            return;
        }
        let of = self.schema.get(id);
        let mut properties = Map::new();
        let mut required = Vec::new();
        // What has a kind is an object of its own.
        let is_object = of.fields.contains_key("kind") && of.fields.contains_key("metadata");
        let is_metadata = of.name == "meta/v1.ObjectMeta";
        for (name, field) in &of.fields {
            let mut value = self.field(field);
            if is_object {
                value = described(name, value);
            }
            if let Some((_, text)) = OF_METADATA.iter().find(|(one, _)| is_metadata && one == name) {
                value["description"] = (*text).into();
            }
            properties.insert(name.clone(), value);
            if field.required {
                required.push(Value::from(name.as_str()));
            }
        }
        let mut schema = Map::new();
        schema.insert("type".into(), "object".into());
        if !properties.is_empty() {
            schema.insert("properties".into(), properties.into());
        }
        if !required.is_empty() {
            schema.insert("required".into(), required.into());
        }
        if of.atomic {
            schema.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        self.schemas.insert(definition_name(&of.name), schema.into());
    }

    fn field(&mut self, field: &Field) -> Value {
        let mut value = self.shape(&field.shape);
        if let Some(target) = value.get("$ref").cloned() {
            // Facts beside a reference are lost to readers of OpenAPI 3.0.
            value = json!({"allOf": [{"$ref": target}]});
        }
        let Some(map) = value.as_object_mut() else { return value };
        let strategies: Vec<&str> = [
            (field.patch.merge, "merge"),
            (field.patch.retain_keys, "retainKeys"),
            (field.patch.replace, "replace"),
        ]
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
        .collect();
        if !strategies.is_empty() {
            map.insert("x-kubernetes-patch-strategy".into(), strategies.join(",").into());
        }
        if let Some(key) = &field.patch.merge_key {
            map.insert("x-kubernetes-patch-merge-key".into(), key.as_str().into());
        }
        let list_type = match &field.list_type {
            ListType::Unset => None,
            ListType::Atomic => Some("atomic"),
            ListType::Set => Some("set"),
            ListType::Map(keys) => {
                map.insert("x-kubernetes-list-map-keys".into(), json!(keys));
                Some("map")
            }
        };
        if let Some(list_type) = list_type {
            map.insert("x-kubernetes-list-type".into(), list_type.into());
        }
        let map_type = match field.map_type {
            MapType::Unset => None,
            MapType::Granular => Some("granular"),
            MapType::Atomic => Some("atomic"),
        };
        if let Some(map_type) = map_type {
            map.insert("x-kubernetes-map-type".into(), map_type.into());
        }
        if let Some(default) =
            field.default.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok())
        {
            map.insert("default".into(), default);
        }
        value
    }

    fn shape(&mut self, shape: &Shape) -> Value {
        match shape {
            Shape::String | Shape::Duration => json!({"type": "string"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Float => json!({"type": "number", "format": "double"}),
            Shape::Quantity => {
                self.scalar(QUANTITY, json!({"oneOf": [{"type": "string"}, {"type": "number"}]}))
            }
            Shape::IntOrString => self.scalar(
                INT_OR_STRING,
                json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}),
            ),
            Shape::Time => {
                self.scalar(&format!("{META}.Time"), json!({"type": "string", "format": "date-time"}))
            }
            Shape::MicroTime => {
                self.scalar(&format!("{META}.MicroTime"), json!({"type": "string", "format": "date-time"}))
            }
            Shape::Fields => self.scalar(&format!("{META}.FieldsV1"), json!({"type": "object"})),
            Shape::Any => json!({"x-kubernetes-preserve-unknown-fields": true}),
            Shape::Struct(id) => {
                self.structure(*id);
                reference(&definition_name(&self.schema.get(*id).name))
            }
            Shape::List(of) => json!({"type": "array", "items": self.shape(of)}),
            Shape::Map(of) => json!({"type": "object", "additionalProperties": self.shape(of)}),
        }
    }

    fn scalar(&mut self, name: &str, schema: Value) -> Value {
        self.schemas.entry(name.to_owned()).or_insert(schema);
        reference(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalogue;

    #[test]
    fn every_reference_leads_somewhere() {
        let catalogue = Catalogue::built_in();
        for kind in catalogue.iter() {
            let document = components(catalogue.iter(), &kind.group, &kind.version);
            let schemas = document["schemas"].as_object().expect("schemas");
            let text = document.to_string();
            for target in text.split("#/components/schemas/").skip(1) {
                let target = target.split('"').next().expect("text");
                assert!(schemas.contains_key(target), "{target} in {kind:?}");
            }
        }
    }

    #[test]
    fn a_pod_reads_as_upstreams() {
        let document = components(Catalogue::built_in().iter(), "", "v1");
        let pod = &document["schemas"]["io.k8s.api.core.v1.Pod"];
        assert_eq!(
            pod["x-kubernetes-group-version-kind"],
            json!([{"group": "", "kind": "Pod", "version": "v1"}])
        );
        assert_eq!(
            pod["properties"]["spec"],
            json!({"allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec"}]})
        );
        let containers = &document["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(
            containers,
            &json!({
                "type": "array",
                "items": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"},
                "x-kubernetes-list-map-keys": ["name"], "x-kubernetes-list-type": "map",
                "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge",
            })
        );
        assert_eq!(document["schemas"]["io.k8s.api.core.v1.PodSpec"]["required"], json!(["containers"]));
        let scale = components(Catalogue::built_in().iter(), "apps", "v1");
        assert_eq!(
            scale["schemas"]["io.k8s.api.autoscaling.v1.Scale"]["x-kubernetes-group-version-kind"],
            json!([{"group": "autoscaling", "kind": "Scale", "version": "v1"}])
        );
    }
}
