//! Claims without a storage class and ingresses without an ingress class get the
//! default one (upstream's `DefaultStorageClass` and `DefaultIngressClass`).

use std::cmp::Reverse;
use std::sync::Arc;

use api::{Object, Status};
use futures::future::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::WatchCache;

/// A kind whose objects have a class.
struct Classed {
    of: (&'static str, &'static str),
    classes: (&'static str, &'static str),
    field: &'static str,
    /// Said the class before there was the field.
    annotation: &'static str,
    /// Mark the default class.
    marks: &'static [&'static str],
}

const STORAGE: Classed = Classed {
    of: ("", "persistentvolumeclaims"),
    classes: ("storage.k8s.io", "storageclasses"),
    field: "storageClassName",
    annotation: "volume.beta.kubernetes.io/storage-class",
    marks: &[
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ],
};
const INGRESS: Classed = Classed {
    of: ("networking.k8s.io", "ingresses"),
    classes: ("networking.k8s.io", "ingressclasses"),
    field: "ingressClassName",
    annotation: "kubernetes.io/ingress.class",
    marks: &["ingressclass.kubernetes.io/is-default-class"],
};

pub(super) struct DefaultClass {
    cache: Arc<WatchCache>,
    what: Classed,
}

impl DefaultClass {
    pub(super) const fn of_storage(cache: Arc<WatchCache>) -> Self {
        Self { cache, what: STORAGE }
    }

    pub(super) const fn of_ingress(cache: Arc<WatchCache>) -> Self {
        Self { cache, what: INGRESS }
    }
}

impl Plugin for DefaultClass {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let (group, resource) = self.what.of;
            if request.operation != Operation::Create || !request.is(group, resource, "") {
                return Ok(());
            }
            let Some(object) = request.object.as_mut().filter(|object| self.what.is_open(object)) else {
                return Ok(());
            };
            let (group, resource) = self.what.classes;
            let classes = self.cache.resource(group, resource).all();
            let classes = classes.iter().filter_map(|class| class.object().ok()).collect();
            if let Some(name) = self.what.default_of(classes) {
                object.set_at(&["spec", self.what.field], name);
            }
            Ok(())
        })
    }
}

impl Classed {
    /// Whether an object leaves its class open; an empty name does not.
    fn is_open(&self, object: &Object) -> bool {
        object.at(&["spec", self.field]).is_none() && object.annotation(self.annotation).is_none()
    }

    /// The newest of the classes marked as default; of those of one second the first by name.
    fn default_of(&self, classes: Vec<Object>) -> Option<String> {
        let is_default =
            |class: &Object| self.marks.iter().any(|mark| class.annotation(mark) == Some("true"));
        let order = |class: &Object| {
            (Reverse(class.text(&["metadata", "creationTimestamp"]).to_owned()), class.name().to_owned())
        };
        let first = classes.into_iter().filter(is_default).min_by_key(order);
        first.map(|class| class.name().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn the_newest_default_wins() {
        let class = |name: &str, created: &str, mark: &str| {
            object(
                json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {mark: "true"}}}),
            )
        };
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
        let mark = STORAGE.marks[0];
        let cases = [
            (
                vec![class("a", old, mark), class("c", new, STORAGE.marks[1]), class("b", new, mark)],
                Some("b"),
            ),
            (vec![class("a", old, mark), class("b", new, "other")], Some("a")),
            (vec![class("b", new, "other")], None),
        ];
        for (classes, expected) in cases {
            assert_eq!(STORAGE.default_of(classes).as_deref(), expected);
        }
    }

    #[test]
    fn who_names_a_class_keeps_it() {
        let cases = [
            (json!({"spec": {}}), true),
            (json!({"spec": {"ingressClassName": ""}}), false),
            (json!({"metadata": {"annotations": {INGRESS.annotation: "x"}}, "spec": {}}), false),
        ];
        for (value, expected) in cases {
            assert_eq!(INGRESS.is_open(&object(value.clone())), expected, "{value}");
        }
    }
}
