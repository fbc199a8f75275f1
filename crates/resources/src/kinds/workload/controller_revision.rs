//! Controller revisions.

use api::{ErrorList, Object, Path};
use serde_json::Value;

use crate::fields::Fields;
use crate::report::Report;
use crate::{Part, metadata};

/// Rules for a revision by itself (`ValidateControllerRevision`).
pub(in crate::kinds) fn controller_revision(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let revision = object.field("revision").as_i64().unwrap_or_default();
    if revision < 0 {
        errors.invalid(&Path::new("revision"), revision, metadata::NOT_NEGATIVE);
    }
    errors
}

/// Rules for a new revision.
pub(in crate::kinds) fn new_controller_revision(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    match object.field("data") {
        Value::Object(_) => {}
        Value::Null => errors.required(&Path::new("data"), "data is mandatory"),
        _ => errors.required(&Path::new("data"), "data must be a valid JSON object"),
    }
    errors
}

/// Rules for a change: what a revision is of stays.
pub(in crate::kinds) fn controller_revision_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    metadata::immutable(new.field("data"), old.field("data"), &Path::new("data"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn revisions() {
        let object = |data: Value, revision: i64| {
            Object::from_value(json!({"data": data, "revision": revision})).expect("an object")
        };
        let good = object(json!({"spec": {}}), 1);
        assert!(controller_revision(&good).is_empty() && new_controller_revision(&good).is_empty());
        assert_eq!(controller_revision(&object(json!({}), -1)).len(), 1);
        for (data, expected) in [
            (json!(null), "data: Required value: data is mandatory"),
            (json!([1]), "data: Required value: data must be a valid JSON object"),
        ] {
            assert_eq!(new_controller_revision(&object(data, 1))[0].to_string(), expected);
        }
        let moved = controller_revision_update(Part::Main, &object(json!({"spec": 1}), 2), &good);
        assert!(moved[0].to_string().ends_with("field is immutable"));
        assert!(controller_revision_update(Part::Main, &object(json!({"spec": {}}), 2), &good).is_empty());
    }
}
