//! An OpenAPI v3 document in the protobuf encoding that client-go reads
//! (gnostic's `openapi.v3.Document`).
//!
//! The encoding carries the paths with their operations, parameters and
//! extensions, from which clients learn what the server understands. Schemas
//! are in the JSON encoding only.

use serde_json::Value;

/// The media type that clients ask for.
pub(crate) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";

/// A message under way.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }

    fn bytes(mut self, number: usize, bytes: &[u8]) -> Self {
        self.varint(number << 3 | 2);
        self.varint(bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, number: usize, value: Option<&Value>) -> Self {
        match value.and_then(Value::as_str) {
            Some(text) => self.bytes(number, text.as_bytes()),
            None => self,
        }
    }

    fn message(self, number: usize, message: Self) -> Self {
        self.bytes(number, &message.0)
    }
}

/// Encodes the document.
pub(crate) fn encode(document: &Value) -> Vec<u8> {
    let info = &document["info"];
    let info = Message::default().text(1, info.get("title")).text(6, info.get("version"));
    let paths =
        document["paths"].as_object().into_iter().flatten().fold(Message::default(), |all, (path, item)| {
            all.message(1, Message::default().bytes(1, path.as_bytes()).message(2, path_item(item)))
        });
    Message::default().text(1, document.get("openapi")).message(2, info).message(4, paths).0
}

fn path_item(item: &Value) -> Message {
    const METHODS: [(&str, usize); 5] = [("get", 4), ("put", 5), ("post", 6), ("delete", 7), ("patch", 10)];
    METHODS.iter().fold(Message::default(), |all, (method, number)| match item.get(method) {
        Some(one) => all.message(*number, operation(one)),
        None => all,
    })
}

fn operation(operation: &Value) -> Message {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let mut all = parameters.fold(Message::default(), |all, one| {
        let parameter = Message::default().text(1, one.get("name")).text(2, one.get("in"));
        all.message(6, Message::default().message(1, parameter))
    });
    for (name, value) in
        operation.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-"))
    {
        // JSON is YAML.
        let any = Message::default().bytes(2, value.to_string().as_bytes());
        all = all.message(13, Message::default().bytes(1, name.as_bytes()).message(2, any));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_on_the_wire() {
        let document = json!({
            "openapi": "3.0.0", "info": {"title": "K", "version": "v1"},
            "paths": {"/a": {"patch": {"parameters": [{"name": "p", "in": "query"}], "x-k": {"a": 1}}}},
        });
        let expected = b"\x0a\x053.0.0\x12\x07\x0a\x01K\x32\x02v1\x22\x2a\x0a\x28\x0a\x02/a\x12\x22\x52\x20\x32\x0c\x0a\x0a\x0a\x01p\x12\x05query\x6a\x10\x0a\x03x-k\x12\x09\x12\x07{\"a\":1}";
        assert_eq!(encode(&document), expected);
    }
}
