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
    if let (Value::Object(old), Value::Object(new)) = (&old, &mut new) {
        for field in old.keys() {
            // In a merge patch, null removes.
            new.entry(field.clone()).or_insert(Value::Null);
        }
    }
    Some(Action::patch_status(object, json!({"status": new})))
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
