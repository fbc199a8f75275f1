//! A structural schema as the one in which owners of fields are told apart.

use std::sync::Arc;

use api::schema::{Field, ListType, MapType, Schema, Shape, StructId};

use super::structural::{JsonType, Structural};

/// The schema of a kind, and the struct of its objects.
pub(super) fn schema(name: &str, of: &Structural) -> (Arc<Schema>, StructId) {
    let mut schema = Schema::new();
    let mut root = of.clone();
    root.kind = Some(JsonType::Object);
    let id = structure(&mut schema, name, &root);
    let metadata = metadata(&mut schema);
    let fields = &mut schema.get_mut(id).fields;
    fields.insert("apiVersion".to_owned(), field(Shape::String));
    fields.insert("kind".to_owned(), field(Shape::String));
    fields.insert("metadata".to_owned(), field(Shape::Struct(metadata)));
    (Arc::new(schema), id)
}

fn field(shape: Shape) -> Field {
    Field { pointer: true, ..Field::new(shape) }
}

fn structure(schema: &mut Schema, name: &str, of: &Structural) -> StructId {
    let id = schema.declare(name);
    let fields: Vec<(String, Field)> = of
        .properties
        .iter()
        .map(|(key, one)| {
            let mut field = field(shape(schema, &format!("{name}.{key}"), one));
            field.list_type = one.list_type.clone();
            field.map_type = one.map_type;
            field.default = one.default.as_ref().map(ToString::to_string);
            (key.clone(), field)
        })
        .collect();
    let own = schema.get_mut(id);
    own.fields.extend(fields);
    own.atomic = of.map_type == MapType::Atomic;
    id
}

fn shape(schema: &mut Schema, name: &str, of: &Structural) -> Shape {
    if of.is_int_or_string {
        return Shape::IntOrString;
    }
    match of.kind {
        Some(JsonType::Array) => {
            let items = of.items.as_deref().cloned().unwrap_or_default();
            Shape::List(Box::new(shape(schema, &format!("{name}[]"), &items)))
        }
        Some(JsonType::Object) => match &of.additional {
            Some(Some(values)) => Shape::Map(Box::new(shape(schema, &format!("{name}.*"), values))),
            None if !of.properties.is_empty() => Shape::Struct(structure(schema, name, of)),
            Some(None) | None => Shape::Any,
        },
        Some(JsonType::String) => Shape::String,
        Some(JsonType::Integer) => Shape::Int64,
        Some(JsonType::Number) => Shape::Float,
        Some(JsonType::Boolean) => Shape::Bool,
        None => Shape::Any,
    }
}

/// Metadata, as far as owners tell its parts apart.
fn metadata(schema: &mut Schema) -> StructId {
    let texts = || field(Shape::Map(Box::new(Shape::String)));
    let set = Field { list_type: ListType::Set, ..field(Shape::List(Box::new(Shape::String))) };
    let owner = schema.declare("meta/v1.OwnerReference");
    for name in ["apiVersion", "kind", "name", "uid"] {
        schema.get_mut(owner).fields.insert(name.to_owned(), field(Shape::String));
    }
    for name in ["controller", "blockOwnerDeletion"] {
        schema.get_mut(owner).fields.insert(name.to_owned(), field(Shape::Bool));
    }
    schema.get_mut(owner).atomic = true;
    let owners = Field {
        list_type: ListType::Map(vec!["uid".to_owned()]),
        ..field(Shape::List(Box::new(Shape::Struct(owner))))
    };
    let id = schema.declare("meta/v1.ObjectMeta");
    let fields = &mut schema.get_mut(id).fields;
    fields.insert("labels".to_owned(), texts());
    fields.insert("annotations".to_owned(), texts());
    fields.insert("finalizers".to_owned(), set);
    fields.insert("ownerReferences".to_owned(), owners);
    for name in ["name", "generateName", "namespace", "uid", "resourceVersion", "selfLink"] {
        fields.insert(name.to_owned(), field(Shape::String));
    }
    for name in ["creationTimestamp", "deletionTimestamp"] {
        fields.insert(name.to_owned(), field(Shape::Time));
    }
    for name in ["generation", "deletionGracePeriodSeconds"] {
        fields.insert(name.to_owned(), field(Shape::Int64));
    }
    let entries = Field { list_type: ListType::Atomic, ..field(Shape::List(Box::new(Shape::Any))) };
    fields.insert("managedFields".to_owned(), entries);
    id
}
