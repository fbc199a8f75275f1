//! Storage classes.

use super::Subject;
use super::text::{Text, flag, inline_labels, items, joined, text};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let metadata = &object["metadata"];
    out.field("Name", text(&metadata["name"]));
    let is_default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|key| metadata["annotations"][key] == "true");
    out.field("IsDefaultClass", if is_default { "Yes" } else { "No" });
    out.field("Annotations", inline_labels(&metadata["annotations"]));
    out.field("Provisioner", text(&object["provisioner"]));
    out.field("Parameters", inline_labels(&object["parameters"]));
    out.field("AllowVolumeExpansion", flag(&object["allowVolumeExpansion"], "<unset>"));
    if items(&object["mountOptions"]).next().is_none() {
        out.field("MountOptions", "<none>");
    } else {
        out.line(0, "MountOptions:");
        for option in items(&object["mountOptions"]) {
            out.line(1, text(option));
        }
    }
    for (title, field) in [("ReclaimPolicy", "reclaimPolicy"), ("VolumeBindingMode", "volumeBindingMode")] {
        if object.get(field).is_some() {
            out.field(title, text(&object[field]));
        }
    }
    let Some(topologies) = object.get("allowedTopologies") else { return };
    out.field("AllowedTopologies", if items(topologies).next().is_none() { "<none>" } else { "" });
    for (index, term) in items(topologies).enumerate() {
        let mut title = format!("Term {index}:");
        for one in items(&term["matchLabelExpressions"]) {
            let values = joined(&one["values"], ", ");
            out.line(1, format_args!("{title}\t{} in [{values}]", text(&one["key"])));
            title.clear();
        }
        if !title.is_empty() {
            out.line(1, format_args!("{title}\t<none>"));
        }
    }
}
