//! Disruption budgets.

use super::Subject;
use super::text::{Text, number, selector, text};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (spec, status) = (&object["spec"], &object["status"]);
    out.field("Name", text(&object["metadata"]["name"]));
    out.field("Namespace", text(&object["metadata"]["namespace"]));
    if spec.get("minAvailable").is_some() {
        out.field("Min available", crate::jsonpath::plain(&spec["minAvailable"]));
    } else if spec.get("maxUnavailable").is_some() {
        out.field("Max unavailable", crate::jsonpath::plain(&spec["maxUnavailable"]));
    }
    match spec.get("selector") {
        Some(of) => out.field("Selector", selector(of)),
        None => out.field("Selector", "<unset>"),
    }
    out.line(0, "Status:");
    for (title, field) in [
        ("Allowed disruptions", "disruptionsAllowed"),
        ("Current", "currentHealthy"),
        ("Desired", "desiredHealthy"),
        ("Total", "expectedPods"),
    ] {
        out.field_at(2, title, number(&status[field]));
    }
}
