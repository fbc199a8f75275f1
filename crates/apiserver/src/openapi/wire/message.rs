//! Just enough of protobuf's wire format to write messages.

use serde_json::Value;

/// A message under way.
#[derive(Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }

    pub(super) fn bytes(mut self, number: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn text(self, number: u32, value: Option<&Value>) -> Self {
        match value.and_then(Value::as_str) {
            Some(text) => self.bytes(number, text.as_bytes()),
            None => self,
        }
    }

    pub(super) fn integer(mut self, number: u32, value: Option<&Value>) -> Self {
        if let Some(integer) = value.and_then(Value::as_u64) {
            self.varint(u64::from(number) << 3);
            self.varint(integer);
        }
        self
    }

    pub(super) fn flag(mut self, number: u32, value: Option<&Value>) -> Self {
        if value.and_then(Value::as_bool) == Some(true) {
            self.varint(u64::from(number) << 3);
            self.varint(1);
        }
        self
    }

    pub(super) fn double(mut self, number: u32, value: Option<&Value>) -> Self {
        if let Some(double) = value.and_then(Value::as_f64) {
            self.varint(u64::from(number) << 3 | 1);
            self.0.extend_from_slice(&double.to_le_bytes());
        }
        self
    }

    pub(super) fn message(self, number: u32, message: Self) -> Self {
        self.bytes(number, &message.0)
    }

    /// A pair of a name and a message.
    pub(super) fn named(self, number: u32, name: &str, message: Self) -> Self {
        self.message(number, Self::default().bytes(1, name.as_bytes()).message(2, message))
    }

    /// Any value, as YAML: JSON is YAML.
    pub(super) fn any(value: &Value) -> Self {
        Self::default().bytes(2, value.to_string().as_bytes())
    }

    /// The extensions of an object.
    pub(super) fn extensions(self, number: u32, of: &Value) -> Self {
        let extensions = of.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-"));
        extensions.fold(self, |all, (name, value)| all.named(number, name, Self::any(value)))
    }
}
