//! Custom resources, as their definition says.

use serde_json::json;

use super::*;
use crate::Part;

fn definition() -> Object {
    let schema = json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object", "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 10},
                    "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                    "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                    "port": {"x-kubernetes-int-or-string": true},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}, "maxItems": 2},
                    "parts": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                        "items": {
                            "type": "object", "required": ["id"],
                            "properties": {"id": {"type": "string"}, "n": {"type": "integer", "default": 7}},
                        },
                    },
                    "either": {
                        "type": "object",
                        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                    },
                },
            },
            "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
        },
    });
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema},
            "subresources": {
                "status": {},
                "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.n"},
            },
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
            "selectableFields": [{"jsonPath": ".spec.color"}],
        })
    };
    let names = json!({
        "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["w"],
    });
    Object::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.x.io"},
        "spec": {
            "group": "x.io", "scope": "Namespaced", "names": names,
            "versions": [version("v1beta1", false), version("v1", true)],
        },
        "status": {"acceptedNames": names},
    }))
    .expect("an object")
}

fn kind() -> Descriptor {
    descriptors(&definition()).expect("usable").remove(0)
}

fn widget(spec: Value) -> Object {
    let mut widget = Object::from_value(json!({
        "apiVersion": "x.io/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "n"},
    }))
    .expect("an object");
    widget.set("spec", spec);
    widget
}

fn errors(spec: Value) -> Vec<String> {
    let kind = kind();
    let mut object = widget(spec);
    kind.conform(&mut object).expect("conforms");
    kind.strategy.default(&mut object);
    kind.strategy.validate(&object).iter().map(|error| format!("{}: {}", error.field, error.body())).collect()
}

#[test]
fn a_definition_becomes_descriptors() {
    let kinds = descriptors(&definition()).expect("usable");
    let names: Vec<String> = kinds.iter().map(|kind| format!("{kind:?}")).collect();
    assert_eq!(names, ["x.io/v1/widgets", "x.io/v1beta1/widgets"], "the preferred version first");
    let kind = &kinds[0];
    assert_eq!((kind.singular.as_str(), kind.short_names.as_slice()), ("widget", &["w".to_owned()][..]));
    let parts: Vec<&str> = kind.subresources.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(parts, ["status", "scale"]);
    let scale = kind.subresource("scale").and_then(|one| one.scale.clone()).expect("a scale");
    assert_eq!(scale.spec_replicas, ["spec", "size"]);
    let object = widget(json!({"size": 3, "color": "green"}));
    assert_eq!(kind.strategy.cells(&object, jiff::Timestamp::UNIX_EPOCH), [json!("w"), json!(3)]);
    assert_eq!(kind.strategy.selectable(&object), [("v1/spec.color", "green".to_owned())]);
    assert!(kind.strategy.converts());
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let kind = kind();
    let mut object = widget(json!({
        "size": 1, "sise": 2, "free": {"any": {"thing": 1}}, "parts": [{"id": "a", "x": 1}], "color": null,
    }));
    object.set_at(&["metadata", "nonsense"], 1);
    object.set("extra", 1);
    let mut unknown = kind.conform(&mut object).expect("conforms").unknown;
    unknown.sort();
    assert_eq!(unknown, ["extra", "metadata.nonsense", "spec.parts[0].x", "spec.sise"]);
    kind.strategy.default(&mut object);
    assert_eq!(
        object.get("spec"),
        Some(&json!({
            "size": 1, "free": {"any": {"thing": 1}}, "parts": [{"id": "a", "n": 7}], "color": "red",
        }))
    );
}

#[test]
fn values_are_checked_with_upstreams_words() {
    assert_eq!(errors(json!({"size": 3, "port": "http", "either": {"a": "x"}})), Vec::<String>::new());
    for (spec, wanted) in [
        (json!({}), "spec.size: Required value"),
        (
            json!({"size": "x"}),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            json!({"size": 11}),
            "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10",
        ),
        (
            json!({"size": 1, "color": "blue"}),
            "spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\"",
        ),
        (
            json!({"size": 1, "name": "A"}),
            "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'",
        ),
        (json!({"size": 1, "tags": ["a", "a"]}), "spec.tags[1]: Duplicate value: \"a\""),
        (json!({"size": 1, "tags": ["a", "b", "c"]}), "spec.tags: Too many: 3: must have at most 2 items"),
        (
            json!({"size": 1, "parts": [{"id": "a"}, {"id": "a"}]}),
            "spec.parts[1]: Duplicate value: {\"id\":\"a\"}",
        ),
        (
            json!({"size": 1, "port": 1.5}),
            "spec.port: Invalid value: \"number\": spec.port in body must be of type integer,string: \"number\"",
        ),
        (
            json!({"size": 1, "either": {"a": "x", "b": "y"}}),
            "spec.either: Invalid value: \"object\": spec.either in body must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
    ] {
        let found = errors(spec);
        assert!(found.iter().any(|one| one == wanted), "{wanted} in {found:#?}");
    }
}

#[test]
fn what_is_nested_is_checked_once_a_level() {
    let mut document = json!({"type": "integer", "maximum": 1});
    for _ in 0..60 {
        document = json!({"allOf": [document]});
    }
    document["type"] = "object".into();
    let structural = Structural::read(&json!({"type": "object", "allOf": [document]}));
    let found = check(widget(json!({})).as_map(), &structural);
    assert!(!found.is_empty(), "an object is no integer");
}

#[test]
fn parts_and_generations_are_kept_apart() {
    let kind = kind();
    let mut old = widget(json!({"size": 1}));
    kind.strategy.prepare_create(&mut old);
    old.set("status", json!({"ready": true}));
    let mut new = old.clone();
    new.set_at(&["spec", "size"], 2);
    new.set("status", json!({"ready": false}));
    kind.strategy.prepare_update(Part::Main, &mut new, &old);
    assert_eq!((new.generation(), new.at(&["status", "ready"])), (2, Some(&json!(true))));
    let mut reported = old.clone();
    reported.set_at(&["spec", "size"], 9);
    reported.set_at(&["metadata", "labels", "a"], "b");
    reported.set("status", json!({"ready": false}));
    kind.strategy.prepare_update(Part::Status, &mut reported, &old);
    assert_eq!(reported.at(&["spec", "size"]), Some(&json!(1)));
    assert_eq!((reported.generation(), reported.at(&["status", "ready"])), (1, Some(&json!(false))));
    assert_eq!(reported.labels(), None);
}

#[test]
fn definitions_are_checked() {
    let catalogue = crate::Catalogue::built_in();
    let crd = catalogue.find("apiextensions.k8s.io", "v1", "customresourcedefinitions").expect("the kind");
    let check = |change: &dyn Fn(&mut Object)| -> Vec<String> {
        let mut object = definition();
        change(&mut object);
        crd.strategy.default(&mut object);
        crd.strategy
            .validate(&object)
            .iter()
            .map(|error| format!("{}: {}", error.field, error.body()))
            .collect()
    };
    assert_eq!(check(&|_| {}), Vec::<String>::new());
    let schema = |object: &mut Object, change: &dyn Fn(&mut Value)| {
        let mut versions = object.at(&["spec", "versions"]).expect("versions").clone();
        change(&mut versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]);
        object.set_at(&["spec", "versions"], versions);
    };
    let at = "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties";
    for (found, wanted) in [
        (
            check(&|object| object.set_at(&["metadata", "name"], "x")),
            "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group".to_owned(),
        ),
        (
            check(&|object| object.set_at(&["spec", "scope"], "Galaxy")),
            "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\""
                .to_owned(),
        ),
        (
            check(&|object| schema(object, &|of| of["size"] = json!({}))),
            format!("{at}[size].type: Required value: must not be empty for specified object fields"),
        ),
        (
            check(&|object| schema(object, &|of| of["color"]["default"] = json!("blue"))),
            format!("{at}[color].default: Unsupported value: \"blue\": supported values: \"red\", \"green\""),
        ),
        (
            check(&|object| schema(object, &|of| of["name"]["pattern"] = json!("["))),
            format!("{at}[name].pattern: Invalid value: \"[\""),
        ),
    ] {
        assert!(found.iter().any(|one| one.starts_with(&wanted)), "{wanted} in {found:#?}");
    }
}
