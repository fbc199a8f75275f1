//! Bindings of roles, in namespaces and in the cluster.

use super::Subject;
use super::text::{Text, items, text};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.metadata(object);
    out.line(0, "Role:");
    out.field_at(1, "Kind", text(&object["roleRef"]["kind"]));
    out.field_at(1, "Name", text(&object["roleRef"]["name"]));
    out.line(0, "Subjects:");
    out.line(1, "Kind\tName\tNamespace");
    out.line(1, "----\t----\t---------");
    for one in items(&object["subjects"]) {
        let (kind, name, namespace) = (text(&one["kind"]), text(&one["name"]), text(&one["namespace"]));
        out.line(1, format_args!("{kind}\t{name}\t{namespace}"));
    }
}
