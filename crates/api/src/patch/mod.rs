//! Patches: JSON patch (RFC 6902), merge patch (RFC 7396), strategic merge
//! patch (Kubernetes), each a pure change of one JSON value.

mod indices;
mod strategic;

use json_patch::jsonptr::Pointer;
use json_patch::{AddOperation, PatchOperation};
use serde_json::Value;

pub use strategic::strategic_merge;

/// How deep a patch may nest.
const MAX_DEPTH: usize = 10_000;

/// The largest number of operations in one JSON patch, as upstream has it.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// How many bytes of JSON one patch may copy: those of the largest body.
const MAX_COPIED: usize = 3 << 20;

/// A patch that cannot be read or applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The patch is not of its format.
    #[error("error decoding patch: {0}")]
    Malformed(String),
    /// The patch does not fit the object.
    #[error("{0}")]
    DoesNotApply(String),
    /// A test in the patch fails.
    #[error("{0}")]
    TestFailed(String),
    /// The patch is larger than the server takes.
    #[error("The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// The patch copies more than an object can hold.
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {0}, exceeding the limit {MAX_COPIED}"
    )]
    CopiesTooMuch(usize),
}

/// Applies a JSON patch: all of it, or nothing. A member that an object does not have
/// is null to a test, and is added by a replacement, and places in a list can be
/// counted from its end (`-1`), as upstream's library has it.
///
/// # Errors
/// A malformed patch, a path that is not there, a test that fails.
pub fn json_patch(target: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    let patch: json_patch::Patch =
        serde_json::from_slice(patch).map_err(|error| PatchError::Malformed(error.to_string()))?;
    if patch.0.len() > MAX_JSON_PATCH_OPERATIONS {
        return Err(PatchError::TooManyOperations(patch.0.len()));
    }
    // Worked on beside the target: taking operations back is not always possible.
    let mut new = target.clone();
    let mut copied = 0;
    for (index, operation) in patch.0.iter().enumerate() {
        let added;
        let from_front = indices::from_front(&new, operation);
        let operation = from_front.as_ref().unwrap_or(operation);
        let operation = match operation {
            PatchOperation::Copy(copy) => {
                // Copies of copies would grow without bound.
                copied += new.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
                if copied > MAX_COPIED {
                    return Err(PatchError::CopiesTooMuch(copied));
                }
                operation
            }
            PatchOperation::Test(test) if test.value.is_null() && lacks(&new, &test.path) => continue,
            PatchOperation::Replace(one) if lacks(&new, &one.path) => {
                added =
                    PatchOperation::Add(AddOperation { path: one.path.clone(), value: one.value.clone() });
                &added
            }
            other => other,
        };
        json_patch::patch_unsafe(&mut new, std::slice::from_ref(operation)).map_err(|mut error| {
            error.operation = index;
            match error.kind {
                json_patch::PatchErrorKind::TestFailed => PatchError::TestFailed(error.to_string()),
                _ => PatchError::DoesNotApply(error.to_string()),
            }
        })?;
    }
    *target = new;
    Ok(())
}

/// Whether a path names a member that the object there does not have.
fn lacks(target: &Value, path: &Pointer) -> bool {
    let Some((parent, member)) = path.split_back() else { return false };
    let parent = target.pointer(parent.as_str()).and_then(Value::as_object);
    parent.is_some_and(|object| !object.contains_key(member.decoded().as_ref()))
}

/// Applies a merge patch: null removes, objects merge, all else replaces.
pub fn merge_patch(target: &mut Value, patch: Value) {
    match patch {
        Value::Object(patch) => {
            if !target.is_object() {
                *target = Value::Object(serde_json::Map::new());
            }
            let Value::Object(target) = target else { return };
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(&key);
                } else {
                    merge_patch(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        other => *target = other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_patches_apply_whole_or_not_at_all() {
        let mut target = json!({"a": [{"b": 1}], "c": 2});
        let before = target.clone();
        // A move into a place that the next operation takes away could not be taken back.
        let patch = br#"[{"op":"move","from":"/a","path":"/c"},{"op":"replace","path":"/c","value":3},{"op":"remove","path":"/x"}]"#;
        let error = json_patch(&mut target, patch).expect_err("no such path");
        assert!(error.to_string().contains("'/2'"), "{error}");
        let same = br#"[{"op":"replace","path":"/a/0","value":1},{"op":"remove","path":"/a/0/b"}]"#;
        assert!(json_patch(&mut target, same).is_err());
        assert_eq!(target, before);
    }

    #[test]
    fn places_are_counted_from_the_end() {
        for (patch, expected) in [
            (r#"{"op":"remove","path":"/a/-1"}"#, json!({"a": [{"b": 1}], "-1": 0})),
            (r#"{"op":"add","path":"/a/-1","value":3}"#, json!({"a": [{"b": 1}, 2, 3], "-1": 0})),
            (r#"{"op":"add","path":"/a/-3","value":3}"#, json!({"a": [3, {"b": 1}, 2], "-1": 0})),
            (r#"{"op":"replace","path":"/a/-2/b","value":3}"#, json!({"a": [{"b": 3}, 2], "-1": 0})),
            (r#"{"op":"copy","from":"/a/-1","path":"/a/0/b"}"#, json!({"a": [{"b": 2}, 2], "-1": 0})),
            (r#"{"op":"test","path":"/a/-1","value":2}"#, json!({"a": [{"b": 1}, 2], "-1": 0})),
            (r#"{"op":"remove","path":"/-1"}"#, json!({"a": [{"b": 1}, 2]})),
        ] {
            let mut target = json!({"a": [{"b": 1}, 2], "-1": 0});
            json_patch(&mut target, format!("[{patch}]").as_bytes()).expect(patch);
            assert_eq!(target, expected, "{patch}");
        }
        for path in ["/a/-3", "/a/-0", "/a/-1x"] {
            let patch = format!(r#"[{{"op":"remove","path":"{path}"}}]"#);
            assert!(json_patch(&mut json!({"a": [1, 2]}), patch.as_bytes()).is_err(), "{path}");
        }
    }

    #[test]
    fn members_that_are_not_there_are_null_and_can_be_replaced() {
        let mut target = json!({"a": {}});
        // What kube-rs sends for the first finalizer.
        let patch = br#"[{"op":"test","path":"/a/f","value":null},{"op":"add","path":"/a/f","value":["x"]},{"op":"replace","path":"/a/r","value":1}]"#;
        json_patch(&mut target, patch).expect("applies");
        assert_eq!(target, json!({"a": {"f": ["x"], "r": 1}}));
        for patch in [
            r#"[{"op":"test","path":"/a/f","value":null}]"#,
            r#"[{"op":"test","path":"/a/x","value":1}]"#,
            r#"[{"op":"test","path":"/x/y","value":null}]"#,
            r#"[{"op":"replace","path":"/x/y","value":1}]"#,
            r#"[{"op":"replace","path":"/a/f/1","value":1}]"#,
        ] {
            assert!(json_patch(&mut target, patch.as_bytes()).is_err(), "{patch}");
        }
    }

    #[test]
    fn copies_are_bounded() {
        let mut target = json!({"a": "x".repeat(1_000)});
        let again = r#"{"op":"copy","from":"","path":"/b"}"#;
        let patch = format!("[{}]", vec![again; 100].join(","));
        assert!(matches!(json_patch(&mut target, patch.as_bytes()), Err(PatchError::CopiesTooMuch(_))));
        assert_eq!(target, json!({"a": "x".repeat(1_000)}));
    }

    #[test]
    fn merge_patch_follows_rfc_7396() {
        let table = [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
            (json!(["a"]), json!({"a":1}), json!({"a":1})),
        ];
        for (mut target, patch, expected) in table {
            merge_patch(&mut target, patch);
            assert_eq!(target, expected);
        }
    }

    #[test]
    fn a_json_patch_that_fails_changes_nothing() {
        let mut target = json!({"a": 1});
        let patch = br#"[{"op":"replace","path":"/a","value":2},{"op":"test","path":"/a","value":3}]"#;
        assert!(matches!(
            json_patch(&mut target, patch),
            Err(PatchError::DoesNotApply(_) | PatchError::TestFailed(_))
        ));
        assert_eq!(target, json!({"a": 1}));
        assert!(matches!(json_patch(&mut target, b"{}"), Err(PatchError::Malformed(_))));
    }
}
