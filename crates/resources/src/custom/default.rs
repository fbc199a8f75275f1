//! What the schema says about values that are not given.

use serde_json::{Map, Value};

use super::structural::Structural;

/// Fills in defaults, and drops nulls where the schema takes none.
pub(super) fn fill(map: &mut Map<String, Value>, of: &Structural) {
    map.retain(|key, value| {
        let schema = of.properties.get(key);
        !(value.is_null() && schema.is_some_and(|one| !one.is_nullable))
    });
    for (name, schema) in &of.properties {
        if let Some(default) = schema.default.as_ref().filter(|_| !map.contains_key(name)) {
            map.insert(name.clone(), default.clone());
        }
    }
    for (key, value) in map.iter_mut() {
        let schema = match (of.properties.get(key), &of.additional) {
            (Some(schema), _) => schema,
            (None, Some(Some(schema))) => schema,
            _ => continue,
        };
        fill_below(value, schema);
    }
}

fn fill_below(value: &mut Value, of: &Structural) {
    match value {
        Value::Object(map) => fill(map, of),
        Value::Array(items) => {
            let Some(schema) = &of.items else { return };
            for item in items {
                if item.is_null()
                    && !schema.is_nullable
                    && let Some(default) = &schema.default
                {
                    *item = default.clone();
                }
                fill_below(item, schema);
            }
        }
        _ => {}
    }
}
