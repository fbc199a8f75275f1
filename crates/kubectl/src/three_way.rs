//! Client-side apply's merge of three objects: what was applied last, what the
//! file says now, and what the server has. The patch made of them changes what
//! the file sets, removes what the file no longer sets, and leaves alone what
//! others set. It follows `k8s.io/apimachinery/pkg/util/strategicpatch`.
//!
//! Pure: no requests, no files.

use serde_json::{Map, Value, json};

use crate::schema::{Schema, Strategy, strategy};

/// The annotation that keeps what was applied last.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A merge patch (RFC 7396) for kinds without known merge keys.
pub(crate) fn json_patch(original: &Value, modified: &Value, current: &Value) -> Value {
    let untyped = Shape { schema: None, at: None };
    Value::Object(diff_map(untyped, original, modified, current, false))
}

/// A strategic merge patch for a kind with a schema.
pub(crate) fn strategic_patch(
    schema: &Schema,
    kind: &Value,
    original: &Value,
    modified: &Value,
    current: &Value,
) -> Value {
    let shape = Shape { schema: Some(schema), at: Some(kind) };
    Value::Object(diff_map(shape, original, modified, current, true))
}

#[derive(Clone, Copy)]
struct Shape<'a> {
    schema: Option<&'a Schema>,
    at: Option<&'a Value>,
}

impl<'a> Shape<'a> {
    fn field(self, name: &str) -> (Self, Strategy) {
        let field = self.schema.zip(self.at).and_then(|(schema, at)| schema.field(at, name));
        (Self { at: field, ..self }, field.map(strategy).unwrap_or_default())
    }

    fn element(self) -> Self {
        Self { at: self.schema.zip(self.at).and_then(|(schema, at)| schema.element(at)), ..self }
    }
}

fn diff_map(
    shape: Shape<'_>,
    original: &Value,
    modified: &Value,
    current: &Value,
    strategic: bool,
) -> Map<String, Value> {
    let empty = Map::new();
    let original = original.as_object().unwrap_or(&empty);
    let modified = modified.as_object().unwrap_or(&empty);
    let current = current.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (key, wanted) in modified {
        if wanted.is_null() {
            if current.contains_key(key) {
                patch.insert(key.clone(), Value::Null);
            }
            continue;
        }
        let Some(have) = current.get(key) else {
            patch.insert(key.clone(), without_nulls(wanted));
            continue;
        };
        let before = original.get(key).unwrap_or(&Value::Null);
        let (below, how) = shape.field(key);
        match (wanted, have) {
            (Value::Object(now), Value::Object(_)) if !how.replace || how.merge => {
                let mut change = diff_map(below, before, wanted, have, strategic);
                if !change.is_empty() {
                    if strategic && how.retain_keys {
                        let mut keys: Vec<&String> = now.keys().collect();
                        keys.sort();
                        change.insert("$retainKeys".into(), json!(keys));
                    }
                    patch.insert(key.clone(), Value::Object(change));
                }
            }
            (Value::Array(now), Value::Array(old)) if strategic && how.merge => {
                let before = before.as_array().map(Vec::as_slice).unwrap_or_default();
                diff_list(&mut patch, key, below.element(), &how, [before, now, old]);
            }
            _ if wanted != have => {
                patch.insert(key.clone(), wanted.clone());
            }
            _ => {}
        }
    }
    for key in original.keys() {
        if !modified.contains_key(key) && current.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

/// `lists` are the original, the modified and the current one.
fn diff_list(
    patch: &mut Map<String, Value>,
    field: &str,
    element: Shape<'_>,
    how: &Strategy,
    lists: [&[Value]; 3],
) {
    let [original, modified, current] = lists;
    let Some(merge_key) = &how.merge_key else {
        let added: Vec<&Value> = modified.iter().filter(|one| !current.contains(one)).collect();
        let gone: Vec<&Value> =
            original.iter().filter(|one| !modified.contains(one) && current.contains(one)).collect();
        if added.is_empty() && gone.is_empty() {
            return;
        }
        patch.insert(format!("$setElementOrder/{field}"), json!(modified));
        if !added.is_empty() {
            patch.insert(field.to_owned(), json!(added));
        }
        if !gone.is_empty() {
            patch.insert(format!("$deleteFromPrimitiveList/{field}"), json!(gone));
        }
        return;
    };
    let same =
        |list: &'_ [Value], key: &Value| list.iter().find(|one| one.get(merge_key) == Some(key)).cloned();
    let mut changes = Vec::new();
    for wanted in modified {
        let Some(key) = wanted.get(merge_key) else {
            // The server says what is wrong with it.
            changes.push(wanted.clone());
            continue;
        };
        match same(current, key) {
            None => changes.push(without_nulls(wanted)),
            Some(have) => {
                let before = same(original, key).unwrap_or(Value::Null);
                let mut change = diff_map(element, &before, wanted, &have, true);
                if !change.is_empty() {
                    change.insert(merge_key.clone(), key.clone());
                    changes.push(Value::Object(change));
                }
            }
        }
    }
    for before in original {
        if let Some(key) = before.get(merge_key)
            && same(modified, key).is_none()
            && same(current, key).is_some()
        {
            changes.push(json!({"$patch": "delete", merge_key.as_str(): key}));
        }
    }
    if !changes.is_empty() {
        let order: Vec<Value> = modified
            .iter()
            .filter_map(|one| Some(json!({merge_key.as_str(): one.get(merge_key)?})))
            .collect();
        patch.insert(format!("$setElementOrder/{field}"), Value::Array(order));
        patch.insert(field.to_owned(), Value::Array(changes));
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), without_nulls(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new(json!({"components": {"schemas": {
            "Pod": {
                "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}],
                "properties": {
                    "finalizers": {"type": "array", "items": {"type": "string"}, "x-kubernetes-patch-strategy": "merge"},
                    "args": {"type": "array", "items": {"type": "string"}},
                    "strategy": {"type": "object", "x-kubernetes-patch-strategy": "retainKeys"},
                    "containers": {"type": "array", "items": {"$ref": "#/components/schemas/Container"},
                        "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "name"}}},
            "Container": {"properties": {"name": {"type": "string"}, "image": {"type": "string"}}}
        }}}))
    }

    #[test]
    fn three_objects_make_one_patch() {
        let schema = schema();
        let kind = schema.kind("", "v1", "Pod").expect("Pod");
        let table = [
            // Nothing to do; what others set stays.
            (json!({"a": 1}), json!({"a": 1}), json!({"a": 1, "b": 2}), json!({})),
            // Changed, added, removed.
            (
                json!({"a": 1, "c": 1}),
                json!({"a": 2, "d": 3}),
                json!({"a": 1, "c": 1}),
                json!({"a": 2, "c": null, "d": 3}),
            ),
            // Removed here, gone there already.
            (json!({"a": 1}), json!({}), json!({}), json!({})),
            // Lists without merge keys are replaced.
            (json!({}), json!({"args": ["x"]}), json!({"args": ["y"]}), json!({"args": ["x"]})),
            // Lists with merge keys merge.
            (
                json!({"containers": [{"name": "a"}, {"name": "b"}]}),
                json!({"containers": [{"name": "a", "image": "2"}]}),
                json!({"containers": [{"name": "a", "image": "1", "x": 1}, {"name": "b"}, {"name": "injected"}]}),
                json!({"$setElementOrder/containers": [{"name": "a"}],
                    "containers": [{"name": "a", "image": "2"}, {"$patch": "delete", "name": "b"}]}),
            ),
            // Lists of plain values that merge.
            (
                json!({"finalizers": ["a", "b"]}),
                json!({"finalizers": ["a", "c"]}),
                json!({"finalizers": ["a", "b"]}),
                json!({"$setElementOrder/finalizers": ["a", "c"], "finalizers": ["c"],
                    "$deleteFromPrimitiveList/finalizers": ["b"]}),
            ),
            // Unions keep only the keys of the file.
            (
                json!({}),
                json!({"strategy": {"type": "Recreate"}}),
                json!({"strategy": {"type": "Rolling", "r": {}}}),
                json!({"strategy": {"type": "Recreate", "$retainKeys": ["type"]}}),
            ),
        ];
        for (original, modified, current, expected) in table {
            assert_eq!(strategic_patch(&schema, kind, &original, &modified, &current), expected);
        }
    }

    #[test]
    fn without_a_schema_lists_are_replaced() {
        let patch = json_patch(
            &json!({"l": [1], "gone": 1}),
            &json!({"l": [1, 2]}),
            &json!({"l": [1], "gone": 1, "theirs": 1}),
        );
        assert_eq!(patch, json!({"l": [1, 2], "gone": null}));
    }
}
