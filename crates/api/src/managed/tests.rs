//! Upstream's behaviour, on a kind with every sort of list and map.

use serde_json::{Value, json};

use super::atom::Place;
use super::merge::merge;
use super::*;
use crate::Object;
use crate::schema::{Field, ListType, MapType, Schema, Shape, StructId};

struct Kind {
    schema: Schema,
    root: StructId,
}

impl Typed for Kind {
    fn shape(&self) -> (&Schema, StructId) {
        (&self.schema, self.root)
    }

    fn convert(&self, _object: &Object, _api_version: &str) -> Option<(Object, Box<dyn Typed + '_>)> {
        None
    }
}

fn list(of: Shape, list_type: ListType) -> Field {
    Field { list_type, ..Field::new(Shape::List(Box::new(of))) }
}

fn keyed(of: StructId, keys: &[&str]) -> Field {
    list(Shape::Struct(of), ListType::Map(keys.iter().map(|key| (*key).to_owned()).collect()))
}

impl Kind {
    fn new() -> Self {
        let mut schema = Schema::new();
        let mut declare = |name: &str, fields: Vec<(&str, Field)>| {
            let id = schema.declare(name);
            schema.get_mut(id).fields =
                fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect();
            id
        };
        let map = || Field::new(Shape::Map(Box::new(Shape::String)));
        let protocol = Field { default: Some("TCP".to_owned()), ..Field::new(Shape::String) };
        let port = declare("Port", vec![("port", Field::new(Shape::Int32)), ("protocol", protocol)]);
        let container = declare(
            "Container",
            vec![
                ("name", Field::new(Shape::String)),
                ("image", Field::new(Shape::String)),
                ("args", list(Shape::String, ListType::Atomic)),
                ("ports", keyed(port, &["port", "protocol"])),
            ],
        );
        let spec = declare(
            "Spec",
            vec![
                ("replicas", Field::new(Shape::Int32)),
                ("selector", Field { map_type: MapType::Atomic, ..map() }),
                ("zones", list(Shape::String, ListType::Set)),
                ("containers", keyed(container, &["name"])),
                ("raw", Field::new(Shape::Any)),
            ],
        );
        let metadata = declare(
            "Metadata",
            vec![
                ("name", Field::new(Shape::String)),
                ("labels", map()),
                ("uid", Field::new(Shape::String)),
                ("managedFields", list(Shape::Any, ListType::Atomic)),
            ],
        );
        let root = declare(
            "Root",
            vec![
                ("apiVersion", Field::new(Shape::String)),
                ("kind", Field::new(Shape::String)),
                ("metadata", Field::new(Shape::Struct(metadata))),
                ("spec", Field::new(Shape::Struct(spec))),
                ("status", map()),
            ],
        );
        Self { schema, root }
    }

    fn ownership(&self, seconds: i64) -> Ownership<'_> {
        let now = jiff::Timestamp::from_second(seconds).expect("a time");
        Ownership { kind: self, reset: FieldSet::default(), now }
    }
}

fn object(value: Value) -> Object {
    let mut object = Object::from_value(value).expect("an object");
    object.set("apiVersion", "v1");
    object.set("kind", "Root");
    object
}

/// What the server would store: with a uid.
fn stored(mut object: Object) -> Object {
    object.set_at(&["metadata", "uid"], "u");
    object
}

fn by(manager: &str, operation: Operation) -> Identity {
    Identity {
        manager: manager.to_owned(),
        operation,
        api_version: "v1".to_owned(),
        subresource: String::new(),
    }
}

fn owned(object: &Object, manager: &str) -> Value {
    let entries = object.at(&["metadata", "managedFields"]).and_then(Value::as_array);
    let found = entries.into_iter().flatten().find(|entry| entry["manager"] == manager);
    found.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

fn apply(
    kind: &Kind,
    live: &Object,
    config: Value,
    manager: &str,
    force: bool,
) -> Result<Object, ApplyError> {
    let config = object(config);
    let applied = kind.ownership(100).apply(live, &config, &by(manager, Operation::Apply), force)?;
    Ok(stored(applied.object))
}

#[test]
fn a_create_owns_what_it_says() {
    let kind = Kind::new();
    let mut new = object(json!({
        "metadata": {"name": "x", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3, "selector": {"a": "b"}, "zones": ["z1"],
            "containers": [{"name": "c", "image": "i", "args": ["1"], "ports": [{"port": 80, "protocol": "TCP"}]}],
        },
    }));
    let zero = object(json!({"metadata": {}, "spec": {"containers": null}}));
    kind.ownership(7).update(&zero, &mut new, &by("kubectl", Operation::Update), true);
    let expected = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {
            "f:replicas": {}, "f:selector": {}, "f:zones": {".": {}, "v:\"z1\"": {}},
            "f:containers": {
                "k:{\"name\":\"c\"}": {
                    ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                    "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}}},
                },
            },
        },
    });
    assert_eq!(owned(&new, "kubectl"), expected);
    let entry = &new.at(&["metadata", "managedFields"]).expect("entries")[0];
    assert_eq!(
        (entry["operation"].as_str(), entry["time"].as_str(), entry["fieldsType"].as_str()),
        (Some("Update"), Some("1970-01-01T00:00:07Z"), Some("FieldsV1"))
    );
}

#[test]
fn an_update_takes_what_it_changes_and_leaves_the_rest() {
    let kind = Kind::new();
    let mut live = object(json!({"metadata": {"name": "x"}, "spec": {"replicas": 1, "zones": ["a"]}}));
    kind.ownership(1).update(&object(json!({})), &mut live, &by("one", Operation::Update), true);
    let live = stored(live);
    let mut new = live.clone();
    new.set_at(&["spec", "replicas"], 2);
    kind.ownership(2).update(&live, &mut new, &by("two", Operation::Update), false);
    assert_eq!(owned(&new, "two"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(owned(&new, "one"), json!({"f:spec": {".": {}, "f:zones": {".": {}, "v:\"a\"": {}}}}));
    // Nothing changed: nothing is taken, and no time moves.
    let mut same = new.clone();
    kind.ownership(9).update(&new, &mut same, &by("three", Operation::Update), false);
    assert_eq!(same, new);
    // What is removed is nobody's.
    let mut less = new.clone();
    less.remove_at(&["spec", "replicas"]);
    kind.ownership(3).update(&new, &mut less, &by("three", Operation::Update), false);
    assert_eq!((owned(&less, "two"), owned(&less, "three")), (Value::Null, Value::Null));
    // A client that asks for it resets all.
    let mut reset = new.clone();
    reset.set_at(&["metadata", "managedFields"], json!([{}]));
    kind.ownership(4).update(&new, &mut reset, &by("three", Operation::Update), false);
    assert_eq!(reset.at(&["metadata", "managedFields"]), None);
}

#[test]
fn applies_merge_conflict_and_give_up() {
    let kind = Kind::new();
    let nothing = object(json!({}));
    let first = json!({
        "metadata": {"name": "x", "labels": {"a": "1", "b": "1"}},
        "spec": {"replicas": 1, "containers": [{"name": "c", "image": "i1"}, {"name": "d", "image": "i"}]},
    });
    let live = apply(&kind, &nothing, first, "one", false).expect("applied");
    let second = json!({"metadata": {"name": "x"}, "spec": {"replicas": 2, "containers": [{"name": "c", "image": "i2"}]}});
    let refused = apply(&kind, &live, second.clone(), "two", false).expect_err("conflicts");
    assert_eq!(
        refused.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.containers[name=\"c\"].image\n- .spec.replicas"
    );
    let live = apply(&kind, &live, second, "two", true).expect("forced");
    assert_eq!(live.at(&["spec", "replicas"]), Some(&json!(2)));
    assert_eq!(
        owned(&live, "one"),
        json!({
            "f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}},
            "f:spec": {"f:containers": {
                "k:{\"name\":\"c\"}": {".": {}, "f:name": {}},
                "k:{\"name\":\"d\"}": {".": {}, "f:name": {}, "f:image": {}},
            }},
        })
    );
    // What one does not apply any more goes, unless two has it.
    let third = json!({"metadata": {"name": "x", "labels": {"a": "1"}}});
    let live = apply(&kind, &live, third, "one", false).expect("applied");
    assert_eq!(live.at(&["metadata", "labels"]), Some(&json!({"a": "1"})));
    assert_eq!(live.at(&["spec", "containers"]), Some(&json!([{"name": "c", "image": "i2"}])));
    assert_eq!(live.at(&["spec", "replicas"]), Some(&json!(2)));
    // The same values are shared without conflict.
    let shared = json!({"metadata": {"name": "x"}, "spec": {"replicas": 2}});
    let live = apply(&kind, &live, shared, "three", false).expect("shared");
    assert_eq!(owned(&live, "three"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(owned(&live, "two")["f:spec"]["f:replicas"], json!({}));
}

#[test]
fn the_first_apply_finds_what_was_there_before() {
    let kind = Kind::new();
    let live = stored(object(json!({"metadata": {"name": "x"}, "spec": {"replicas": 1, "zones": ["a"]}})));
    let wanted = json!({"metadata": {"name": "x"}, "spec": {"replicas": 5}});
    let refused = apply(&kind, &live, wanted.clone(), "one", false).expect_err("conflict");
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .spec.replicas"
    );
    let live = apply(&kind, &live, wanted, "one", true).expect("forced");
    assert_eq!(owned(&live, "one"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(live.at(&["spec", "zones"]), Some(&json!(["a"])));
}

#[test]
fn an_apply_that_changes_nothing_moves_no_time() {
    let kind = Kind::new();
    let config = json!({"metadata": {"name": "x"}, "spec": {"replicas": 5}});
    let live = apply(&kind, &object(json!({})), config.clone(), "one", false).expect("applied");
    let again = kind
        .ownership(999)
        .apply(&live, &object(config), &by("one", Operation::Apply), false)
        .expect("applied");
    assert_eq!(again.object, live);
}

#[test]
fn ambiguous_lists_are_refused() {
    let kind = Kind::new();
    let config = json!({"spec": {"containers": [{"name": "c"}, {"name": "c"}]}});
    let live = object(json!({"spec": {"containers": [{"name": "c"}]}}));
    let refused = apply(&kind, &live, config, "one", false).expect_err("twice the same");
    assert!(refused.to_string().contains("duplicate entries for key"), "{refused}");
    let config = json!({"spec": {"containers": [{"image": "i"}]}});
    let refused = apply(&kind, &object(json!({})), config, "one", false).expect_err("no key");
    assert!(refused.to_string().contains("omits key field \"name\""), "{refused}");
    // A key with a default may be left out.
    let config = json!({"spec": {"containers": [{"name": "c", "ports": [{"port": 1}]}]}});
    let live = apply(&kind, &object(json!({})), config, "one", false).expect("applied");
    let ports = &owned(&live, "one")["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:ports"];
    assert!(ports.get("k:{\"port\":1,\"protocol\":\"TCP\"}").is_some(), "{ports}");
}

#[test]
fn parts_that_are_not_written_are_nobodys() {
    let kind = Kind::new();
    let mut ownership = kind.ownership(1);
    ownership.reset = FieldSet::from_value(&json!({"f:status": {}}));
    let mut new = object(json!({"spec": {"replicas": 1}, "status": {"a": "b"}}));
    ownership.update(&object(json!({})), &mut new, &by("one", Operation::Update), true);
    assert_eq!(owned(&new, "one"), json!({"f:spec": {".": {}, "f:replicas": {}}}));
}

#[test]
fn old_writers_are_joined() {
    let kind = Kind::new();
    let mut live = stored(object(json!({"metadata": {"name": "x", "labels": {}}})));
    for number in 0..14_i64 {
        let mut new = live.clone();
        new.set_at(&["metadata", "labels", &format!("l{number}")], "v");
        let is_create = number == 0;
        kind.ownership(number).update(
            &live,
            &mut new,
            &by(&format!("m{number}"), Operation::Update),
            is_create,
        );
        live = new;
    }
    let entries = live.at(&["metadata", "managedFields"]).and_then(Value::as_array).expect("entries");
    assert_eq!(entries.len(), 10);
    let ancient = &owned(&live, "ancient-changes")["f:metadata"]["f:labels"];
    assert_eq!(ancient.as_object().map(serde_json::Map::len), Some(5), "{ancient}");
}

#[test]
fn lists_keep_the_order_of_the_configuration() {
    let kind = Kind::new();
    let shape = Shape::List(Box::new(Shape::String));
    let of = Field { list_type: ListType::Set, ..Field::new(shape) };
    let mut schema = Schema::new();
    let root = schema.declare("R");
    schema.get_mut(root).fields.insert("l".to_owned(), of);
    let shape = Shape::Struct(root);
    for (live, config, merged) in [
        ("abc", "cd", "abcd"),
        ("abc", "ba", "bca"),
        ("ab", "x", "abx"),
        ("ab", "xa", "xab"),
        ("abcde", "dxb", "acdexb"),
        ("", "ab", "ab"),
        ("ab", "", "ab"),
    ] {
        let value = |text: &str| {
            let items: Vec<String> = text.chars().map(String::from).collect();
            json!({"l": items})
        };
        let found = merge(&schema, Place::of(&shape), &value(live), &value(config)).expect("merges");
        assert_eq!(found, value(merged), "{live} and {config}");
    }
    assert_eq!(kind.schema.find("R"), None);
}

#[test]
fn sets_are_read_and_combined() {
    let set = |value: Value| FieldSet::from_value(&value);
    let (a, b) = (
        set(json!({"f:a": {".": {}, "f:x": {}}, "f:b": {}, "z:unknown": {}})),
        set(json!({"f:a": {"f:x": {}, "f:y": {}}, "f:c": {}})),
    );
    assert_eq!(a.union(&b), set(json!({"f:a": {".": {}, "f:x": {}, "f:y": {}}, "f:b": {}, "f:c": {}})));
    assert_eq!(a.intersection(&b), set(json!({"f:a": {"f:x": {}}})));
    assert_eq!(a.difference(&b), set(json!({"f:a": {}, "f:b": {}})));
    assert_eq!(a.without_trees(&set(json!({"f:a": {}}))), set(json!({"f:b": {}})));
    assert_eq!(
        set(json!({"f:a": {"k:{\"n\":\"x\"}": {"v:1": {}, "i:3": {}}}})).paths(),
        [".a[n=\"x\"][3]", ".a[n=\"x\"][=1]",]
    );
}

#[test]
fn an_overlay_replaces_nothing_as_a_whole() {
    let kind = Kind::new();
    let live = object(json!({"spec": {"replicas": 1, "zones": ["a"], "containers": [
        {"name": "c", "image": "i", "args": ["x"]},
    ]}}));
    let over = |config: Value| overlay(&kind.schema, kind.root, &live, &object(config));
    let found =
        over(json!({"spec": {"replicas": 2, "zones": ["b"], "containers": [{"name": "c", "image": "j"}]}}));
    let wanted = object(json!({"spec": {"replicas": 2, "zones": ["a", "b"], "containers": [
        {"name": "c", "image": "j", "args": ["x"]},
    ]}}));
    assert_eq!(found, Ok(wanted));
    let atomic = json!({"spec": {"selector": {"a": "b"}, "containers": [{"name": "c", "args": []}]}});
    let paths = [".spec.containers[0].args", ".spec.selector"].map(str::to_owned);
    assert_eq!(over(atomic), Err(OverlayError::Atomic(paths.into())));
    assert!(matches!(over(json!({"spec": {"containers": [{}]}})), Err(OverlayError::Ambiguous(_))));
}
