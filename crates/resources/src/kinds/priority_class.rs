//! Priority classes: the highest values and the names `system-...` are the
//! cluster's own, and what pods got from a class does not change.

use api::{ErrorList, Object, Path};

use crate::Part;
use crate::fields::{Fields, same};
use crate::report::Report;

/// Above it are the system's classes.
const HIGHEST: i64 = 1_000_000_000;
const SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(super) fn validate(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let value = object.integer(&["value"]).unwrap_or_default();
    if object.name().starts_with("system-") {
        if let Err(why) = is_known(object.name(), value, Fields::flag(object, "globalDefault")) {
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            errors.forbidden(&Path::new("metadata").child("name"), why);
        }
    } else if value > HIGHEST {
        errors.forbidden(
            &Path::new("value"),
            format!("maximum allowed value of a user defined priority is {HIGHEST}"),
        );
    }
    let policy = object.text(&["preemptionPolicy"]);
    errors.required_one_of(&Path::new("preemptionPolicy"), policy, &["Never", "PreemptLowerPriority"]);
    errors
}

fn is_known(name: &str, value: i64, is_default: bool) -> Result<(), String> {
    let Some((_, expected)) = SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if value != *expected {
        return Err(format!("value of {name} PriorityClass must be {expected}"));
    }
    if is_default {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

pub(super) fn validate_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if new.integer(&["value"]) != old.integer(&["value"]) {
        errors.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    if !same(new.field("preemptionPolicy"), old.field("preemptionPolicy")) {
        let policy = new.text(&["preemptionPolicy"]);
        errors.invalid(&Path::new("preemptionPolicy"), policy, "field is immutable");
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(name: &str, value: i64, is_default: bool) -> Object {
        Object::from_value(json!({
            "metadata": {"name": name}, "value": value, "globalDefault": is_default,
            "preemptionPolicy": "Never",
        }))
        .expect("an object")
    }

    #[test]
    fn the_system_keeps_the_top() {
        let cases = [
            (class("high", HIGHEST, true), None),
            (class("high", HIGHEST + 1, false), Some("value: Forbidden: maximum allowed value")),
            (class("system-node-critical", 2_000_001_000, false), None),
            (class("system-node-critical", 1, false), Some("PriorityClass must be 2000001000")),
            (class("system-node-critical", 2_000_001_000, true), Some("must be false")),
            (class("system-mine", 1, false), Some("system-mine is not a known system priority class")),
        ];
        for (object, expected) in cases {
            let errors = validate(&object);
            let text = api::field::aggregate(&errors);
            match expected {
                Some(expected) => assert!(text.contains(expected), "{text}"),
                None => assert!(errors.is_empty(), "{text}"),
            }
        }
    }

    #[test]
    fn what_pods_have_of_it_stays() {
        let old = class("c", 1, false);
        assert!(validate_update(Part::Main, &class("c", 1, true), &old).is_empty());
        let mut new = class("c", 2, false);
        new.set("preemptionPolicy", "PreemptLowerPriority");
        assert_eq!(
            api::field::aggregate(&validate_update(Part::Main, &new, &old)),
            "[value: Forbidden: may not be changed in an update., preemptionPolicy: Invalid value: \
             \"PreemptLowerPriority\": field is immutable]"
        );
    }
}
