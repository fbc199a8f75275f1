//! Stateful sets.

use serde_json::Value;

use super::Subject;
use super::template::{self, pods_status};
use super::text::{Text, bracketed, items, number, text, time};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    out.field("Name", text(&metadata["name"]));
    out.field("Namespace", text(&metadata["namespace"]));
    out.field("CreationTimestamp", time(&metadata["creationTimestamp"]));
    out.field("Selector", crate::pods::selector_text(&spec["selector"]));
    out.metadata(object);
    out.field(
        "Replicas",
        format_args!("{} desired | {} total", number(&spec["replicas"]), number(&status["replicas"])),
    );
    out.field("Update Strategy", text(&spec["updateStrategy"]["type"]));
    if let Some(partition) = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64() {
        out.field_at(1, "Partition", partition);
        let unavailable = &spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"];
        if !unavailable.is_null() {
            out.field_at(1, "MaxUnavailable", crate::jsonpath::plain(unavailable));
        }
    }
    out.field("Pods Status", pods_status(subject));
    template::write(out, &spec["template"]);
    claims(out, &spec["volumeClaimTemplates"]);
}

fn claims(out: &mut Text, claims: &Value) {
    if items(claims).next().is_none() {
        return out.field("Volume Claims", "<none>");
    }
    out.line(0, "Volume Claims:");
    for claim in items(claims) {
        let spec = &claim["spec"];
        out.field_at(1, "Name", text(&claim["metadata"]["name"]));
        out.field_at(1, "StorageClass", super::persistentvolumeclaim::class(claim));
        out.labels("  Labels", &claim["metadata"]["labels"]);
        // Annotations of these are laid out as labels are.
        out.labels("  Annotations", &claim["metadata"]["annotations"]);
        match &spec["resources"]["requests"]["storage"] {
            Value::Null => out.field_at(1, "Capacity", "<default>"),
            size => out.field_at(1, "Capacity", crate::jsonpath::plain(size)),
        }
        out.field_at(1, "Access Modes", bracketed(&spec["accessModes"]));
    }
}
