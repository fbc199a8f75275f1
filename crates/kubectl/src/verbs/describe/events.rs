//! The events of an object, at the end of its description.

use jiff::Timestamp;
use serde_json::Value;

use super::Query;
use super::text::{Text, age, number, text, text_or};

/// Which events are an object's. Of a pod the kind is not compared, since its
/// containers report too; a mirror pod is known by its configuration's hash;
/// a node's kubelet names it where others give its uid.
pub(super) fn of(object: &Value) -> Vec<Query> {
    let metadata = &object["metadata"];
    let kind = text(&object["kind"]);
    let mirror = text(&metadata["annotations"]["kubernetes.io/config.mirror"]);
    let uids: Vec<&str> = match kind {
        "Pod" if !mirror.is_empty() => vec![mirror],
        "Node" => vec![text(&metadata["uid"]), text(&metadata["name"])],
        _ => vec![text(&metadata["uid"])],
    };
    let of_uid = |uid: &str| {
        let namespace = text(&metadata["namespace"]);
        let mut fields =
            format!("involvedObject.name={},involvedObject.namespace={namespace}", text(&metadata["name"]));
        if kind != "Pod" {
            fields.push_str(&format!(",involvedObject.kind={kind}"));
        }
        if !uid.is_empty() {
            fields.push_str(&format!(",involvedObject.uid={uid}"));
        }
        Query {
            api_version: "v1",
            kind: "Event",
            namespace: namespace.to_owned(),
            fields,
            ..Query::default()
        }
    };
    uids.into_iter().map(of_uid).collect()
}

pub(super) fn write(out: &mut Text, events: &mut [Value], now: Timestamp) {
    if events.is_empty() {
        return out.field("Events", "<none>");
    }
    events.sort_by(|left, right| text(&left["lastTimestamp"]).cmp(text(&right["lastTimestamp"])));
    out.line(0, "Events:\n  Type\tReason\tAge\tFrom\tMessage");
    out.line(1, "----\t------\t----\t----\t-------");
    for event in events {
        let source = match text(&event["source"]["component"]) {
            "" => text(&event["reportingComponent"]),
            component => component,
        };
        let part = match text(&event["involvedObject"]["fieldPath"]) {
            "" => String::new(),
            path => format!("{path}: "),
        };
        let line = format!(
            "{}\t{}\t{}\t{source}\t{part}{}",
            text(&event["type"]),
            text(&event["reason"]),
            interval(event, now),
            text(&event["message"]).trim()
        );
        out.line(1, line);
    }
}

/// When an event was, and how often since when.
pub(in super::super) fn interval(event: &Value, now: Timestamp) -> String {
    let first = match text_or(&event["eventTime"], "") {
        "" => age(&event["firstTimestamp"], now),
        _ => age(&event["eventTime"], now),
    };
    if let Some(series) = event.get("series").filter(|series| !series.is_null()) {
        format!("{} (x{} over {first})", age(&series["lastObservedTime"], now), number(&series["count"]))
    } else if number(&event["count"]) > 1 {
        format!("{} (x{} over {first})", age(&event["lastTimestamp"], now), number(&event["count"]))
    } else {
        first
    }
}
