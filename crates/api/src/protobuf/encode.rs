//! The other way: from JSON to the Kubernetes protobuf encoding.

use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::{MAGIC, MAX_DEPTH, ProtobufError, SCHEMA, UNIONS};
use crate::schema::{Field, Schema, Shape, StructId};

/// An object in its envelope. The message stands at its end.
#[must_use]
pub fn seal(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = seal_head(api_version, kind, message.len());
    out.extend_from_slice(message);
    out
}

/// What stands before a message of a length in its envelope.
#[must_use]
pub fn seal_head(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut meta = Vec::with_capacity(api_version.len() + kind.len() + 4);
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(meta.len() + length + 16);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &meta);
    put_head(&mut out, 2, length);
    out
}

/// A `meta/v1.WatchEvent` of a sealed object, with its length before it, as
/// streams have it.
pub fn put_event(out: &mut Vec<u8>, event: &str, sealed: &[u8]) {
    let mut head = Vec::with_capacity(event.len() + 24);
    put_bytes(&mut head, 1, event.as_bytes());
    let mut raw = Vec::with_capacity(12);
    put_head(&mut raw, 1, sealed.len());
    put_head(&mut head, 2, raw.len() + sealed.len());
    let length = head.len() + raw.len() + sealed.len();
    out.reserve(length + 4);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(&raw);
    out.extend_from_slice(sealed);
}

/// Encodes an object of a struct.
///
/// # Errors
/// A value that does not fit its field.
pub fn encode(schema: &Schema, id: StructId, object: &Map<String, Value>) -> Result<Vec<u8>, ProtobufError> {
    let mut out = Vec::with_capacity(1024);
    Encoder { schema }.message(id, object, &mut out, 0)?;
    Ok(out)
}

/// Writes the head of a field of bytes.
pub fn put_head(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value.cast_unsigned());
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

struct Encoder<'s> {
    schema: &'s Schema,
}

impl Encoder<'_> {
    fn message(
        &self,
        id: StructId,
        object: &Map<String, Value>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        if depth > MAX_DEPTH {
            return Err(ProtobufError::Broken("nested too deep"));
        }
        let of = self.schema.get(id);
        let is_schema = self.schema.find(SCHEMA) == Some(id);
        for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            let Some((field, proto)) = of.fields.get(name).and_then(|field| Some((field, field.proto?)))
            else {
                continue;
            };
            if is_schema && UNIONS.contains(&name.as_str()) {
                let union = self.schema_or_other(id, name, value, depth)?;
                put_bytes(out, proto.number, &union);
            } else {
                self.field(name, field, proto.number, value, out, depth)?;
            }
        }
        for nested in &of.nested_proto {
            let mut inner = Vec::new();
            self.message(nested.of, object, &mut inner, depth + 1)?;
            if !inner.is_empty() {
                put_bytes(out, nested.number, &inner);
            }
        }
        Ok(())
    }

    fn field(
        &self,
        name: &str,
        field: &Field,
        number: u32,
        value: &Value,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        match (&field.shape, value) {
            (Shape::List(of), Value::Array(items)) => {
                items.iter().try_for_each(|item| self.value(name, of, number, item, out, depth))
            }
            (Shape::Map(of), Value::Object(entries)) => {
                for (key, value) in entries {
                    let mut entry = Vec::with_capacity(key.len() + 16);
                    put_bytes(&mut entry, 1, key.as_bytes());
                    if !value.is_null() {
                        self.value(name, of, 2, value, &mut entry, depth)?;
                    }
                    put_bytes(out, number, &entry);
                }
                Ok(())
            }
            (shape, value) => self.value(name, shape, number, value, out, depth),
        }
    }

    fn value(
        &self,
        name: &str,
        shape: &Shape,
        number: u32,
        value: &Value,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        let unsupported = || ProtobufError::Unsupported(name.to_owned());
        match (shape, value) {
            (Shape::Any | Shape::Fields, value) => {
                let raw = serde_json::to_vec(value).map_err(|_| unsupported())?;
                let mut message = Vec::with_capacity(raw.len() + 8);
                put_bytes(&mut message, 1, &raw);
                put_bytes(out, number, &message);
            }
            (Shape::String, Value::String(text)) => put_bytes(out, number, text.as_bytes()),
            (Shape::Bytes, Value::String(text)) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                put_bytes(out, number, &bytes.map_err(|_| unsupported())?);
            }
            (Shape::Bool, Value::Bool(is)) => put_number(out, number, i64::from(*is)),
            (Shape::Int32 | Shape::Int64, Value::Number(int)) => {
                put_number(out, number, int.as_i64().ok_or_else(unsupported)?);
            }
            (Shape::Float, Value::Number(float)) => {
                put_varint(out, u64::from(number) << 3 | 1);
                out.extend_from_slice(&float.as_f64().unwrap_or_default().to_le_bytes());
            }
            (Shape::Quantity, Value::String(text)) => put_quantity(out, number, text),
            (Shape::Quantity, Value::Number(plain)) => put_quantity(out, number, &plain.to_string()),
            (Shape::IntOrString, value) => {
                let mut message = Vec::with_capacity(16);
                match value {
                    Value::String(text) => {
                        put_number(&mut message, 1, 1);
                        put_bytes(&mut message, 3, text.as_bytes());
                    }
                    other => {
                        put_number(&mut message, 1, 0);
                        put_number(&mut message, 2, other.as_i64().ok_or_else(unsupported)?);
                    }
                }
                put_bytes(out, number, &message);
            }
            (Shape::Time | Shape::MicroTime, Value::String(text)) => {
                let time: Timestamp = text.parse().map_err(|_| unsupported())?;
                let mut message = Vec::with_capacity(16);
                put_number(&mut message, 1, time.as_second());
                put_number(&mut message, 2, time.subsec_nanosecond().into());
                put_bytes(out, number, &message);
            }
            (Shape::Duration, Value::String(text)) => {
                let duration: SignedDuration = text.parse().map_err(|_| unsupported())?;
                let nanos = i64::try_from(duration.as_nanos()).map_err(|_| unsupported())?;
                let mut message = Vec::with_capacity(12);
                put_number(&mut message, 1, nanos);
                put_bytes(out, number, &message);
            }
            (Shape::Struct(id), Value::Object(object)) => {
                let mut message = Vec::new();
                self.message(*id, object, &mut message, depth + 1)?;
                put_bytes(out, number, &message);
            }
            // A list inside a map or list is a message with its items in field 1.
            (Shape::List(of), Value::Array(items)) => {
                let mut message = Vec::new();
                items.iter().try_for_each(|item| self.value(name, of, 1, item, &mut message, depth + 1))?;
                put_bytes(out, number, &message);
            }
            // Nothing inside a list is still an item.
            (Shape::Struct(_), Value::Null) => put_bytes(out, number, &[]),
            _ => return Err(unsupported()),
        }
        Ok(())
    }

    /// The unions in the schemas of definitions.
    fn schema_or_other(
        &self,
        id: StructId,
        name: &str,
        value: &Value,
        depth: usize,
    ) -> Result<Vec<u8>, ProtobufError> {
        let mut out = Vec::new();
        let put = |out: &mut Vec<u8>, number: u32, schema: &Value| {
            let object = schema.as_object().ok_or_else(|| ProtobufError::Unsupported(name.to_owned()))?;
            let mut message = Vec::new();
            self.message(id, object, &mut message, depth + 1)?;
            put_bytes(out, number, &message);
            Ok(())
        };
        match (name, value) {
            ("items", Value::Array(schemas)) => {
                schemas.iter().try_for_each(|schema| put(&mut out, 2, schema))?;
            }
            ("items", schema) => put(&mut out, 1, schema)?,
            (_, Value::Bool(is)) => put_number(&mut out, 1, i64::from(*is)),
            (_, schema) => {
                put_number(&mut out, 1, 1);
                put(&mut out, 2, schema)?;
            }
        }
        Ok(out)
    }
}

fn put_quantity(out: &mut Vec<u8>, number: u32, text: &str) {
    let mut message = Vec::with_capacity(text.len() + 2);
    put_bytes(&mut message, 1, text.as_bytes());
    put_bytes(out, number, &message);
}
