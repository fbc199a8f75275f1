use serde_json::json;

use super::*;
use crate::Catalogue;

fn object(metadata: Value) -> Object {
    Object::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
        .expect("object")
}

fn errors(metadata: Value) -> Vec<String> {
    let catalogue = Catalogue::built_in();
    let kind = catalogue.find("", "v1", "configmaps").expect("config maps");
    validate(kind, &object(metadata)).iter().map(ToString::to_string).collect()
}

#[test]
fn metadata_is_judged_as_upstream_judges_it() {
    let none: Vec<String> = Vec::new();
    assert_eq!(errors(json!({"name": "a", "namespace": "n", "labels": {"app": "x"}})), none);
    assert_eq!(
        errors(json!({})),
        [
            "metadata.name: Required value: name or generateName is required",
            "metadata.namespace: Required value"
        ]
    );
    assert_eq!(
        errors(json!({"name": "a", "namespace": "n", "labels": {"a/b/c": "x"}})),
        [
            "metadata.labels: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    );
    let large = "x".repeat(MAX_ANNOTATIONS);
    assert_eq!(
        errors(json!({"name": "a", "namespace": "n", "annotations": {"a": large}})),
        ["metadata.annotations: Too long: may not be more than 262144 bytes"]
    );
    let owner =
        |kind: &str| json!({"apiVersion": "v1", "kind": kind, "name": "x", "uid": "u", "controller": true});
    let found =
        errors(json!({"name": "a", "namespace": "n", "ownerReferences": [owner("Pod"), owner("Node")]}));
    assert!(found[0].ends_with(
        "Only one reference can have Controller set to true. Found \"true\" in references for Pod/x and Node/x"
    ));
}

#[test]
fn what_may_not_change_is_named() {
    let catalogue = Catalogue::built_in();
    let kind = catalogue.find("", "v1", "configmaps").expect("config maps");
    let old = object(json!({"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z"}));
    let mut new = old.clone();
    assert_eq!(validate_update(kind, &new, &old), ErrorList::new());
    new.set_at(&["metadata", "uid"], "v");
    new.remove_at(&["metadata", "resourceVersion"]);
    let found: Vec<String> = validate_update(kind, &new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            "metadata.uid: Invalid value: \"v\": field is immutable"
        ]
    );
    let mut dying = old.clone();
    dying.set_at(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z");
    let mut new = dying.clone();
    new.set_at(&["metadata", "finalizers"], json!(["a.b/c"]));
    assert_eq!(
        validate_update(kind, &new, &dying)[0].to_string(),
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"a.b/c\"}"
    );
}
