//! A structural schema: what a custom resource's version says about its values.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use api::schema::{ListType, MapType};
use regex::Regex;
use serde_json::Value;

use crate::fields::Fields;

/// The type of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonType {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl JsonType {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// Whether a value is of the type. A number without a fraction is an integer too.
    pub(super) fn fits(self, value: &Value) -> bool {
        match self {
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::String => value.is_string(),
            Self::Boolean => value.is_boolean(),
            Self::Number => value.is_number(),
            Self::Integer => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
            }
        }
    }
}

/// A schema, or a part of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Structural {
    pub(crate) kind: Option<JsonType>,
    pub(crate) properties: BTreeMap<String, Box<Structural>>,
    /// The schema of further properties: `Some(None)` is any value.
    pub(crate) additional: Option<Option<Box<Structural>>>,
    pub(crate) items: Option<Box<Structural>>,
    pub(crate) preserves_unknown: bool,
    pub(crate) is_int_or_string: bool,
    pub(crate) is_embedded: bool,
    pub(crate) is_nullable: bool,
    pub(crate) default: Option<Value>,
    pub(crate) list_type: ListType,
    pub(crate) map_type: MapType,
    /// `x-kubernetes-validations`, as they were given.
    pub(super) expressions: Vec<Value>,
    /// Shared by all that have none.
    pub(super) rules: Arc<Rules>,
}

/// Rules for values, beside their type.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) format: String,
    pub(super) allowed: Vec<Value>,
    pub(super) minimum: Option<Limit>,
    pub(super) maximum: Option<Limit>,
    pub(super) multiple_of: Option<f64>,
    pub(super) length: (Option<u64>, Option<u64>),
    pub(super) items: (Option<u64>, Option<u64>),
    pub(super) properties: (Option<u64>, Option<u64>),
    pub(super) unique: bool,
    pub(super) pattern: Option<Regex>,
    pub(super) required: Vec<String>,
    pub(super) all_of: Vec<Structural>,
    pub(super) any_of: Vec<Structural>,
    pub(super) one_of: Vec<Structural>,
    pub(super) not: Option<Box<Structural>>,
}

/// A bound on a number.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    pub(super) value: Value,
    pub(super) is_exclusive: bool,
}

impl Structural {
    /// A schema that only says what one property is.
    pub(crate) fn of_property(name: &str, of: Self) -> Self {
        Self { properties: [(name.to_owned(), Box::new(of))].into(), ..Self::default() }
    }

    /// The format of its texts, or empty.
    pub(crate) fn format(&self) -> &str {
        &self.rules.format
    }

    /// Reads a schema. What it does not understand, the definition's own rules
    /// have refused before.
    pub(crate) fn read(schema: &Value) -> Self {
        let additional = match schema.field("additionalProperties") {
            Value::Bool(true) => Some(None),
            of @ Value::Object(_) => Some(Some(Box::new(Self::read(of)))),
            _ => None,
        };
        let keys = schema.list("x-kubernetes-list-map-keys");
        let list_type = match schema.text("x-kubernetes-list-type") {
            "set" => ListType::Set,
            "map" => ListType::Map(keys.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
            "atomic" => ListType::Atomic,
            _ => ListType::Unset,
        };
        let map_type = match schema.text("x-kubernetes-map-type") {
            "atomic" => MapType::Atomic,
            "granular" => MapType::Granular,
            _ => MapType::Unset,
        };
        let properties = schema.entries("properties");
        Self {
            kind: JsonType::parse(schema.text("type")),
            properties: properties.map(|(name, of)| (name.clone(), Box::new(Self::read(of)))).collect(),
            additional,
            items: Some(schema.field("items")).filter(|of| of.is_object()).map(|of| Box::new(Self::read(of))),
            preserves_unknown: schema.flag("x-kubernetes-preserve-unknown-fields"),
            is_int_or_string: schema.flag("x-kubernetes-int-or-string"),
            is_embedded: schema.flag("x-kubernetes-embedded-resource"),
            is_nullable: schema.flag("nullable"),
            default: schema.get("default").cloned(),
            list_type,
            map_type,
            expressions: schema.list("x-kubernetes-validations").to_vec(),
            rules: Rules::read(schema),
        }
    }
}

/// What says nothing of values beside their type, and so leaves the rules empty. A name
/// that is missing here costs some memory, nothing else.
const NO_RULES: [&str; 9] = [
    "type",
    "description",
    "properties",
    "additionalProperties",
    "items",
    "default",
    "nullable",
    "title",
    "example",
];
static NONE: LazyLock<Arc<Rules>> = LazyLock::new(Arc::default);

impl Rules {
    fn read(schema: &Value) -> Arc<Self> {
        let says_nothing =
            |name: &String| NO_RULES.contains(&name.as_str()) || name.starts_with("x-kubernetes-");
        if schema.as_object().is_some_and(|schema| schema.keys().all(says_nothing)) {
            return Arc::clone(&NONE);
        }
        let number = |name: &str| schema.field(name).as_u64();
        let limit = |name: &str, exclusive: &str| {
            let value = Some(schema.field(name)).filter(|value| value.is_number())?.clone();
            Some(Limit { value, is_exclusive: schema.flag(exclusive) })
        };
        let several = |name: &str| schema.list(name).iter().map(Structural::read).collect();
        Arc::new(Self {
            format: schema.text("format").to_owned(),
            allowed: schema.list("enum").to_vec(),
            minimum: limit("minimum", "exclusiveMinimum"),
            maximum: limit("maximum", "exclusiveMaximum"),
            multiple_of: schema.field("multipleOf").as_f64(),
            length: (number("minLength"), number("maxLength")),
            items: (number("minItems"), number("maxItems")),
            properties: (number("minProperties"), number("maxProperties")),
            unique: schema.flag("uniqueItems"),
            pattern: Some(schema.text("pattern"))
                .filter(|text| !text.is_empty())
                .and_then(|text| Regex::new(text).ok()),
            required: schema.list("required").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            all_of: several("allOf"),
            any_of: several("anyOf"),
            one_of: several("oneOf"),
            not: Some(schema.field("not"))
                .filter(|of| of.is_object())
                .map(|of| Box::new(Structural::read(of))),
        })
    }
}
