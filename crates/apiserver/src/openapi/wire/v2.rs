//! An OpenAPI v2 document in gnostic's encoding (`openapi.v2.Document`).

use serde_json::{Map, Value};

use super::message::Message;

/// The media type that clients ask for.
pub(crate) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What older clients call it, which is no valid media type.
pub(crate) const OLD_MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Encodes the document.
pub(crate) fn encode(document: &Value) -> Vec<u8> {
    let info = &document["info"];
    let info = Message::default().text(1, info.get("title")).text(2, info.get("version"));
    let paths = entries(&document["paths"])
        .fold(Message::default(), |all, (path, item)| all.named(2, path, path_item(item)));
    let definitions = entries(&document["definitions"])
        .fold(Message::default(), |all, (name, one)| all.named(1, name, schema(one)));
    Message::default()
        .text(1, document.get("swagger"))
        .message(2, info)
        .message(8, paths)
        .message(9, definitions)
        .0
}

fn entries(of: &Value) -> impl Iterator<Item = (&String, &Value)> {
    of.as_object().into_iter().flat_map(Map::iter)
}

fn path_item(item: &Value) -> Message {
    const METHODS: [(&str, u32); 5] = [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)];
    METHODS.iter().fold(Message::default(), |all, (method, number)| match item.get(method) {
        Some(one) => all.message(*number, operation(one)),
        None => all,
    })
}

fn operation(of: &Value) -> Message {
    let list = |name: &str| of[name].as_array().into_iter().flatten();
    let all = list("tags").fold(Message::default(), |all, tag| all.text(1, Some(tag)));
    let all = all.text(5, of.get("operationId"));
    let all = list("consumes").fold(all, |all, media| all.text(7, Some(media)));
    let all = list("parameters").fold(all, |all, one| all.message(8, parameter(one)));
    let responses = entries(&of["responses"]).fold(Message::default(), |all, (code, one)| {
        let mut response = Message::default().text(1, one.get("description"));
        if let Some(of) = one.get("schema") {
            response = response.message(2, Message::default().message(1, schema(of)));
        }
        all.named(1, code, Message::default().message(1, response))
    });
    all.message(9, responses).extensions(13, of)
}

/// A `ParametersItem`: a body, or what a query may have.
fn parameter(of: &Value) -> Message {
    let parameter = if of["in"] == "body" {
        let body = Message::default()
            .text(2, of.get("name"))
            .text(3, of.get("in"))
            .flag(4, of.get("required"))
            .message(5, schema(&of["schema"]));
        Message::default().message(1, body)
    } else {
        // Parameter → NonBodyParameter → QueryParameterSubSchema.
        let query = Message::default().text(2, of.get("in")).text(4, of.get("name")).text(6, of.get("type"));
        Message::default().message(2, Message::default().message(3, query))
    };
    Message::default().message(1, parameter)
}

fn schema(of: &Value) -> Message {
    let list = |name: &str| of[name].as_array().into_iter().flatten();
    let mut all = Message::default()
        .text(1, of.get("$ref"))
        .text(2, of.get("format"))
        .text(3, of.get("title"))
        .text(4, of.get("description"));
    if let Some(default) = of.get("default") {
        all = all.message(5, Message::any(default));
    }
    all = all
        .double(6, of.get("multipleOf"))
        .double(7, of.get("maximum"))
        .flag(8, of.get("exclusiveMaximum"))
        .double(9, of.get("minimum"))
        .flag(10, of.get("exclusiveMinimum"))
        .integer(11, of.get("maxLength"))
        .integer(12, of.get("minLength"))
        .text(13, of.get("pattern"))
        .integer(14, of.get("maxItems"))
        .integer(15, of.get("minItems"))
        .flag(16, of.get("uniqueItems"))
        .integer(17, of.get("maxProperties"))
        .integer(18, of.get("minProperties"));
    all = list("required").fold(all, |all, name| all.text(19, Some(name)));
    all = list("enum").fold(all, |all, value| all.message(20, Message::any(value)));
    all = match of.get("additionalProperties") {
        Some(of @ Value::Object(_)) => all.message(21, Message::default().message(1, schema(of))),
        Some(of @ Value::Bool(true)) => all.message(21, Message::default().flag(2, Some(of))),
        _ => all,
    };
    if of["type"].is_string() {
        all = all.message(22, Message::default().text(1, of.get("type")));
    }
    if of["items"].is_object() {
        all = all.message(23, Message::default().message(1, schema(&of["items"])));
    }
    all = list("allOf").fold(all, |all, one| all.message(24, schema(one)));
    if of["properties"].is_object() {
        let properties = entries(&of["properties"])
            .fold(Message::default(), |all, (name, one)| all.named(1, name, schema(one)));
        all = all.message(25, properties);
    }
    all.extensions(31, of)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_on_the_wire() {
        let of = json!({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/d"}}, "x-k": 1});
        let expected =
            b"\x9a\x01\x01a\xb2\x01\x08\x0a\x06object\xca\x01\x0d\x0a\x0b\x0a\x01a\x12\x06\x0a\x04\x23/d\x00";
        let found = schema(&of).0;
        assert_eq!(&found[..15], &expected[..15]);
        assert!(found.ends_with(b"\x0a\x03x-k\x12\x03\x12\x011"), "{found:x?}");
    }
}
