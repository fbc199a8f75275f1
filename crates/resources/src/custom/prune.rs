//! What the schema does not have is removed, and named.

use serde_json::{Map, Value};

use super::structural::Structural;

/// Removes unknown fields of an object below `path`; their paths go into `unknown`.
pub(super) fn prune(
    map: &mut Map<String, Value>,
    of: &Structural,
    is_resource: bool,
    path: &str,
    unknown: &mut Vec<String>,
) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    map.retain(|key, value| {
        if is_resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        let schema = match (of.properties.get(key), &of.additional) {
            (Some(schema), _) => Some(&**schema),
            (None, Some(Some(schema))) => Some(&**schema),
            (None, Some(None)) => return true,
            (None, None) => None,
        };
        match schema {
            Some(schema) => {
                value_below(value, schema, &below(key), unknown);
                true
            }
            None if of.preserves_unknown => true,
            None => {
                unknown.push(below(key));
                false
            }
        }
    });
}

fn value_below(value: &mut Value, of: &Structural, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => prune(map, of, of.is_embedded, path, unknown),
        Value::Array(items) => {
            let Some(schema) = &of.items else { return };
            for (index, item) in items.iter_mut().enumerate() {
                value_below(item, schema, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}
