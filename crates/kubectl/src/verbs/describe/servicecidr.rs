//! Service address ranges.

use super::Subject;
use super::text::{Text, items, joined, text, time};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.metadata(object);
    out.field("CIDRs", joined(&object["spec"]["cidrs"], ", "));
    if items(&object["status"]["conditions"]).next().is_none() {
        return;
    }
    out.line(0, "Status:");
    dated_conditions(out, &object["status"]["conditions"]);
}

/// Conditions with the time of their last change.
pub(super) fn dated_conditions(out: &mut Text, conditions: &serde_json::Value) {
    out.line(0, "Conditions:");
    out.line(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
    out.line(1, "----\t------\t------------------\t------\t-------");
    for one in items(conditions) {
        let line = format!(
            "{}\t{}\t{}\t{}\t{}",
            text(&one["type"]),
            text(&one["status"]),
            time(&one["lastTransitionTime"]),
            text(&one["reason"]),
            text(&one["message"])
        );
        out.line(1, line);
    }
}
