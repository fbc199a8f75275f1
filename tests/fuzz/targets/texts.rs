//! Small languages: selectors, quantities, times, JSONPath.
#![no_main]

use api::{FieldSelector, LabelSelector, Quantity};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let _ = LabelSelector::parse(text);
    let _ = FieldSelector::parse(text);
    if let Ok(once) = Quantity::canonical(text) {
        let again = Quantity::canonical(&once).expect("a canonical quantity is one");
        assert_eq!(once, again);
    }
    let _ = api::time::parse(text);
    if let Ok(path) = api::jsonpath::Template::parse(text) {
        let _ =
            path.limited_to(1_000).print(&json!({"items": [{"a": "b", "c": [1, 2, 3]}, {"d": {"e": null}}]}));
    }
});
