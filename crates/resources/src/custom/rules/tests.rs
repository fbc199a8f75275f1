//! Rules of schemas, and what they say.

use super::*;

fn definition(spec: Value) -> Structural {
    Structural::read(&json!({"type": "object", "properties": {"spec": spec}}))
}

#[track_caller]
fn said(schema: &Structural, new: Value, old: Option<Value>) -> Vec<String> {
    let object = |spec: Value| {
        Object::from_value(json!({"metadata": {"name": "w"}, "spec": spec})).expect("an object")
    };
    let checks = Checks::of(schema).expect("rules");
    let old = old.map(object);
    let errors = checks.check(&object(new), old.as_ref(), schema);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn rules_judge_values() {
    let schema = definition(json!({
        "type": "object",
        "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"},
            "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('a')"}]},
            "when": {"type": "string", "format": "date-time"},
            "wait": {"type": "string", "format": "duration"},
            "port": {"x-kubernetes-int-or-string": true},
            "ratio": {"type": "number"},
            "a-b": {"type": "string"},
            "labels": {
                "type": "object",
                "additionalProperties": {
                    "type": "string",
                    "x-kubernetes-validations": [{"rule": "self != 'no'", "reason": "FieldValueForbidden"}],
                },
            },
        },
        "x-kubernetes-validations": [
            {"rule": "!has(self.min) || self.min <= self.max", "messageExpression": "'min %d > max'.format([self.min])"},
            {"rule": "!has(self.wait) || self.wait < duration('1h')", "message": "too long", "fieldPath": ".wait"},
            {"rule": "!has(self.when) || self.when.getFullYear() == 2024"},
            {"rule": "!has(self.port) || type(self.port) == int || self.port == 'http'"},
            {"rule": "!has(self.ratio) || self.ratio < 2.0"},
            {"rule": "!has(self.a__dash__b) || self.a__dash__b == 'x'"},
        ],
    }));
    for (new, expected) in [
        (
            json!({"min": 1, "max": 2, "name": "ab", "wait": "1m", "when": "2024-01-01T00:00:00Z", "port": 8, "ratio": 1}),
            vec![],
        ),
        (json!({"min": 3, "max": 2}), vec!["spec: Invalid value: min 3 > max"]),
        (json!({"name": "b"}), vec!["spec.name: Invalid value: \"b\": failed rule: self.startsWith('a')"]),
        (json!({"wait": "2h"}), vec!["spec.wait: Invalid value: too long"]),
        (
            json!({"when": "2023-01-01T00:00:00Z"}),
            vec!["spec: Invalid value: failed rule: !has(self.when) || self.when.getFullYear() == 2024"],
        ),
        (
            json!({"port": "ftp"}),
            vec![
                "spec: Invalid value: failed rule: !has(self.port) || type(self.port) == int || self.port == 'http'",
            ],
        ),
        (
            json!({"a-b": "y"}),
            vec!["spec: Invalid value: failed rule: !has(self.a__dash__b) || self.a__dash__b == 'x'"],
        ),
        (json!({"labels": {"k": "no"}}), vec!["spec.labels[k]: Forbidden: failed rule: self != 'no'"]),
        (
            json!({"min": 1}),
            vec![
                "spec: Invalid value: \"object\": no such key: max evaluating rule: !has(self.min) || self.min <= self.max",
            ],
        ),
    ] {
        assert_eq!(said(&schema, new.clone(), None), expected, "{new}");
    }
}

#[test]
fn changes_are_judged_and_what_was_there_stays() {
    let schema = definition(json!({
        "type": "object",
        "properties": {
            "fixed": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]},
            "once": {"type": "string", "x-kubernetes-validations": [
                {"rule": "oldSelf.hasValue() || self == 'first'", "optionalOldSelf": true},
            ]},
            "good": {"type": "string", "x-kubernetes-validations": [{"rule": "self == 'good'"}]},
            "parts": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                "items": {
                    "type": "object", "required": ["id"],
                    "properties": {"id": {"type": "string"}, "n": {"type": "integer"}},
                    "x-kubernetes-validations": [{"rule": "self.n >= oldSelf.n", "message": "may only grow"}],
                },
            },
        },
    }));
    for (old, new, expected) in [
        (None, json!({"fixed": "a"}), vec![]),
        (
            Some(json!({"fixed": "a"})),
            json!({"fixed": "b"}),
            vec!["spec.fixed: Invalid value: \"b\": is immutable"],
        ),
        (Some(json!({"fixed": "a"})), json!({"fixed": "a"}), vec![]),
        (
            None,
            json!({"once": "other"}),
            vec!["spec.once: Invalid value: \"other\": failed rule: oldSelf.hasValue() || self == 'first'"],
        ),
        (Some(json!({"once": "first"})), json!({"once": "other"}), vec![]),
        (
            None,
            json!({"good": "bad"}),
            vec!["spec.good: Invalid value: \"bad\": failed rule: self == 'good'"],
        ),
        (Some(json!({"good": "bad"})), json!({"good": "bad", "fixed": "a"}), vec![]),
        (
            Some(json!({"good": "bad"})),
            json!({"good": "worse"}),
            vec!["spec.good: Invalid value: \"worse\": failed rule: self == 'good'"],
        ),
        (
            Some(json!({"parts": [{"id": "a", "n": 1}, {"id": "b", "n": 5}]})),
            json!({"parts": [{"id": "b", "n": 4}, {"id": "a", "n": 2}, {"id": "c", "n": 0}]}),
            vec!["spec.parts[0]: Invalid value: may only grow"],
        ),
    ] {
        assert_eq!(said(&schema, new.clone(), old), expected, "{new}");
    }
}

#[test]
fn costs_end_it() {
    let many = "self.all(a, self.all(b, self.all(c, self.all(d, a + b + c + d != 'x'))))";
    let schema = definition(json!({
        "type": "array", "items": {"type": "string"},
        "x-kubernetes-validations": [{"rule": many}, {"rule": "false"}],
    }));
    let items: Vec<String> = (0..100).map(|at| at.to_string()).collect();
    let found = said(&schema, json!(items), None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("spec: Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.all("), "{found:?}");
}

#[test]
fn rules_of_a_definition_are_checked() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    for (rule, expected) in [
        (json!({"rule": "self.a == 'x'", "fieldPath": ".a", "reason": "FieldValueRequired"}), vec![]),
        (json!({"rule": " "}), vec!["r.rule: Required value: rule is not specified"]),
        (
            json!({"rule": "self.b == 'x'"}),
            vec![
                "r.rule: Invalid value: {\"Rule\":\"self.b == 'x'\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: ERROR: <input>:1:5: undefined field 'b'\n | self.b == 'x'\n | ....^",
            ],
        ),
        (
            json!({"rule": "self.a", "fieldPath": ".b"}),
            vec![
                "r.fieldPath: Invalid value: \".b\": must be a valid path",
                "r.rule: Invalid value: {\"Rule\":\"self.a\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\".b\",\"OptionalOldSelf\":null}: cel expression must evaluate to a bool",
            ],
        ),
        (
            json!({"rule": "true", "reason": "x"}),
            vec![
                "r.reason: Unsupported value: \"x\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
            ],
        ),
    ] {
        let mut errors = ErrorList::new();
        errors_of(&rule, &schema, false, (&Path::new("r"), &mut errors));
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{rule}");
    }
}
