//! Patches of every sort on a pod.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| {
    let pod = json!({
        "metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["a", "b"]},
        "spec": {"containers": [{"name": "c", "env": [{"name": "e", "value": "f"}]}, {"name": "d"}]},
    });
    let mut target = pod.clone();
    if api::patch::json_patch(&mut target, data).is_ok() {
        // A patch is bounded by what it says and what is there.
        assert!(target.to_string().len() < 4 << 20);
    }
    let Ok(Value::Object(patch)) = serde_json::from_slice(data) else { return };
    let schema = resources::schema();
    let id = schema.find("core/v1.Pod").expect("pods");
    let Value::Object(mut target) = pod else { return };
    let _ = api::patch::strategic_merge(&schema, id, &mut target, patch);
});
