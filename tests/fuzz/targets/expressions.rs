//! CEL: what compiles is evaluated, within its budget.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resources::cel::{Budget, Error, Program, Type, Value, Variables};
use serde_json::json;

struct Itself(Value);

impl Variables for Itself {
    fn get(&self, name: &str) -> Option<Result<Value, Error>> {
        (name == "self").then(|| Ok(self.0.clone()))
    }
}

fuzz_target!(|text: &str| {
    let Ok(program) = Program::compile(text, &|name| (name == "self").then_some(Type::Dyn)) else { return };
    let object =
        json!({"a": [1, 2, 3], "b": {"c": "text", "d": 1.5}, "e": true, "f": "2026-01-01T00:00:00Z"});
    let _ = program.evaluate(&Itself(Value::from_json(&object)), &Budget::new(100_000));
});
