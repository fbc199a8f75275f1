//! Daemon sets.

use super::Subject;
use super::template::{self, pods_status};
use super::text::{Text, inline_labels, number, text};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    out.field("Name", text(&metadata["name"]));
    out.field("Namespace", text(&metadata["namespace"]));
    out.field("Selector", crate::pods::selector_text(&spec["selector"]));
    out.field("Node-Selector", inline_labels(&spec["template"]["spec"]["nodeSelector"]));
    out.metadata(object);
    for (title, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        out.line(0, format_args!("{title}: {}", number(&status[field])));
    }
    out.field("Pods Status", pods_status(subject));
    template::write(out, &spec["template"]);
}
