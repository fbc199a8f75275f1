//! OpenAPI documents in the protobuf encodings that client-go reads: here the
//! third version (gnostic's `openapi.v3.Document`), in [`v2`] the second.
//!
//! The encoding carries the paths with their operations, parameters and
//! extensions, from which clients learn what the server understands. Schemas
//! are in the JSON encoding only.

mod message;
pub(crate) mod v2;

use message::Message;
use serde_json::Value;

/// The media type that clients ask for.
pub(crate) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
/// What older clients call it, which is no valid media type.
pub(crate) const OLD_MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";

/// Encodes the document.
pub(crate) fn encode(document: &Value) -> Vec<u8> {
    let info = &document["info"];
    let info = Message::default().text(1, info.get("title")).text(6, info.get("version"));
    let paths = document["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .fold(Message::default(), |all, (path, item)| all.named(1, path, path_item(item)));
    Message::default().text(1, document.get("openapi")).message(2, info).message(4, paths).0
}

fn path_item(item: &Value) -> Message {
    const METHODS: [(&str, u32); 5] = [("get", 4), ("put", 5), ("post", 6), ("delete", 7), ("patch", 10)];
    METHODS.iter().fold(Message::default(), |all, (method, number)| match item.get(method) {
        Some(one) => all.message(*number, operation(one)),
        None => all,
    })
}

fn operation(operation: &Value) -> Message {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let all = parameters.fold(Message::default(), |all, one| {
        let parameter = Message::default().text(1, one.get("name")).text(2, one.get("in"));
        all.message(6, Message::default().message(1, parameter))
    });
    all.text(4, operation.get("operationId")).extensions(13, operation)
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
