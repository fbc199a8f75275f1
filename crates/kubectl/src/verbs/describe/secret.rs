//! Secrets: the sizes of their values, not the values.

use base64::Engine as _;
use serde_json::Value;

use super::Subject;
use super::text::{Text, entries, text};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.field("Namespace", text(&object["metadata"]["namespace"]));
    out.metadata(object);
    let kind = text(&object["type"]);
    out.line(0, format_args!("\nType:\t{kind}"));
    out.line(0, "\nData\n====");
    for (key, value) in entries(&object["data"]) {
        let bytes = decoded(value);
        if key == "token" && kind == "kubernetes.io/service-account-token" {
            out.field(key, String::from_utf8_lossy(&bytes));
        } else {
            out.field(key, format_args!("{} bytes", bytes.len()));
        }
    }
}

/// The bytes of a value in base64.
pub(super) fn decoded(value: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text(value)).unwrap_or_default()
}
