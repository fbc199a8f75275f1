//! Addresses of services.

use super::Subject;
use super::text::{Text, text};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.metadata(object);
    if let Some(parent) = object["spec"].get("parentRef") {
        out.line(0, "Parent Reference:");
        for (title, field) in
            [("Group", "group"), ("Resource", "resource"), ("Namespace", "namespace"), ("Name", "name")]
        {
            out.field_at(1, title, text(&parent[field]));
        }
    }
}
