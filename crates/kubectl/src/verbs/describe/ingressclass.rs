//! Ingress classes.

use super::Subject;
use super::text::{Text, text};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.metadata(object);
    out.field("Controller", text(&object["spec"]["controller"]));
    if let Some(parameters) = object["spec"].get("parameters") {
        out.line(0, "Parameters:");
        if parameters.get("apiGroup").is_some() {
            out.field_at(1, "APIGroup", text(&parameters["apiGroup"]));
        }
        out.field_at(1, "Kind", text(&parameters["kind"]));
        out.field_at(1, "Name", text(&parameters["name"]));
    }
}
