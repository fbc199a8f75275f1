//! Bodies in JSON and YAML, brought into a kind's shape.
#![no_main]

use api::schema::conform;
use api::{Object, yaml};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn shaped(value: Value) {
    let schema = resources::schema();
    for kind in ["core/v1.Pod", "apiextensions/v1.CustomResourceDefinition"] {
        if let (Some(id), Ok(mut object)) = (schema.find(kind), Object::from_value(value.clone())) {
            let _ = conform(&schema, id, object.as_map_mut());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok((value, _)) = api::json::parse(data) {
        shaped(value);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = yaml::repeated(text);
    if let Ok(value) = yaml::parse(text) {
        // What was read can be shown.
        yaml::format(&value).expect("writes");
        shaped(value);
    }
});
