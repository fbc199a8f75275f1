//! Jobs.

use serde_json::Value;

use super::text::{Text, controller, number, text, time};
use super::{Subject, template};

/// How much is shown of the list of completed indexes.
const INDEXES: usize = 50;

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    out.field("Name", text(&metadata["name"]));
    out.field("Namespace", text(&metadata["namespace"]));
    out.field("Selector", crate::pods::selector_text(&spec["selector"]));
    out.metadata(object);
    if let Some(owner) = controller(object) {
        out.field("Controlled By", owner);
    }
    settings(out, spec);
    for (title, field) in [("Start Time", "startTime"), ("Completed At", "completionTime")] {
        if status.get(field).is_some() {
            out.field(title, time(&status[field]));
        }
    }
    let moment = |field: &str| status[field].as_str().and_then(api::time::parse);
    if let (Some(start), Some(end)) = (moment("startTime"), moment("completionTime")) {
        out.field("Duration", api::time::human_duration(end.as_second() - start.as_second()));
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        out.field("Active Deadline Seconds", format_args!("{seconds}s"));
    }
    let ready = status["ready"].as_i64().map(|ready| format!(" ({ready} Ready)")).unwrap_or_default();
    out.field(
        "Pods Statuses",
        format_args!(
            "{} Active{ready} / {} Succeeded / {} Failed",
            number(&status["active"]),
            number(&status["succeeded"]),
            number(&status["failed"])
        ),
    );
    if spec["completionMode"] == "Indexed" {
        out.field("Completed Indexes", shortened(text(&status["completedIndexes"])));
    }
    template::write(out, &spec["template"]);
}

fn settings(out: &mut Text, spec: &Value) {
    let set = |field: &str| match &spec[field] {
        Value::Null => None,
        value => Some(crate::jsonpath::plain(value)),
    };
    for (title, field) in [
        ("Parallelism", "parallelism"),
        ("Completions", "completions"),
        ("Completion Mode", "completionMode"),
        ("Suspend", "suspend"),
        ("Backoff Limit", "backoffLimit"),
        ("TTL Seconds After Finished", "ttlSecondsAfterFinished"),
    ] {
        match set(field) {
            Some(value) => out.field(title, value),
            None if field == "completions" => out.field(title, "<unset>"),
            None => {}
        }
    }
}

/// The list, cut after the first comma behind the limit.
fn shortened(indexes: &str) -> String {
    if indexes.is_empty() {
        return "<none>".into();
    }
    match indexes.get(INDEXES..).and_then(|rest| rest.find(',')) {
        Some(at) => format!("{}...", &indexes[..=INDEXES + at]),
        None => indexes.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(shortened(""), "<none>");
        assert_eq!(shortened("1-3,5"), "1-3,5");
        let long = "1000,".repeat(20);
        assert_eq!(shortened(&long), format!("{}...", "1000,".repeat(11)));
    }
}
