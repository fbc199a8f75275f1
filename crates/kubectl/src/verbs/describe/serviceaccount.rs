//! Service accounts.

use super::Subject;
use super::text::{Text, items, text};

/// As wide as the title, so that the lines below it are in its column.
const BLANK: &str = "                   ";

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.field("Namespace", text(&object["metadata"]["namespace"]));
    out.metadata(object);
    let mut title = "Image pull secrets:";
    for one in items(&object["imagePullSecrets"]) {
        out.line(0, format_args!("{title}\t{}", text(&one["name"])));
        title = BLANK;
    }
    if title != BLANK {
        out.line(0, format_args!("{title}\t<none>"));
    }
}
