//! Persistent volumes.

use serde_json::Value;

use super::Subject;
use super::text::{Text, bracketed, items, joined, text};
use super::volumes;

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    out.field("Name", text(&metadata["name"]));
    out.metadata(object);
    out.field("Finalizers", bracketed(&metadata["finalizers"]));
    out.field("StorageClass", super::persistentvolumeclaim::class(object));
    super::persistentvolumeclaim::phase(out, subject);
    match spec.get("claimRef") {
        Some(claim) => {
            out.field("Claim", format_args!("{}/{}", text(&claim["namespace"]), text(&claim["name"])));
        }
        None => out.field("Claim", ""),
    }
    out.field("Reclaim Policy", text(&spec["persistentVolumeReclaimPolicy"]));
    out.field("Access Modes", modes(&spec["accessModes"]));
    if spec.get("volumeMode").is_some() {
        out.field("VolumeMode", text(&spec["volumeMode"]));
    }
    out.field("Capacity", size(&spec["capacity"]["storage"]));
    affinity(out, spec);
    out.field("Message", text(&status["message"]));
    out.line(0, "Source:");
    volumes::source(out, spec);
}

/// A size; nothing is zero.
pub(super) fn size(value: &Value) -> String {
    if value.is_null() { "0".into() } else { crate::jsonpath::plain(value) }
}

/// Access modes in short: `RWO,ROX`.
pub(super) fn modes(modes: &Value) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |long: &str| items(modes).any(|one| one == long);
    SHORT.iter().filter(|(long, _)| has(long)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn affinity(out: &mut Text, spec: &Value) {
    let Some(required) = spec["nodeAffinity"].get("required") else {
        return out.field("Node Affinity", "<none>");
    };
    out.field("Node Affinity", "");
    if items(&required["nodeSelectorTerms"]).next().is_none() {
        return out.field_at(1, "Required Terms", "<none>");
    }
    out.field_at(1, "Required Terms", "");
    for (index, term) in items(&required["nodeSelectorTerms"]).enumerate() {
        let expressions = items(&term["matchExpressions"]).map(|one| {
            let start = format!("{} {}", text(&one["key"]), text(&one["operator"]).to_lowercase());
            match joined(&one["values"], ", ") {
                none if none.is_empty() => start,
                values => format!("{start} [{values}]"),
            }
        });
        // The lines after the first stand in the same column, at the same depth.
        let mut title = format!("Term {index}:");
        let mut any = false;
        for expression in expressions {
            out.line(2, format_args!("{title}\t{expression}"));
            title.clear();
            any = true;
        }
        if !any {
            out.line(2, format_args!("{title}\t<none>"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn modes_are_short() {
        assert_eq!(super::modes(&json!(["ReadWriteMany", "ReadWriteOnce"])), "RWO,RWX");
    }
}
