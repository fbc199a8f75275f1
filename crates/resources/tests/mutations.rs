//! Damaged and invented input: it is refused or read, but nothing panics, and what
//! comes of it is no larger than what went in allows.

use api::schema::conform;
use api::{FieldSelector, LabelSelector, Object, protobuf, yaml};
use proptest::prelude::*;
use resources::cel::{Program, Type};
use serde_json::{Value, json};

/// A change to some bytes.
#[derive(Clone, Debug)]
enum Damage {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Repeat(usize, usize),
    Cut(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at().prop_map(Damage::Remove),
        (at(), 1..64usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        at().prop_map(Damage::Cut),
    ]
}

fn damaged(mut bytes: Vec<u8>, all: &[Damage]) -> Vec<u8> {
    for one in all {
        let length = bytes.len().max(1);
        match *one {
            _ if bytes.is_empty() => break,
            Damage::Set(at, byte) => bytes[at % length] = byte,
            Damage::Insert(at, byte) => bytes.insert(at % length, byte),
            Damage::Remove(at) => drop(bytes.remove(at % length)),
            Damage::Repeat(at, count) => {
                let from = at % length;
                let again = bytes[from..(from + count).min(length)].to_vec();
                bytes.splice(from..from, again);
            }
            Damage::Cut(at) => bytes.truncate(at % length),
        }
    }
    bytes
}

/// Objects that between them have a field of every encoding.
fn seeds() -> Vec<(&'static str, Value)> {
    vec![
        (
            "core/v1.Pod",
            json!({
                "metadata": {"name": "p", "labels": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:00Z",
                    "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}]},
                "spec": {
                    "containers": [{"name": "c", "args": ["x"], "resources": {"limits": {"cpu": "1500m"}},
                        "livenessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 3}}],
                    "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
                    "securityContext": {"runAsUser": 7, "supplementalGroups": [1, -2]},
                },
            }),
        ),
        (
            "apiextensions/v1.CustomResourceDefinition",
            json!({"metadata": {"name": "d"}, "spec": {"group": "g", "versions": [{"name": "v1", "schema": {
                "openAPIV3Schema": {"type": "object", "default": {"a": [1, null]}, "properties": {
                    "l": {"items": {"type": "string"}}, "m": {"additionalProperties": {"maximum": 1.5}}}},
            }}]}}),
        ),
        (
            "events/v1.Event",
            json!({"metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000001Z", "series": {"count": 2}}),
        ),
        ("core/v1.Secret", json!({"data": {"k": "AAECAw=="}, "immutable": true})),
    ]
}

#[test]
fn what_is_written_is_read() {
    let schema = resources::schema();
    for (name, seed) in seeds() {
        let id = schema.find(name).expect("a struct");
        let bytes = protobuf::encode(&schema, id, seed.as_object().expect("an object")).expect("encodes");
        let read = protobuf::decode(&schema, id, &bytes).expect("decodes");
        assert_eq!(Value::from(read), seed, "{name}");
    }
}

proptest! {
    // More with PROPTEST_CASES.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

    #[test]
    fn damaged_protobuf(which in 0..4usize, damage in prop::collection::vec(damage(), 1..8)) {
        let schema = resources::schema();
        let (name, seed) = seeds().swap_remove(which);
        let id = schema.find(name).expect("a struct");
        let bytes = protobuf::encode(&schema, id, seed.as_object().expect("an object")).expect("encodes");
        let bytes = damaged(bytes, &damage);
        if let Ok(mut read) = protobuf::decode(&schema, id, &bytes) {
            let fits = conform(&schema, id, &mut read).is_ok();
            let written = protobuf::encode(&schema, id, &read);
            if let (true, Ok(written)) = (fits, written) {
                prop_assert!(protobuf::decode(&schema, id, &written).is_ok());
            }
        }
        let _ = protobuf::open(&bytes);
    }

    #[test]
    fn damaged_text(which in 0..4usize, damage in prop::collection::vec(damage(), 1..8)) {
        let schema = resources::schema();
        let (name, seed) = seeds().swap_remove(which);
        let id = schema.find(name).expect("a struct");
        let read = |value: Value| {
            if let Ok(mut object) = Object::from_value(value) {
                let _ = conform(&schema, id, object.as_map_mut());
            }
        };
        let json = damaged(seed.to_string().into_bytes(), &damage);
        if let Ok((value, _)) = api::json::parse(&json) {
            read(value);
        }
        let text = yaml::format(&seed).expect("YAML");
        let text = String::from_utf8_lossy(&damaged(text.into_bytes(), &damage)).into_owned();
        let _ = yaml::repeated(&text);
        if let Ok(value) = yaml::parse(&text) {
            read(value);
        }
    }

    #[test]
    fn invented_patches(patch in prop::collection::vec(any::<u8>(), 0..64), damage in prop::collection::vec(damage(), 1..8)) {
        let mut target = seeds().swap_remove(0).1;
        let _ = api::patch::json_patch(&mut target, &patch);
        let good = r#"[{"op":"replace","path":"/spec/containers/0/name","value":"x"},{"op":"move","from":"/spec","path":"/a~1b"}]"#;
        let _ = api::patch::json_patch(&mut target, &damaged(good.as_bytes().to_vec(), &damage));
        let strategic = r#"{"spec":{"$retainKeys":["containers"],"containers":[{"name":"c","$patch":"delete"},{"name":"d","image":"i"}],"$setElementOrder/containers":[{"name":"d"}]},"metadata":{"$deleteFromPrimitiveList/finalizers":["a"]}}"#;
        let patch = serde_json::from_slice(&damaged(strategic.as_bytes().to_vec(), &damage));
        if let (Ok(Value::Object(patch)), Value::Object(mut target)) = (patch, seeds().swap_remove(0).1) {
            let schema = resources::schema();
            let id = schema.find("core/v1.Pod").expect("pods");
            let _ = api::patch::strategic_merge(&schema, id, &mut target, patch);
        }
    }

    #[test]
    fn invented_texts(text in "\\PC{0,40}", damage in prop::collection::vec(damage(), 1..6)) {
        let or_damaged = |good: &str| {
            [text.clone(), String::from_utf8_lossy(&damaged(good.as_bytes().to_vec(), &damage)).into_owned()]
        };
        for one in or_damaged("app in (a, b),!c,d!=e,x>1") {
            let _ = LabelSelector::parse(&one);
            let _ = FieldSelector::parse(&one);
        }
        for one in or_damaged("1500.25e3Mi") {
            let _ = api::Quantity::canonical(&one);
        }
        for one in or_damaged("2026-01-01T00:00:00.000001+02:00") {
            let _ = api::time::parse(&one);
        }
        for one in or_damaged("{.items[?(@.a==\"b\")]['c','d'][1:-1:2]..name}") {
            if let Ok(path) = api::jsonpath::Template::parse(&one) {
                let _ = path.limited_to(1_000).print(&seeds().swap_remove(0).1);
            }
        }
        for one in or_damaged("self.a.all(x, x.size() < 3) ? [1, 2u, 3.0] : {'k': b'v'}") {
            let _ = Program::compile(&one, &|name| (name == "self").then_some(Type::Dyn));
        }
    }
}
