//! Storage drivers of nodes.

use super::Subject;
use super::text::{Text, bracketed, items, text, time};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.metadata(object);
    out.field("CreationTimestamp", time(&object["metadata"]["creationTimestamp"]));
    out.line(0, "Spec:");
    if object["spec"]["drivers"].is_array() {
        out.line(1, "Drivers:");
    }
    for driver in items(&object["spec"]["drivers"]) {
        out.line(2, format_args!("{}:", text(&driver["name"])));
        out.field_at(3, "Node ID", text(&driver["nodeID"]));
        if let Some(count) = driver["allocatable"]["count"].as_i64() {
            out.line(3, "Allocatables:");
            out.field_at(4, "Count", count);
        }
        if driver["topologyKeys"].is_array() {
            out.field_at(3, "Topology Keys", bracketed(&driver["topologyKeys"]));
        }
    }
}
