//! Replica sets, and replication controllers, which look the same.

use super::Subject;
use super::template::{self, pods_status};
use super::text::{Text, controller, inline_labels, number, selector, text};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    layout(out, subject, &selector(&subject.object["spec"]["selector"]));
}

pub(super) fn write_controller(out: &mut Text, subject: &Subject<'_>) {
    layout(out, subject, &inline_labels(&subject.object["spec"]["selector"]));
}

fn layout(out: &mut Text, subject: &Subject<'_>, selector: &str) {
    let object = subject.object;
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    out.field("Name", text(&metadata["name"]));
    out.field("Namespace", text(&metadata["namespace"]));
    out.field("Selector", selector);
    out.metadata(object);
    if let Some(owner) = controller(object) {
        out.field("Controlled By", owner);
    }
    out.field(
        "Replicas",
        format_args!("{} current / {} desired", number(&status["replicas"]), number(&spec["replicas"])),
    );
    out.field("Pods Status", pods_status(subject));
    template::write(out, &spec["template"]);
    out.conditions(&status["conditions"]);
}
