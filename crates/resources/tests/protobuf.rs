//! Bodies in protobuf as Go's clients write them: every field that is no pointer,
//! zero or not.

use api::protobuf;
use resources::Catalogue;
use serde_json::{Value, json};

/// A field with bytes.
fn bytes(number: u8, inner: &[u8]) -> Vec<u8> {
    assert!(number < 16 && inner.len() < 128, "one byte each");
    [&[number << 3 | 2, inner.len() as u8], inner].concat()
}

/// A field beyond the fifteenth with bytes.
fn far(number: u8, inner: &[u8]) -> Vec<u8> {
    let tag = u16::from(number) << 3 | 2;
    [&[(tag & 0x7f) as u8 | 0x80, (tag >> 7) as u8, inner.len() as u8], inner].concat()
}

#[test]
fn schemas_hold_themselves_by_unions() {
    let catalogue = Catalogue::built_in();
    let kind = catalogue.iter().find(|kind| kind.kind == "CustomResourceDefinition").expect("the kind");
    let schema = &kind.shape.0;
    let id = schema.find("apiextensions/v1.JSONSchemaProps").expect("the struct");
    let empty_id = bytes(1, b"");
    let leaf = [empty_id.clone(), bytes(5, b"string")].concat();
    // items: a schema; additionalProperties: whether, and a schema; additionalItems: false.
    let items = far(24, &bytes(1, &leaf));
    let additional = far(30, &[vec![1 << 3, 1], bytes(2, &leaf)].concat());
    let none = far(33, &[1 << 3, 0]);
    let message = [empty_id, bytes(5, b"object"), items, additional, none].concat();
    let decoded = protobuf::decode(schema, id, &message).expect("decodes");
    let leaf = json!({"type": "string"});
    assert_eq!(
        [&decoded["items"], &decoded["additionalProperties"], &decoded["additionalItems"]],
        [&leaf, &leaf, &Value::from(false)]
    );
    let list = far(24, &[bytes(2, &bytes(5, b"a")), bytes(2, &bytes(5, b"b"))].concat());
    let decoded = protobuf::decode(schema, id, &list).expect("decodes");
    assert_eq!(decoded["items"], json!([{"type": "a"}, {"type": "b"}]));
    let mut deep = bytes(5, b"a");
    for _ in 0..20 {
        deep = far(24, &bytes(1, &deep));
    }
    assert!(protobuf::decode(schema, id, &deep).is_ok());
}
