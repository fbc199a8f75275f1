//! Conditions in the status of objects that the server itself writes.

use api::Object;
use serde_json::Value;

/// Puts a condition in the place of the one of its type, or beside the others.
pub(crate) fn put(object: &mut Object, condition: Value) {
    let mut conditions =
        object.at(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    conditions.retain(|one| one["type"] != condition["type"]);
    conditions.push(condition);
    object.set_at(&["status", "conditions"], conditions);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_of_each_type() {
        let status = json!({"conditions": [{"type": "A", "status": "False"}, {"type": "B"}]});
        let mut object = Object::from_value(json!({"status": status})).expect("an object");
        put(&mut object, json!({"type": "A", "status": "True"}));
        let expected = json!([{"type": "B"}, {"type": "A", "status": "True"}]);
        assert_eq!(object.at(&["status", "conditions"]), Some(&expected));
    }
}
