//! Values against their schema; the messages are those of upstream's validator.

use std::collections::BTreeSet;

use api::schema::ListType;
use api::{ErrorList, FieldError, Path};
use serde_json::{Map, Value};

use super::format;
use super::structural::{JsonType, Structural};
use crate::report::Report;

/// Where a value is, as a schema may name it: any depth, made as it goes.
#[derive(Clone)]
struct At(String);

impl At {
    fn field(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

/// Checks an object against the schema of its kind.
pub(super) fn validate(map: &Map<String, Value>, of: &Structural) -> ErrorList {
    let mut errors = ErrorList::new();
    object(map, of, true, &At(String::new()), &mut errors);
    let at = At(String::new());
    combinations(&Value::Object(map.clone()), of, &at, &mut errors);
    errors
}

/// An error about a place. Upstream shows some values, others not.
fn report(errors: &mut ErrorList, at: &At, build: impl Fn(&Path<'_>) -> FieldError) {
    let root = Path::new(&at.0);
    let mut error = build(&root);
    if at.0.is_empty() {
        error.field.clear();
    }
    errors.add(error);
}

fn invalid(errors: &mut ErrorList, at: &At, value: &Value, what: &str) {
    // Structured values are shown by the name of their type.
    let shown = match value {
        Value::Object(_) => "object".into(),
        Value::Array(_) => "array".into(),
        other => other.clone(),
    };
    report(errors, at, |path| FieldError::invalid(path, shown.clone(), format!("{} in body {what}", at.0)));
}

fn value_at(value: &Value, of: &Structural, at: &At, errors: &mut ErrorList) {
    if value.is_null() {
        if !of.is_nullable && (of.kind.is_some() || of.is_int_or_string) {
            wrong_type(value, of, at, errors);
        }
        return;
    }
    if of.is_int_or_string {
        if !(JsonType::Integer.fits(value) || value.is_string()) {
            return wrong_type(value, of, at, errors);
        }
    } else if let Some(kind) = of.kind
        && !kind.fits(value)
    {
        return wrong_type(value, of, at, errors);
    }
    match value {
        Value::Object(map) => object(map, of, of.is_embedded, at, errors),
        Value::Array(items) => list(items, of, at, errors),
        Value::String(text) => string(text, value, of, at, errors),
        Value::Number(_) => number(value, of, at, errors),
        _ => {}
    }
    if !of.rules.allowed.is_empty() && !of.rules.allowed.contains(value) {
        let allowed: Vec<String> = of
            .rules
            .allowed
            .iter()
            .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
            .collect();
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        report(errors, at, |path| FieldError::not_supported(path, value.clone(), &allowed));
    }
    combinations(value, of, at, errors);
}

fn wrong_type(value: &Value, of: &Structural, at: &At, errors: &mut ErrorList) {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if JsonType::Integer.fits(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let wanted = match of.kind {
        Some(kind) => kind.name(),
        None => "integer,string",
    };
    report(errors, at, |path| {
        let mut error =
            FieldError::invalid(path, found, format!("{} in body must be of type {wanted}: {found:?}", at.0));
        error.kind = api::field::ErrorKind::TypeInvalid;
        error
    });
}

fn object(map: &Map<String, Value>, of: &Structural, is_resource: bool, at: &At, errors: &mut ErrorList) {
    for name in &of.rules.required {
        if !map.contains_key(name) {
            report(errors, &at.field(name), |path| FieldError::required(path, ""));
        }
    }
    let (least, most) = of.rules.properties;
    let count = map.len();
    if let Some(most) = most.and_then(|most| usize::try_from(most).ok()).filter(|most| count > *most) {
        report(errors, at, |path| FieldError::too_many(path, count, most));
    }
    if let Some(least) = least.filter(|least| (count as u64) < *least) {
        invalid(errors, at, &Value::from(count), &format!("should have at least {least} properties"));
    }
    for (key, value) in map {
        let schema = match (of.properties.get(key), &of.additional) {
            (Some(schema), _) => schema,
            (None, Some(Some(schema))) if !is_resource || !is_meta(key) => schema,
            _ => continue,
        };
        // The metadata is checked as every kind's is.
        if is_resource && is_meta(key) && key != "metadata" {
            continue;
        }
        value_at(value, schema, &at.field(key), errors);
    }
    if is_resource && !at.0.is_empty() {
        for name in ["apiVersion", "kind"] {
            if map.get(name).and_then(Value::as_str).unwrap_or_default().is_empty() {
                report(errors, &at.field(name), |path| FieldError::required(path, "must not be empty"));
            }
        }
    }
}

fn is_meta(key: &str) -> bool {
    matches!(key, "apiVersion" | "kind" | "metadata")
}

fn list(items: &[Value], of: &Structural, at: &At, errors: &mut ErrorList) {
    let (least, most) = of.rules.items;
    let count = items.len();
    if let Some(most) = most.and_then(|most| usize::try_from(most).ok()).filter(|most| count > *most) {
        report(errors, at, |path| FieldError::too_many(path, count, most));
    }
    if let Some(least) = least.filter(|least| (count as u64) < *least) {
        invalid(errors, at, &Value::from(count), &format!("should have at least {least} items"));
    }
    if let Some(schema) = &of.items {
        for (index, item) in items.iter().enumerate() {
            value_at(item, schema, &at.index(index), errors);
        }
    }
    let key = |item: &Value| -> Option<String> {
        match &of.list_type {
            ListType::Set => Some(item.to_string()),
            ListType::Map(keys) => {
                let default = |key: &String| of.items.as_ref()?.properties.get(key)?.default.clone();
                let named = keys.iter().map(|key| item.get(key).cloned().or_else(|| default(key)));
                Some(Value::Array(named.map(Option::unwrap_or_default).collect()).to_string())
            }
            _ if of.rules.unique => Some(item.to_string()),
            _ => None,
        }
    };
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let Some(key) = key(item) else { return };
        if !seen.insert(key) {
            let shown = match &of.list_type {
                ListType::Map(keys) => {
                    let named = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                    Value::Object(named.collect())
                }
                _ => item.clone(),
            };
            report(errors, &at.index(index), |path| FieldError::duplicate(path, shown.clone()));
        }
    }
}

fn string(text: &str, value: &Value, of: &Structural, at: &At, errors: &mut ErrorList) {
    let length = text.chars().count() as u64;
    let (least, most) = of.rules.length;
    if let Some(least) = least.filter(|least| length < *least) {
        invalid(errors, at, value, &format!("should be at least {least} chars long"));
    }
    if let Some(most) = most.filter(|most| length > *most) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        report(errors, at, |path| FieldError::too_long(path, most));
    }
    if let Some(pattern) = of.rules.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        invalid(errors, at, value, &format!("should match '{pattern}'"));
    }
    if !of.rules.format.is_empty() && !format::fits(&of.rules.format, text) {
        invalid(errors, at, value, &format!("must be of type {}: {text:?}", of.rules.format));
    }
}

fn number(value: &Value, of: &Structural, at: &At, errors: &mut ErrorList) {
    let Some(number) = value.as_f64() else { return };
    let bound = |limit: &super::structural::Limit| limit.value.as_f64().unwrap_or_default();
    if let Some(limit) = &of.rules.maximum {
        let breaks = if limit.is_exclusive { number >= bound(limit) } else { number > bound(limit) };
        if breaks {
            let or_equal = if limit.is_exclusive { "" } else { "or equal to " };
            invalid(errors, at, value, &format!("should be less than {or_equal}{}", limit.value));
        }
    }
    if let Some(limit) = &of.rules.minimum {
        let breaks = if limit.is_exclusive { number <= bound(limit) } else { number < bound(limit) };
        if breaks {
            let or_equal = if limit.is_exclusive { "" } else { "or equal to " };
            invalid(errors, at, value, &format!("should be greater than {or_equal}{}", limit.value));
        }
    }
    if let Some(of) = of.rules.multiple_of.filter(|of| *of > 0.0) {
        let times = number / of;
        if (times - times.round()).abs() > 1e-9 {
            invalid(errors, at, value, &format!("should be a multiple of {of}"));
        }
    }
    let fits = match of.rules.format.as_str() {
        "int32" => value.as_i64().is_none_or(|number| i32::try_from(number).is_ok()),
        "int64" => value.is_i64() || !value.is_u64(),
        _ => true,
    };
    if !fits {
        invalid(errors, at, value, &format!("must be of type {}: {value:?}", of.rules.format));
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
fn combinations(value: &Value, of: &Structural, at: &At, errors: &mut ErrorList) {
    let fits = |schema: &Structural| {
        let mut found = ErrorList::new();
        value_at(value, schema, at, &mut found);
        found.is_empty()
    };
    // Evaluated once: each level evaluated twice would cost twice as much as the one below.
    let before = errors.len();
    for schema in &of.rules.all_of {
        value_at(value, schema, at, errors);
    }
    if errors.len() > before {
        invalid(errors, at, value, "must validate all the schemas (allOf)");
    }
    if !of.rules.any_of.is_empty() && !of.rules.any_of.iter().any(fits) {
        invalid(errors, at, value, "must validate at least one schema (anyOf)");
    }
    if !of.rules.one_of.is_empty() {
        match of.rules.one_of.iter().filter(|schema| fits(schema)).count() {
            1 => {}
            0 => {
                let what = "must validate one and only one schema (oneOf). Found none valid";
                invalid(errors, at, value, what);
            }
            count => {
                let what = format!(
                    "must validate one and only one schema (oneOf). Found {count} valid alternatives"
                );
                invalid(errors, at, value, &what);
            }
        }
    }
    if of.rules.not.as_ref().is_some_and(|schema| fits(schema)) {
        invalid(errors, at, value, "must not validate the schema (not)");
    }
}
