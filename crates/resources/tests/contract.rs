//! What holds for every kind of the catalogue.

use api::Object;
use api::schema::conform;
use resources::{Catalogue, Part};
use serde_json::json;

fn now() -> jiff::Timestamp {
    "2026-01-02T00:00:00Z".parse().expect("a time")
}

/// An object with nothing but what every object has.
fn bare(kind: &resources::Descriptor) -> Object {
    let mut metadata = json!({"name": "a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"});
    if kind.namespaced {
        metadata["namespace"] = "n".into();
    }
    let object = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata});
    Object::from_value(object).expect("an object")
}

fn conformed(kind: &resources::Descriptor, mut object: Object) -> Object {
    let found = conform(&kind.shape.0, kind.shape.1, object.as_map_mut());
    let found = found.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    assert_eq!(found.unknown, Vec::<String>::new(), "{kind:?}");
    object
}

#[test]
fn a_bare_object_of_every_kind_passes_through_everything() {
    let catalogue = Catalogue::built_in();
    for kind in catalogue.iter() {
        let mut object = conformed(kind, bare(kind));
        kind.strategy.default(&mut object);
        let once = object.clone();
        kind.strategy.default(&mut object);
        assert_eq!(object, once, "{kind:?} defaults twice to something else");
        kind.strategy.prepare_create(&mut object);
        let object = conformed(kind, object);
        kind.strategy.validate(&object);
        kind.strategy.warnings(&object, None);
        if kind.is_stored() {
            let cells = kind.strategy.cells(&object, now());
            assert_eq!(cells.len(), kind.columns.len(), "{kind:?}");
        }
        for part in [Part::Main, Part::Status, Part::Other("resize"), Part::Other("finalize")] {
            let mut new = object.clone();
            kind.strategy.prepare_update(part, &mut new, &object);
            let errors = kind.strategy.validate_update(part, &new, &object);
            if part == Part::Main {
                assert_eq!(new, object, "{kind:?} changes by itself");
                assert!(errors.is_empty(), "{kind:?}: {errors:?}");
            }
        }
    }
}

#[test]
fn selectable_fields_are_named_as_they_are_read() {
    let catalogue = Catalogue::built_in();
    for kind in catalogue.iter() {
        let object = conformed(kind, bare(kind));
        let found: Vec<&str> = kind.strategy.selectable(&object).iter().map(|(name, _)| *name).collect();
        for name in kind.strategy.selectable_names() {
            let stored = kind.strategy.stored_field(name);
            assert!(found.contains(&stored.as_ref()), "{kind:?}: {name} is stored as {stored}");
        }
    }
}

#[test]
fn stored_forms_convert_there_and_back() {
    let catalogue = Catalogue::built_in();
    for kind in catalogue.iter().filter(|kind| kind.is_stored()) {
        let (group, resource) = &kind.storage;
        let stored = catalogue.iter().find(|one| {
            one.api_version() == kind.stored_version && one.resource == *resource && one.group == *group
        });
        let stored = stored.unwrap_or_else(|| panic!("{kind:?} has no stored form"));
        assert_eq!(kind.strategy.converts(), stored.api_version() != kind.api_version(), "{kind:?}");
        let object = conformed(kind, bare(kind));
        let mut there = object.clone();
        kind.strategy.to_stored(&mut there);
        assert_eq!(there.api_version(), kind.stored_version, "{kind:?}");
        let mut back = conformed(stored, there);
        kind.strategy.from_stored(&mut back);
        assert_eq!(conformed(kind, back), object, "{kind:?}");
    }
}

#[test]
fn every_stored_kind_has_the_verbs_of_storage() {
    for kind in Catalogue::built_in().iter().filter(|kind| kind.is_stored()) {
        for verb in ["create", "delete", "get", "list", "patch", "update", "watch"] {
            assert!(kind.allows(verb), "{kind:?} {verb}");
        }
    }
}
