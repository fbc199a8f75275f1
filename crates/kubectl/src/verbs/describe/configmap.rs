//! Config maps.

use super::Subject;
use super::secret::decoded;
use super::text::{Text, entries, text};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.field("Namespace", text(&object["metadata"]["namespace"]));
    out.metadata(object);
    out.line(0, "\nData\n====");
    for (key, value) in entries(&object["data"]) {
        out.line(0, format_args!("{key}:\n----\n{}\n", text(value)));
    }
    out.line(0, "\nBinaryData\n====");
    for (key, value) in entries(&object["binaryData"]) {
        out.line(0, format_args!("{key}: {} bytes", decoded(value).len()));
    }
    out.line(0, "");
}
