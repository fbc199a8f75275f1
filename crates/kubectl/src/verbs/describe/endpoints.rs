//! Endpoints.

use serde_json::Value;

use super::Subject;
use super::text::{Text, items, number, text, text_or};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.field("Namespace", text(&object["metadata"]["namespace"]));
    out.metadata(object);
    out.line(0, "Subsets:");
    for subset in items(&object["subsets"]) {
        let addresses = |list: &Value| {
            let all: Vec<&str> = items(list).map(|one| text(&one["ip"])).collect();
            if all.is_empty() { "<none>".to_owned() } else { all.join(",") }
        };
        out.field_at(1, "Addresses", addresses(&subset["addresses"]));
        out.field_at(1, "NotReadyAddresses", addresses(&subset["notReadyAddresses"]));
        if items(&subset["ports"]).next().is_some() {
            out.line(1, "Ports:");
            out.line(2, "Name\tPort\tProtocol");
            out.line(2, "----\t----\t--------");
            for port in items(&subset["ports"]) {
                let name = text_or(&port["name"], "<unset>");
                out.line(2, format_args!("{name}\t{}\t{}", number(&port["port"]), text(&port["protocol"])));
            }
        }
        out.line(0, "");
    }
}
