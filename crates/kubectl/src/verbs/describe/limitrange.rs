//! Limit ranges.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Subject;
use super::text::{Text, entries, items, text};

const COLUMNS: [&str; 5] = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
const TITLES: &str = "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio";
const RULES: &str = "----\t--------\t---\t---\t---------------\t-------------\t-----------------------";

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.field("Namespace", text(&object["metadata"]["namespace"]));
    out.line(0, TITLES);
    out.line(0, RULES);
    limits(out, object, "");
}

/// All limits of a namespace.
pub(super) fn of_namespace(out: &mut Text, ranges: &[Value]) {
    if ranges.is_empty() {
        return out.line(0, "No LimitRange resource.");
    }
    out.line(0, format_args!("Resource Limits\n {TITLES}"));
    out.line(0, format_args!(" {RULES}"));
    for range in ranges {
        limits(out, range, " ");
    }
}

fn limits(out: &mut Text, range: &Value, prefix: &str) {
    for item in items(&range["spec"]["limits"]) {
        let names: BTreeSet<&String> =
            COLUMNS.iter().flat_map(|column| entries(&item[column])).map(|(name, _)| name).collect();
        for name in names {
            let cells: Vec<String> = COLUMNS
                .iter()
                .map(|column| match &item[column][name] {
                    Value::Null => "-".to_owned(),
                    value => crate::jsonpath::plain(value),
                })
                .collect();
            out.line(0, format_args!("{prefix}{}\t{name}\t{}", text(&item["type"]), cells.join("\t")));
        }
    }
}
