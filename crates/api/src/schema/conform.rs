//! Brings decoded JSON into the form in which a Go API server would hold it:
//! unknown fields are pruned and named, nulls dropped, values checked against
//! their type, quantities and times made canonical, and the empty values that Go
//! writes filled in. What conforms encodes to what upstream answers.

use serde_json::{Map, Value};

use super::{Field, Schema, Shape, StructId};
use crate::object::json_type;
use crate::{Quantity, time};

/// How deep objects may nest; deeper input is refused, not recursed into.
const MAX_DEPTH: usize = 10_000;

/// A value of the wrong type; the message is that of Go's JSON decoder, which
/// upstream shows to clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TypeMismatch(String);

/// What was found on the way.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Conformed {
    /// Paths of fields that the schema does not have; they were removed.
    pub unknown: Vec<String>,
}

/// Conforms an object to a struct of the schema, in place.
///
/// # Errors
/// The first value whose type does not fit.
pub fn conform(
    schema: &Schema,
    id: StructId,
    object: &mut Map<String, Value>,
) -> Result<Conformed, TypeMismatch> {
    let mut walk = Walk { schema, path: Vec::new(), found: Conformed::default(), owner: id };
    walk.fields(id, object)?;
    Ok(walk.found)
}

struct Walk<'s> {
    schema: &'s Schema,
    path: Vec<Step<'s>>,
    found: Conformed,
    owner: StructId,
}

enum Step<'s> {
    Field(&'s str),
    Index(usize),
    Key(String),
}

impl<'s> Walk<'s> {
    fn fields(&mut self, id: StructId, object: &mut Map<String, Value>) -> Result<(), TypeMismatch> {
        let schema = self.schema;
        let of = schema.get(id);
        let outer = std::mem::replace(&mut self.owner, id);
        let mut unknown = Vec::new();
        let mut empty = Vec::new();
        for (name, value) in object.iter_mut() {
            let Some((name, field)) = of.fields.get_key_value(name) else {
                unknown.push(name.clone());
                continue;
            };
            self.path.push(Step::Field(name));
            self.value(&field.shape, field, value)?;
            self.path.pop();
            if is_omitted(field, value) {
                empty.push(name.as_str());
            }
        }
        for name in empty {
            object.remove(name);
        }
        for name in unknown {
            object.remove(&name);
            self.note_unknown(&name);
        }
        for (name, field) in &of.fields {
            if !object.contains_key(name)
                && let Some(value) = self.filled(field)
            {
                object.insert(name.clone(), value);
            }
        }
        self.owner = outer;
        Ok(())
    }

    fn value(&mut self, shape: &'s Shape, field: &'s Field, value: &mut Value) -> Result<(), TypeMismatch> {
        if value.is_null() || self.path.len() > MAX_DEPTH {
            return Ok(());
        }
        match (shape, &mut *value) {
            (Shape::Struct(id), Value::Object(object)) => self.fields(*id, object),
            (Shape::List(of), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push(Step::Index(index));
                    self.value(of, field, item)?;
                    if item.is_null() {
                        *item = self.zero(of);
                    }
                    self.path.pop();
                }
                Ok(())
            }
            (Shape::Map(of), Value::Object(entries)) => {
                for (key, item) in entries.iter_mut() {
                    self.path.push(Step::Key(key.clone()));
                    self.value(of, field, item)?;
                    if item.is_null() {
                        *item = self.zero(of);
                    }
                    self.path.pop();
                }
                Ok(())
            }
            (Shape::Any | Shape::Fields, _)
            | (Shape::String, Value::String(_))
            | (Shape::Bool, Value::Bool(_)) => Ok(()),
            (Shape::Float, Value::Number(_)) => Ok(()),
            (Shape::Int32 | Shape::Int64, Value::Number(_)) => self.integer(shape, field, value),
            (Shape::IntOrString, Value::String(_)) => Ok(()),
            (Shape::IntOrString, Value::Number(number)) => {
                match number.as_i64().is_some_and(|value| i32::try_from(value).is_ok()) {
                    true => Ok(()),
                    false => Err(self.mismatch(&format!("number {number}"), shape, field)),
                }
            }
            (Shape::Bytes, Value::String(text)) => {
                use base64::Engine as _;
                match base64::engine::general_purpose::STANDARD.decode(text.as_bytes()) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(TypeMismatch(illegal_base64(&error))),
                }
            }
            (Shape::Quantity, Value::String(text)) => {
                let canonical =
                    Quantity::canonical(text.trim()).map_err(|error| TypeMismatch(error.to_string()))?;
                *value = Value::String(canonical);
                Ok(())
            }
            (Shape::Quantity, Value::Number(number)) => {
                let canonical = Quantity::canonical(&number.to_string())
                    .map_err(|error| TypeMismatch(error.to_string()))?;
                *value = Value::String(canonical);
                Ok(())
            }
            (Shape::Time, Value::String(text)) => self.timestamp(text, time::format),
            (Shape::MicroTime, Value::String(text)) => self.timestamp(text, time::format_micro),
            (Shape::Duration, Value::String(_)) => Ok(()),
            (_, other) => {
                let found = match other {
                    Value::Number(number) => format!("number {number}"),
                    other => json_type(other).to_owned(),
                };
                Err(self.mismatch(&found, shape, field))
            }
        }
    }

    /// An integer in its type's range; Go's readers turn 3.0 into 3.
    fn integer(&self, shape: &Shape, field: &Field, value: &mut Value) -> Result<(), TypeMismatch> {
        let fits = match (shape, value.as_i64()) {
            (Shape::Int32, Some(number)) => i32::try_from(number).is_ok(),
            (_, number) => number.is_some(),
        };
        if fits {
            return Ok(());
        }
        match value.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "checked to be a whole number in range")]
            Some(float) if float.fract() == 0.0 && float.abs() < 2_147_483_648.0 => {
                *value = Value::from(float as i64);
                Ok(())
            }
            _ => Err(self.mismatch(&format!("number {value}"), shape, field)),
        }
    }

    fn timestamp(
        &self,
        text: &mut String,
        format: fn(jiff::Timestamp) -> String,
    ) -> Result<(), TypeMismatch> {
        let Some(parsed) = time::parse(text) else {
            return Err(TypeMismatch(format!(
                "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
            )));
        };
        *text = format(parsed);
        Ok(())
    }

    /// What Go writes for a field that was not given, if anything.
    fn filled(&self, field: &Field) -> Option<Value> {
        if field.pointer || field.omit_zero {
            return None;
        }
        match &field.shape {
            Shape::Struct(id) => Some(Value::Object(self.empty_struct(*id))),
            _ if field.omit_empty => None,
            shape => Some(self.zero(shape)),
        }
    }

    fn empty_struct(&self, id: StructId) -> Map<String, Value> {
        let fields = &self.schema.get(id).fields;
        fields.iter().filter_map(|(name, field)| Some((name.clone(), self.filled(field)?))).collect()
    }

    fn zero(&self, shape: &Shape) -> Value {
        match shape {
            Shape::String | Shape::Duration => "".into(),
            Shape::Bool => false.into(),
            Shape::Int32 | Shape::Int64 | Shape::Float | Shape::IntOrString => 0.into(),
            Shape::Quantity => "0".into(),
            Shape::Struct(id) => Value::Object(self.empty_struct(*id)),
            Shape::Bytes
            | Shape::Time
            | Shape::MicroTime
            | Shape::Any
            | Shape::Fields
            | Shape::List(_)
            | Shape::Map(_) => Value::Null,
        }
    }

    fn render_path(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if text.is_empty() => text.push_str(name),
                Step::Field(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Step::Index(index) => text.push_str(&format!("[{index}]")),
                Step::Key(key) => text.push_str(&format!("[{key}]")),
            }
        }
        text
    }

    fn note_unknown(&mut self, name: &str) {
        let path = self.render_path();
        self.found.unknown.push(if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") });
    }

    fn mismatch(&self, found: &str, shape: &Shape, field: &Field) -> TypeMismatch {
        let owner = self.schema.get(self.owner).short_name();
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) => Some(*name),
                Step::Index(_) | Step::Key(_) => None,
            })
            .collect();
        let go_type = self.go_name(shape).unwrap_or_else(|| field.go_type.clone());
        TypeMismatch(format!(
            "json: cannot unmarshal {found} into Go struct field {owner}.{} of type {go_type}",
            fields.join(".")
        ))
    }

    fn go_name(&self, shape: &Shape) -> Option<String> {
        Some(match shape {
            Shape::String => "string".into(),
            Shape::Bool => "bool".into(),
            Shape::Int32 => "int32".into(),
            Shape::Int64 => "int64".into(),
            Shape::Float => "float64".into(),
            Shape::Bytes => "[]uint8".into(),
            Shape::Struct(id) => {
                let name = &self.schema.get(*id).name;
                let (package, short) = name.split_once('.').unwrap_or(("", name));
                let version = package.rsplit('/').next().unwrap_or(package);
                format!("{version}.{short}")
            }
            Shape::List(of) => format!("[]{}", self.go_name(of)?),
            Shape::Map(of) => format!("map[string]{}", self.go_name(of)?),
            Shape::Quantity
            | Shape::IntOrString
            | Shape::Time
            | Shape::MicroTime
            | Shape::Duration
            | Shape::Any
            | Shape::Fields => return None,
        })
    }
}

/// Whether Go leaves the value out.
fn is_omitted(field: &Field, value: &Value) -> bool {
    match value {
        // What Go writes for null depends on the field: `filled` decides.
        Value::Null => true,
        _ if !field.omit_empty || field.pointer => false,
        Value::Bool(flag) => !flag && field.shape == Shape::Bool,
        Value::Number(number) => {
            number.as_f64() == Some(0.0) && matches!(field.shape, Shape::Int32 | Shape::Int64 | Shape::Float)
        }
        Value::String(text) => text.is_empty() && matches!(field.shape, Shape::String | Shape::Bytes),
        Value::Array(items) => items.is_empty() && matches!(field.shape, Shape::List(_)),
        Value::Object(entries) => entries.is_empty() && matches!(field.shape, Shape::Map(_)),
    }
}

fn illegal_base64(error: &base64::DecodeError) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(at) => *at,
        base64::DecodeError::InvalidPadding => 0,
    };
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(shape: Shape, pointer: bool, omit_empty: bool) -> Field {
        Field { go_type: "x".into(), pointer, omit_empty, ..Field::new(shape) }
    }

    fn schema() -> (Schema, StructId) {
        let mut schema = Schema::new();
        let spec = schema.declare("t/v1.Spec");
        let root = schema.declare("t/v1.Root");
        schema.get_mut(spec).fields = [
            ("on", field(Shape::Bool, false, true)),
            ("maybe", field(Shape::Bool, true, true)),
            ("count", field(Shape::Int32, false, false)),
            ("size", field(Shape::Quantity, true, true)),
        ]
        .map(|(name, field)| (name.to_owned(), field))
        .into();
        schema.get_mut(root).fields = [
            ("spec", field(Shape::Struct(spec), false, true)),
            ("items", field(Shape::List(Box::new(Shape::Struct(spec))), false, true)),
            ("must", field(Shape::List(Box::new(Shape::String)), false, false)),
        ]
        .map(|(name, field)| (name.to_owned(), field))
        .into();
        (schema, root)
    }

    fn conformed(value: Value) -> Result<(Value, Vec<String>), TypeMismatch> {
        let (schema, root) = schema();
        let Value::Object(mut map) = value else { unreachable!("tests pass objects") };
        let found = conform(&schema, root, &mut map)?;
        Ok((Value::Object(map), found.unknown))
    }

    #[test]
    fn go_habits() {
        let (value, unknown) = conformed(json!({
            "spec": {"on": false, "maybe": false, "size": "1000m", "typo": 1},
            "items": [{"on": true, "count": null}], "extra": {},
        }))
        .expect("fits");
        assert_eq!(
            value,
            json!({
                "spec": {"maybe": false, "count": 0, "size": "1"},
                "items": [{"on": true, "count": 0}],
                "must": null,
            })
        );
        assert_eq!(unknown, ["spec.typo", "extra"]);
    }

    #[test]
    fn empty_objects_get_what_go_writes() {
        assert_eq!(conformed(json!({})).expect("fits").0, json!({"spec": {"count": 0}, "must": null}));
    }

    #[test]
    fn mismatches_read_as_gos() {
        let error = conformed(json!({"spec": {"count": "x"}})).expect_err("a text is no count");
        assert_eq!(
            error.to_string(),
            "json: cannot unmarshal string into Go struct field Spec.spec.count of type int32"
        );
        assert!(conformed(json!({"spec": {"count": 3_000_000_000_i64}})).is_err());
        assert_eq!(conformed(json!({"spec": {"count": 3.0}})).expect("whole").0["spec"]["count"], json!(3));
    }
}
