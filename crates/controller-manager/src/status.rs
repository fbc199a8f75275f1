//! How statuses are written: only where they differ, and as a patch that
//! removes what is no longer said. Pure.

use api::Metadata;
use api::Resource;
use api::metav1::ObjectMeta;
use api::openapi::apimachinery::pkg::apis::meta::v1::Time;
use jiff::Timestamp;
use reconcile::Action;
use serde::Serialize;
use serde_json::{Value, json};

/// The write that makes an object's status `new`; `None` where it is so already.
pub fn write<K, S>(object: &K, old: Option<&S>, new: &S) -> Option<Action>
where
    K: Resource + Metadata<Ty = ObjectMeta>,
    S: Serialize,
{
    let old = old.and_then(|old| serde_json::to_value(old).ok()).unwrap_or_else(|| json!({}));
    let mut new = serde_json::to_value(new).ok()?;
    if old == new {
        return None;
    }
    remove_missing(&old, &mut new);
    Some(Action::patch_status(object, json!({"status": new})))
}

/// As [`write`], if the object has not changed since it was seen: for statuses that others write too.
pub fn write_unchanged<K, S>(object: &K, old: Option<&S>, new: &S) -> Option<Action>
where
    K: Resource + Metadata<Ty = ObjectMeta>,
    S: Serialize,
{
    let mut action = write(object, old, new)?;
    if let Action::Patch { patch: client::Patch::Merge(patch), .. } = &mut action {
        patch["metadata"]["resourceVersion"] = json!(object.metadata().resource_version);
    }
    Some(action)
}

/// Makes a merge patch remove what `new` does not have, at any depth.
fn remove_missing(old: &Value, new: &mut Value) {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return };
    for (field, before) in old {
        match new.get_mut(field) {
            Some(after) => remove_missing(before, after),
            None => drop(new.insert(field.clone(), Value::Null)),
        }
    }
}

/// A count as upstream writes it: nothing for zero.
#[must_use]
pub fn count(number: usize) -> Option<i32> {
    (number > 0).then(|| whole(number))
}

/// A count that is written even if zero.
#[must_use]
pub fn whole(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A time as it will read after a trip through JSON.
#[must_use]
pub fn time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_removes_what_is_no_longer_said_at_any_depth() {
        let old = json!({"a": 1, "list": [1], "nested": {"x": [1], "y": 2}});
        let new = json!({"list": [], "nested": {"y": 2}});
        let mut patch = new.clone();
        remove_missing(&old, &mut patch);
        let mut patched = old;
        api::patch::merge_patch(&mut patched, patch);
        assert_eq!(patched, new);
    }
}
