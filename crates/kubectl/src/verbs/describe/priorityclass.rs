//! Priority classes.

use super::Subject;
use super::text::{Text, inline_labels, number, text, text_or};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.field("Value", number(&object["value"]));
    out.field("GlobalDefault", object["globalDefault"] == true);
    out.field("PreemptionPolicy", text_or(&object["preemptionPolicy"], "PreemptLowerPriority"));
    out.field("Description", text(&object["description"]));
    out.field("Annotations", inline_labels(&object["metadata"]["annotations"]));
}
