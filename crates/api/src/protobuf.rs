//! The Kubernetes protobuf encoding of objects, read with the same schema that
//! JSON is read with: one table, no generated types.
//!
//! The envelope is `k8s\0` and a `runtime.Unknown`; scalar-like types
//! (quantities, times, int-or-strings) are messages of their own there.

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use crate::schema::{Field, Schema, Shape, StructId, conform};
use crate::time;

const MAGIC: &[u8] = b"k8s\0";
/// The schemas of definitions, which hold themselves by way of unions.
const SCHEMA: &str = "apiextensions/v1.JSONSchemaProps";
/// The fields of a schema that are unions.
const UNIONS: [&str; 3] = ["items", "additionalProperties", "additionalItems"];
/// How deep messages may nest.
const MAX_DEPTH: usize = 200;

/// Bytes that are not an object of the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// No `k8s\0` at the start.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// The wire format is broken.
    #[error("broken protobuf: {0}")]
    Broken(&'static str),
    /// A field whose encoding is not known here.
    #[error("field {0} cannot be read from protobuf")]
    Unsupported(String),
}

/// The envelope of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// The message.
    pub raw: &'a [u8],
}

/// Opens the envelope.
///
/// # Errors
/// Bytes that have none.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    let body = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let mut envelope = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    for field in Fields(body) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => envelope.api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => envelope.kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(raw)) => envelope.raw = raw,
            _ => {}
        }
    }
    Ok(envelope)
}

/// Decodes a message of a struct into its JSON.
///
/// # Errors
/// Bytes that are not such a message.
pub fn decode(schema: &Schema, id: StructId, bytes: &[u8]) -> Result<Map<String, Value>, ProtobufError> {
    let mut object = Map::new();
    Decoder { schema }.message(id, bytes, &mut object, 0)?;
    Ok(object)
}

/// A value on the wire.
#[derive(Clone, Copy, Debug)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(ProtobufError::Broken("cut off in a number"))?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Broken("a number that is too long"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], ProtobufError> {
        if count > self.0.len() {
            return Err(ProtobufError::Broken("cut off"));
        }
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn read(&mut self) -> Result<(u32, Wire<'a>), ProtobufError> {
        let tag = self.varint()?;
        let number =
            u32::try_from(tag >> 3).map_err(|_| ProtobufError::Broken("a field number that is too large"))?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(
                self.take(8)?.try_into().map_err(|_| ProtobufError::Broken("cut off"))?,
            )),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length)
                    .map_err(|_| ProtobufError::Broken("a length that is too large"))?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(
                self.take(4)?.try_into().map_err(|_| ProtobufError::Broken("cut off"))?,
            )),
            _ => return Err(ProtobufError::Broken("an unknown wire type")),
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn utf8(bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Broken("text that is not UTF-8"))
}

struct Decoder<'s> {
    schema: &'s Schema,
}

impl<'s> Decoder<'s> {
    fn message(
        &self,
        id: StructId,
        bytes: &[u8],
        into: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        if depth > MAX_DEPTH {
            return Err(ProtobufError::Broken("nested too deep"));
        }
        let of = self.schema.get(id);
        for read in Fields(bytes) {
            let (number, wire) = read?;
            if let (Some(nested), Wire::Bytes(bytes)) =
                (of.nested_proto.iter().find(|one| one.number == number), wire)
            {
                self.message(nested.of, bytes, into, depth + 1)?;
                continue;
            }
            let found =
                of.fields.iter().find(|(_, field)| field.proto.is_some_and(|proto| proto.number == number));
            // A field that this version does not have is skipped, as upstream skips it.
            let Some((name, field)) = found else { continue };
            if let Wire::Bytes(bytes) = wire
                && UNIONS.contains(&name.as_str())
                && self.schema.find(SCHEMA) == Some(id)
            {
                into.insert(name.clone(), self.schema_or_other(id, name, bytes, depth)?);
                continue;
            }
            self.field(name, field, wire, into, depth)?;
        }
        Ok(())
    }

    fn field(
        &self,
        name: &str,
        field: &'s Field,
        wire: Wire<'_>,
        into: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        match &field.shape {
            Shape::List(of) => {
                let list = into.entry(name.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(list) = list else { return Err(ProtobufError::Broken("a list twice")) };
                match (&**of, wire) {
                    // Numbers may be packed.
                    (Shape::Int32 | Shape::Int64 | Shape::Bool, Wire::Bytes(packed)) => {
                        let mut rest = Fields(packed);
                        while !rest.0.is_empty() {
                            let number = rest.varint()?;
                            list.push(self.value(name, of, Wire::Varint(number), depth)?);
                        }
                    }
                    _ => list.push(self.value(name, of, wire, depth)?),
                }
            }
            Shape::Map(of) => {
                let Wire::Bytes(entry) = wire else {
                    return Err(ProtobufError::Broken("a map entry that is none"));
                };
                let map = into.entry(name.to_owned()).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(map) = map else { return Err(ProtobufError::Broken("a map twice")) };
                let (mut key, mut value) = (String::new(), None);
                for field in Fields(entry) {
                    match field? {
                        (1, Wire::Bytes(text)) => key = utf8(text)?,
                        (2, wire) => value = Some(self.value(name, of, wire, depth)?),
                        _ => {}
                    }
                }
                let value = value.unwrap_or_else(|| empty(of));
                map.insert(key, value);
            }
            Shape::Struct(id) => {
                let Wire::Bytes(bytes) = wire else {
                    return Err(ProtobufError::Broken("a message that is none"));
                };
                // A message that comes twice is merged, as protobuf has it.
                let object = into.entry(name.to_owned()).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(object) = object else {
                    return Err(ProtobufError::Broken("a message twice"));
                };
                self.message(*id, bytes, object, depth + 1)?;
            }
            shape => {
                let value = self.value(name, shape, wire, depth)?;
                into.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    /// The unions in the schemas of definitions: a schema or a list of them, or
    /// whether there may be anything.
    fn schema_or_other(
        &self,
        id: StructId,
        name: &str,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Value, ProtobufError> {
        let schema = |bytes: &[u8]| {
            let mut object = Map::new();
            self.message(id, bytes, &mut object, depth + 1)?;
            // Zeros are written; what holds the union does not look into it to drop them.
            conform(self.schema, id, &mut object).map_err(|_| ProtobufError::Unsupported(name.to_owned()))?;
            Ok(Value::Object(object))
        };
        let mut found = Value::Null;
        for field in Fields(bytes) {
            match (name, field?) {
                ("items", (1, Wire::Bytes(bytes))) => found = schema(bytes)?,
                ("items", (2, Wire::Bytes(bytes))) => match &mut found {
                    Value::Array(list) => list.push(schema(bytes)?),
                    other => *other = Value::Array(vec![schema(bytes)?]),
                },
                // Written even where a schema follows.
                (_, (1, Wire::Varint(number))) => found = (number != 0).into(),
                (_, (2, Wire::Bytes(bytes))) => found = schema(bytes)?,
                _ => return Err(ProtobufError::Unsupported(name.to_owned())),
            }
        }
        Ok(found)
    }

    fn value(
        &self,
        name: &str,
        shape: &'s Shape,
        wire: Wire<'_>,
        depth: usize,
    ) -> Result<Value, ProtobufError> {
        let unsupported = || ProtobufError::Unsupported(name.to_owned());
        Ok(match (shape, wire) {
            (Shape::String, Wire::Bytes(text)) => utf8(text)?.into(),
            (Shape::Bytes, Wire::Bytes(bytes)) => {
                base64::engine::general_purpose::STANDARD.encode(bytes).into()
            }
            (Shape::Bool, Wire::Varint(number)) => (number != 0).into(),
            #[expect(
                clippy::cast_possible_wrap,
                reason = "two's complement is how protobuf writes negative numbers"
            )]
            (Shape::Int32 | Shape::Int64, Wire::Varint(number)) => (number as i64).into(),
            (Shape::Float, Wire::Fixed64(bits)) => {
                Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number)
            }
            (Shape::Float, Wire::Fixed32(bits)) => {
                Number::from_f64(f32::from_bits(bits).into()).map_or(Value::Null, Value::Number)
            }
            (Shape::Quantity, Wire::Bytes(bytes)) => {
                text_field(bytes, 1)?.unwrap_or_else(|| "0".to_owned()).into()
            }
            (Shape::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
            (Shape::Time, Wire::Bytes(bytes)) => timestamp(bytes, time::format)?,
            (Shape::MicroTime, Wire::Bytes(bytes)) => timestamp(bytes, time::format_micro)?,
            (Shape::Duration, Wire::Bytes(bytes)) => go_duration(numbers(bytes)?.0).into(),
            (Shape::Any | Shape::Fields, Wire::Bytes(bytes)) => match raw_field(bytes)? {
                Some([]) => Value::Null,
                Some(raw) => serde_json::from_slice(raw).map_err(|_| unsupported())?,
                None if bytes.is_empty() => Value::Null,
                None => return Err(unsupported()),
            },
            (Shape::Struct(id), Wire::Bytes(bytes)) => {
                let mut object = Map::new();
                self.message(*id, bytes, &mut object, depth + 1)?;
                Value::Object(object)
            }
            // A list inside a map or list is a message with its items in field 1.
            (Shape::List(of), Wire::Bytes(bytes)) => {
                let mut items = Vec::new();
                for field in Fields(bytes) {
                    if let (1, wire) = field? {
                        items.push(self.value(name, of, wire, depth + 1)?);
                    }
                }
                Value::Array(items)
            }
            _ => return Err(unsupported()),
        })
    }
}

fn empty(shape: &Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes => "".into(),
        Shape::Quantity => "0".into(),
        Shape::Struct(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

fn text_field(bytes: &[u8], wanted: u32) -> Result<Option<String>, ProtobufError> {
    let mut found = None;
    for field in Fields(bytes) {
        if let (number, Wire::Bytes(text)) = field?
            && number == wanted
        {
            found = Some(utf8(text)?);
        }
    }
    Ok(found)
}

fn raw_field(bytes: &[u8]) -> Result<Option<&[u8]>, ProtobufError> {
    let mut found = None;
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(raw)) => found = Some(raw),
            _ => return Ok(None),
        }
    }
    Ok(found)
}

/// The integers in fields 1 and 2.
#[expect(clippy::cast_possible_wrap, reason = "two's complement is how protobuf writes negative numbers")]
fn numbers(bytes: &[u8]) -> Result<(i64, i64), ProtobufError> {
    let mut found = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(number)) => found.0 = number as i64,
            (2, Wire::Varint(number)) => found.1 = number as i64,
            _ => {}
        }
    }
    Ok(found)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (kind, number) = numbers(bytes)?;
    Ok(if kind == 1 { text_field(bytes, 3)?.unwrap_or_default().into() } else { number.into() })
}

fn timestamp(bytes: &[u8], format: fn(Timestamp) -> String) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (seconds, nanos) = numbers(bytes)?;
    // Go's zero time is no time.
    if seconds == -62_135_596_800 {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).map_err(|_| ProtobufError::Broken("a time out of range"))?;
    let time = Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Broken("a time out of range"))?;
    Ok(format(time).into())
}

/// A duration as Go prints it: `1h2m3.5s`.
fn go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let (seconds, fraction) = (total / 1_000_000_000, total % 1_000_000_000);
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if fraction == 0 {
        String::new()
    } else {
        format!(".{fraction:09}").trim_end_matches('0').to_owned()
    };
    match (hours, minutes) {
        (0, 0) => format!("{sign}{rest}{fraction}s"),
        (0, _) => format!("{sign}{minutes}m{rest}{fraction}s"),
        _ => format!("{sign}{hours}h{minutes}m{rest}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_bytes_are_errors() {
        assert_eq!(open(b"{}"), Err(ProtobufError::NoMagic));
        for bytes in [
            &b"k8s\0\x0a"[..],
            b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"k8s\0\x0f",
            b"k8s\0\x12\x05a",
        ] {
            assert!(open(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn durations() {
        for (nanos, text) in [
            (0, "0s"),
            (90_000_000_000, "1m30s"),
            (1_500_000_000, "1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (-1_000_000_000, "-1s"),
        ] {
            assert_eq!(go_duration(nanos), text);
        }
    }

    #[test]
    fn envelopes_open() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(b"\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02ab");
        let envelope = open(&bytes).expect("opens");
        assert_eq!(
            (envelope.api_version.as_str(), envelope.kind.as_str(), envelope.raw),
            ("v1", "Pod", &b"ab"[..])
        );
    }
}
