//! Rules for the metadata that every kind has.

use api::Object;
use jiff::Timestamp;

use crate::Part;

/// Keeps from the old object what a write to `part` may not change: the status
/// on a write to the main resource; everything but the status on a write to it.
pub fn keep_other_parts(part: Part<'_>, new: &mut Object, old: &Object) {
    match part {
        Part::Main => match old.get("status") {
            Some(status) => new.set("status", status.clone()),
            None => {
                new.remove("status");
            }
        },
        Part::Status | Part::Other(_) => {
            let status = new.remove("status");
            *new = old.clone();
            if let Some(status) = status {
                new.set("status", status);
            }
        }
    }
}

/// The object's age as tables show it.
#[must_use]
pub fn age(object: &Object, now: Timestamp) -> String {
    match api::time::parse(object.text(&["metadata", "creationTimestamp"])) {
        Some(created) => api::time::human_duration(now.as_second() - created.as_second()),
        None => "<unknown>".to_owned(),
    }
}
