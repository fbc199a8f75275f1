//! Strategic merge patch: a merge patch whose lists merge by key, as the
//! schema says, with the directives `$patch`, `$retainKeys`,
//! `$setElementOrder/FIELD` and `$deleteFromPrimitiveList/FIELD`.
//!
//! The behaviour follows `k8s.io/apimachinery/pkg/util/strategicpatch`.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{MAX_DEPTH, PatchError};
use crate::schema::{Field, PatchStrategy, Schema, Shape, StructId};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch to an object of the given struct.
///
/// # Errors
/// A malformed directive, or a list element without its merge key.
pub fn strategic_merge(
    schema: &Schema,
    id: StructId,
    target: &mut Map<String, Value>,
    patch: Map<String, Value>,
) -> Result<(), PatchError> {
    Merge { schema }.map(Some(id), None, target, patch, 0)
}

struct Merge<'s> {
    schema: &'s Schema,
}

fn malformed(why: impl Into<String>) -> PatchError {
    PatchError::Malformed(why.into())
}

impl<'s> Merge<'s> {
    /// `of` is the struct of the map, or `element` the shape of a plain map's values.
    fn map(
        &self,
        of: Option<StructId>,
        element: Option<&'s Shape>,
        target: &mut Map<String, Value>,
        mut patch: Map<String, Value>,
        depth: usize,
    ) -> Result<(), PatchError> {
        if depth > MAX_DEPTH {
            return Err(malformed("patch nests too deep"));
        }
        match take_directive(&mut patch)?.as_deref() {
            Some("replace") => {
                *target = patch;
                return Ok(());
            }
            Some("delete") => {
                target.clear();
                return Ok(());
            }
            Some("merge") | None => {}
            Some(other) => return Err(malformed(format!("unknown patch type found: {other}"))),
        }
        if let Some(keys) = patch.remove(RETAIN_KEYS) {
            retain_keys(target, &patch, &keys)?;
        }
        for (field, gone) in take_prefixed(&mut patch, DELETE_FROM) {
            let gone =
                gone.as_array().ok_or_else(|| malformed(format!("{DELETE_FROM}{field} must be a list")))?;
            if let Some(Value::Array(items)) = target.get_mut(&field) {
                items.retain(|item| !gone.contains(item));
            }
        }
        let orders: Vec<_> = take_prefixed(&mut patch, SET_ORDER)
            .into_iter()
            .map(|(key, order)| {
                let field = of.and_then(|id| self.schema.get(id).fields.get(&key));
                let merge_key = field.and_then(|field| field.patch.merge_key.as_deref());
                let before = target.get(&key).and_then(Value::as_array);
                let before = before.map(|items| places(items, merge_key)).unwrap_or_default();
                (key, order, merge_key, before)
            })
            .collect();
        for (key, value) in patch {
            if value.is_null() {
                target.remove(&key);
                continue;
            }
            let field = of.and_then(|id| self.schema.get(id).fields.get(&key));
            let shape = field.map(|field| &field.shape).or(element);
            let merged = self.value(field, shape, target.remove(&key), value, depth)?;
            target.insert(key, merged);
        }
        for (key, order, merge_key, before) in orders {
            if let (Some(Value::Array(items)), Value::Array(order)) = (target.get_mut(&key), &order) {
                reorder(items, &places(order, merge_key), &before, merge_key);
            }
        }
        Ok(())
    }

    fn value(
        &self,
        field: Option<&'s Field>,
        shape: Option<&'s Shape>,
        old: Option<Value>,
        new: Value,
        depth: usize,
    ) -> Result<Value, PatchError> {
        let strategy = field.map(|field| &field.patch);
        match (old, new) {
            (Some(Value::Object(mut old)), Value::Object(new)) => {
                if strategy.is_some_and(|strategy| strategy.replace && !strategy.merge) {
                    return Ok(Value::Object(self.cleaned(shape, new, depth)?));
                }
                let (of, element) = below(shape);
                self.map(of, element, &mut old, new, depth + 1)?;
                Ok(Value::Object(old))
            }
            (_, Value::Object(new)) => Ok(Value::Object(self.cleaned(shape, new, depth)?)),
            (old, Value::Array(new)) => {
                let old = match old {
                    Some(Value::Array(old)) => old,
                    _ => Vec::new(),
                };
                match strategy {
                    Some(strategy) if strategy.merge => {
                        self.list(strategy, shape, old, new, depth).map(Value::Array)
                    }
                    _ => new
                        .into_iter()
                        .map(|item| self.element(shape, item, depth))
                        .collect::<Result<_, _>>()
                        .map(Value::Array),
                }
            }
            (_, new) => Ok(new),
        }
    }

    /// A new map as it is without directives and nulls.
    fn cleaned(
        &self,
        shape: Option<&'s Shape>,
        new: Map<String, Value>,
        depth: usize,
    ) -> Result<Map<String, Value>, PatchError> {
        let (of, element) = below(shape);
        let mut empty = Map::new();
        self.map(of, element, &mut empty, new, depth + 1)?;
        Ok(empty)
    }

    fn element(&self, list: Option<&'s Shape>, item: Value, depth: usize) -> Result<Value, PatchError> {
        match (list, item) {
            (Some(Shape::List(of)), Value::Object(item)) => {
                Ok(Value::Object(self.cleaned(Some(of), item, depth)?))
            }
            (_, item) => Ok(item),
        }
    }

    fn list(
        &self,
        strategy: &PatchStrategy,
        shape: Option<&'s Shape>,
        mut old: Vec<Value>,
        new: Vec<Value>,
        depth: usize,
    ) -> Result<Vec<Value>, PatchError> {
        let Some(merge_key) = &strategy.merge_key else {
            let (order, before) = (places(&new, None), places(&old, None));
            for item in new {
                if !old.contains(&item) {
                    old.push(item);
                }
            }
            reorder(&mut old, &order, &before, None);
            return Ok(old);
        };
        let of = match shape {
            Some(Shape::List(of)) => Some(&**of),
            _ => None,
        };
        let mut elements = Vec::with_capacity(new.len());
        let mut replace = false;
        for item in new {
            let Value::Object(mut item) = item else {
                return Err(malformed(format!("expected objects in a list merged by {merge_key:?}")));
            };
            match take_directive(&mut item)?.as_deref() {
                None | Some("merge") => elements.push(item),
                Some("replace") => {
                    replace = true;
                    if !item.is_empty() {
                        elements.push(item);
                    }
                }
                Some("delete") => {
                    let wanted = key_of(&item, merge_key)?;
                    old.retain(|one| one.get(merge_key) != Some(wanted));
                }
                Some(other) => return Err(malformed(format!("unknown patch type found: {other}"))),
            }
        }
        if replace {
            old.clear();
        }
        let before = places(&old, Some(merge_key));
        let mut order = Places::new();
        for item in elements {
            let wanted = key_of(&item, merge_key)?.clone();
            let next = order.len();
            order.entry(wanted.to_string()).or_insert(next);
            let at = old.iter().position(|one| one.get(merge_key) == Some(&wanted));
            match at.map(|at| &mut old[at]) {
                Some(Value::Object(existing)) => {
                    let (struct_of, element) = below(of);
                    self.map(struct_of, element, existing, item, depth + 1)?;
                }
                _ => old.push(Value::Object(self.cleaned(of, item, depth)?)),
            }
        }
        reorder(&mut old, &order, &before, Some(merge_key));
        Ok(old)
    }
}

fn below(shape: Option<&Shape>) -> (Option<StructId>, Option<&Shape>) {
    match shape {
        Some(Shape::Struct(id)) => (Some(*id), None),
        Some(Shape::Map(of)) => (None, Some(of)),
        _ => (None, None),
    }
}

fn take_directive(map: &mut Map<String, Value>) -> Result<Option<String>, PatchError> {
    match map.remove(PATCH) {
        None => Ok(None),
        Some(Value::String(directive)) => Ok(Some(directive)),
        Some(other) => Err(malformed(format!("{PATCH} must be a string, found {other}"))),
    }
}

fn take_prefixed(map: &mut Map<String, Value>, prefix: &str) -> Vec<(String, Value)> {
    let keys: Vec<String> = map.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    keys.into_iter()
        .filter_map(|key| {
            let value = map.remove(&key)?;
            Some((key[prefix.len()..].to_owned(), value))
        })
        .collect()
}

fn key_of<'a>(item: &'a Map<String, Value>, merge_key: &str) -> Result<&'a Value, PatchError> {
    item.get(merge_key).ok_or_else(|| {
        PatchError::Malformed(format!(
            "map: {} does not contain declared merge key: {merge_key}",
            Value::Object(item.clone())
        ))
    })
}

fn retain_keys(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    keys: &Value,
) -> Result<(), PatchError> {
    let Value::Array(keys) = keys else {
        return Err(malformed(format!("{RETAIN_KEYS} must be a list")));
    };
    let retained = |name: &String| keys.iter().any(|key| key.as_str() == Some(name));
    if let Some(stray) =
        patch.iter().find(|(name, value)| !value.is_null() && !name.starts_with('$') && !retained(name))
    {
        return Err(malformed(format!(
            "{RETAIN_KEYS} must list every key of the patch, {:?} is missing",
            stray.0
        )));
    }
    target.retain(|name, _| retained(name));
    Ok(())
}

/// Where the elements of a list are, by merge key or, without one, by themselves.
type Places = HashMap<String, usize>;

fn places(items: &[Value], merge_key: Option<&str>) -> Places {
    // The first of several that are alike counts.
    let keyed = items.iter().enumerate().rev();
    keyed.map(|(at, item)| (identity(item, merge_key), at)).collect()
}

fn identity(item: &Value, merge_key: Option<&str>) -> String {
    merge_key.map_or(Some(item), |key| item.get(key)).map(Value::to_string).unwrap_or_default()
}

/// Puts elements into the patch's order. Those that it does not name keep theirs;
/// they come before an element of the patch only if they were before it already, so
/// what a patch adds comes first.
fn reorder(items: &mut Vec<Value>, order: &Places, before: &Places, merge_key: Option<&str>) {
    let place = |places: &Places, item: &Value| places.get(&identity(item, merge_key)).copied();
    let (mut named, mut others): (Vec<_>, Vec<_>) =
        items.drain(..).partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    others.sort_by_key(|item| place(before, item));
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(of_patch), Some(other)) = (named.peek(), others.peek()) {
        let was_before =
            place(before, of_patch).is_some_and(|at| place(before, other).is_some_and(|one| one < at));
        items.extend(if was_before { others.next() } else { named.next() });
    }
    items.extend(named);
    items.extend(others);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(shape: Shape, merge: bool, key: Option<&str>) -> Field {
        Field {
            patch: PatchStrategy { merge, merge_key: key.map(str::to_owned), ..PatchStrategy::default() },
            ..Field::new(shape)
        }
    }

    fn apply(target: Value, patch: Value) -> Result<Value, PatchError> {
        let mut schema = Schema::new();
        let item = schema.declare("t/v1.Item");
        let root = schema.declare("t/v1.Root");
        let names = || field(Shape::List(Box::new(Shape::String)), true, None);
        schema.get_mut(item).fields = [("args".to_owned(), names())].into();
        schema.get_mut(root).fields = [
            ("items".to_owned(), field(Shape::List(Box::new(Shape::Struct(item))), true, Some("name"))),
            ("set".to_owned(), names()),
            ("plain".to_owned(), field(Shape::List(Box::new(Shape::String)), false, None)),
        ]
        .into();
        let (Value::Object(mut target), Value::Object(patch)) = (target, patch) else {
            unreachable!("objects")
        };
        strategic_merge(&schema, root, &mut target, patch)?;
        Ok(Value::Object(target))
    }

    #[test]
    fn merges() {
        let items = json!({"items": [{"name": "a", "x": 1}, {"name": "b", "x": 2}]});
        let table = [
            (
                items.clone(),
                json!({"items": [{"name": "b", "x": 3}]}),
                json!({"items": [{"name": "a", "x": 1}, {"name": "b", "x": 3}]}),
            ),
            (
                items.clone(),
                json!({"items": [{"name": "c"}]}),
                json!({"items": [{"name": "c"}, {"name": "a", "x": 1}, {"name": "b", "x": 2}]}),
            ),
            (
                items.clone(),
                json!({"items": [{"name": "b"}, {"name": "c"}]}),
                json!({"items": [{"name": "a", "x": 1}, {"name": "b", "x": 2}, {"name": "c"}]}),
            ),
            (
                items.clone(),
                json!({"items": [{"name": "a", "$patch": "delete"}]}),
                json!({"items": [{"name": "b", "x": 2}]}),
            ),
            (
                items.clone(),
                json!({"items": [{"$patch": "replace"}, {"name": "c", "y": null}]}),
                json!({"items": [{"name": "c"}]}),
            ),
            (
                items.clone(),
                json!({"$setElementOrder/items": [{"name": "c"}, {"name": "b"}], "items": [{"name": "c"}]}),
                json!({"items": [{"name": "c"}, {"name": "a", "x": 1}, {"name": "b", "x": 2}]}),
            ),
            (json!({"set": ["a", "b"]}), json!({"set": ["c", "a"]}), json!({"set": ["c", "a", "b"]})),
            (
                json!({"set": ["a", "b"]}),
                json!({"$deleteFromPrimitiveList/set": ["a"]}),
                json!({"set": ["b"]}),
            ),
            (json!({"plain": ["a", "b"]}), json!({"plain": ["c"]}), json!({"plain": ["c"]})),
            (
                json!({"m": {"a": 1, "b": 2}}),
                json!({"m": {"$retainKeys": ["b"], "b": 3}}),
                json!({"m": {"b": 3}}),
            ),
            (json!({"m": {"a": 1}}), json!({"m": {"$patch": "replace", "c": 1}}), json!({"m": {"c": 1}})),
            (
                json!({}),
                json!({"m": {"a": null, "b": {"$patch": "merge", "c": 1}}}),
                json!({"m": {"b": {"c": 1}}}),
            ),
        ];
        for (target, patch, expected) in table {
            assert_eq!(apply(target, patch.clone()).expect("applies"), expected, "{patch}");
        }
    }

    #[test]
    fn refuses() {
        for patch in [
            json!({"items": [{"x": 1}]}),
            json!({"$patch": "explode"}),
            json!({"m": {"$retainKeys": "a"}}),
            json!({"items": ["a"]}),
        ] {
            assert!(apply(json!({"m": {"a": 1}, "items": []}), patch.clone()).is_err(), "{patch}");
        }
    }
}
