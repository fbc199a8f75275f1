//! Namespaces, with their quotas and limits.

use serde_json::Value;

use super::text::{Text, items, text};
use super::{Query, Subject, limitrange, resourcequota, servicecidr};

pub(super) fn related(namespace: &Value) -> Vec<Query> {
    let of = |kind: &'static str| Query {
        api_version: "v1",
        kind,
        namespace: text(&namespace["metadata"]["name"]).to_owned(),
        ..Query::default()
    };
    vec![of("ResourceQuota"), of("LimitRange")]
}

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.metadata(object);
    out.field("Status", text(&object["status"]["phase"]));
    if items(&object["status"]["conditions"]).next().is_some() {
        servicecidr::dated_conditions(out, &object["status"]["conditions"]);
    }
    out.line(0, "");
    resourcequota::of_namespace(out, subject.related(0));
    out.line(0, "");
    limitrange::of_namespace(out, subject.related(1));
}
