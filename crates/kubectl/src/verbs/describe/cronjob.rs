//! Cron jobs.

use serde_json::Value;

use super::text::{Text, flag, items, text, time};
use super::{Subject, template};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let unset = |value: &Value, unit: &str| match value {
        Value::Null => "<unset>".to_owned(),
        value => format!("{}{unit}", crate::jsonpath::plain(value)),
    };
    out.field("Name", text(&metadata["name"]));
    out.field("Namespace", text(&metadata["namespace"]));
    out.metadata(object);
    out.field("Schedule", text(&spec["schedule"]));
    out.field("Concurrency Policy", text(&spec["concurrencyPolicy"]));
    out.field("Suspend", flag(&spec["suspend"], "<unset>"));
    out.field("Time Zone", unset(&spec["timeZone"], ""));
    out.field("Successful Job History Limit", unset(&spec["successfulJobsHistoryLimit"], ""));
    out.field("Failed Job History Limit", unset(&spec["failedJobsHistoryLimit"], ""));
    out.field("Starting Deadline Seconds", unset(&spec["startingDeadlineSeconds"], "s"));
    let job = &spec["jobTemplate"]["spec"];
    match job.get("selector") {
        Some(selector) => out.field("Selector", crate::pods::selector_text(selector)),
        None => out.field("Selector", "<unset>"),
    }
    out.field("Parallelism", unset(&job["parallelism"], ""));
    out.field("Completions", unset(&job["completions"], ""));
    if job.get("activeDeadlineSeconds").is_some() {
        out.field("Active Deadline Seconds", unset(&job["activeDeadlineSeconds"], "s"));
    }
    template::write(out, &job["template"]);
    match status.get("lastScheduleTime") {
        Some(last) => out.field("Last Schedule Time", time(last)),
        None => out.field("Last Schedule Time", "<unset>"),
    }
    let active: Vec<&str> = items(&status["active"]).map(|one| text(&one["name"])).collect();
    out.field("Active Jobs", if active.is_empty() { "<none>".into() } else { active.join(", ") });
}
