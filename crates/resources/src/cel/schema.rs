//! Custom resources' values and types, as their schema says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Map, Value as Json};

use super::library::time;
use super::parser::RESERVED;
use super::types::Type;
use super::value::{Key, Value};
use crate::custom::structural::{JsonType, Structural};

/// A field's name as an identifier, following upstream's escaping; `None` if it
/// cannot be one.
pub(crate) fn escape(name: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_plain) {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut made = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let (taken, put) = match c {
            '_' if rest.starts_with("__") => (2, "underscores"),
            '.' => (1, "dot"),
            '-' => (1, "dash"),
            '/' => (1, "slash"),
            _ => (1, ""),
        };
        if put.is_empty() {
            made.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(made, "__{put}__");
        }
        rest = &rest[taken..];
    }
    Some(made)
}

/// The type of a schema's values; `None` where expressions do not see them.
pub(crate) fn type_of(schema: &Structural, is_resource: bool) -> Option<Type> {
    if schema.is_int_or_string {
        return Some(Type::Dyn);
    }
    Some(match schema.kind? {
        JsonType::Boolean => Type::Bool,
        JsonType::Number => Type::Double,
        JsonType::Integer => Type::Int,
        JsonType::String => match schema.format() {
            "byte" => Type::Bytes,
            "duration" => Type::Duration,
            "date" | "date-time" => Type::Timestamp,
            _ => Type::Text,
        },
        JsonType::Array => {
            let items = schema.items.as_ref()?;
            Type::list(type_of(items, items.is_embedded)?)
        }
        JsonType::Object => match &schema.additional {
            Some(Some(of)) => Type::map(Type::Text, type_of(of, of.is_embedded)?),
            _ => {
                let fields = schema
                    .properties
                    .iter()
                    .filter_map(|(name, of)| Some((escape(name)?, type_of(of, of.is_embedded)?)));
                let mut fields: BTreeMap<String, Type> = fields.collect();
                if is_resource {
                    fields.insert("apiVersion".to_owned(), Type::Text);
                    fields.insert("kind".to_owned(), Type::Text);
                    let of = |name: &str| (name.to_owned(), Type::Text);
                    fields.insert("metadata".to_owned(), Type::object([of("name"), of("generateName")]));
                }
                Type::Object(Arc::new(fields))
            }
        },
    })
}

/// A value, as its schema says what it is. What the schema does not know is left out.
pub(crate) fn value_of(json: &Json, schema: &Structural, is_resource: bool) -> Value {
    match json {
        Json::Number(number) if schema.kind == Some(JsonType::Number) => {
            Value::Double(number.as_f64().unwrap_or_default())
        }
        Json::Number(number) if schema.kind == Some(JsonType::Integer) && number.is_f64() => {
            let whole = number.as_f64().and_then(super::value::whole);
            whole.map_or_else(|| Value::from_json(json), Value::Int)
        }
        Json::String(text) if !schema.is_int_or_string => text_value(text, schema.format()),
        Json::Array(items) => match &schema.items {
            Some(of) => Value::list(items.iter().map(|item| value_of(item, of, of.is_embedded)).collect()),
            None => Value::from_json(json),
        },
        Json::Object(map) => object_value(map, schema, is_resource),
        other => Value::from_json(other),
    }
}

/// Texts whose format they do not have are texts: the schema refuses them anyway.
fn text_value(text: &str, format: &str) -> Value {
    let made = match format {
        "byte" => {
            base64::engine::general_purpose::STANDARD.decode(text).ok().map(|of| Value::Bytes(of.into()))
        }
        "duration" => time::duration(text).map(Value::Duration),
        "date-time" => text.parse().ok().map(Value::Timestamp),
        "date" => format!("{text}T00:00:00Z").parse().ok().map(Value::Timestamp),
        _ => None,
    };
    made.unwrap_or_else(|| Value::text(text))
}

fn object_value(map: &Map<String, Json>, schema: &Structural, is_resource: bool) -> Value {
    let key = |name: &str| Key::Text(name.into());
    let mut made = BTreeMap::new();
    for (name, json) in map {
        if is_resource && matches!(name.as_str(), "apiVersion" | "kind") {
            made.insert(key(name), Value::from_json(json));
        } else if is_resource && name == "metadata" {
            let shown = ["name", "generateName"].into_iter();
            let shown = shown.filter_map(|name| Some((key(name), Value::from_json(json.get(name)?))));
            made.insert(key(name), Value::Map(Arc::new(shown.collect())));
        } else if let Some(of) = schema.properties.get(name) {
            if let Some(escaped) = escape(name) {
                made.insert(key(&escaped), value_of(json, of, of.is_embedded));
            }
        } else if let Some(Some(of)) = &schema.additional {
            made.insert(key(name), value_of(json, of, of.is_embedded));
        }
    }
    Value::Map(Arc::new(made))
}
