//! Volumes, claims and classes of attributes stay while they are in use: they
//! get a finalizer, which a controller removes when nobody uses them any more
//! (upstream's `StorageObjectInUseProtection`).

use api::{Object, Status};
use futures::future::BoxFuture;

use super::{Operation, Plugin, Request};

pub(super) struct StorageObjectInUseProtection;

impl Plugin for StorageObjectInUseProtection {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let finalizer = finalizer(&request.kind.group, &request.kind.resource);
            if request.operation == Operation::Create
                && request.subresource.is_empty()
                && let (Some(finalizer), Some(object)) = (finalizer, &mut request.object)
            {
                protect(object, finalizer);
            }
            Ok(())
        })
    }
}

fn finalizer(group: &str, resource: &str) -> Option<&'static str> {
    Some(match (group, resource) {
        ("", "persistentvolumes") => "kubernetes.io/pv-protection",
        ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
        ("storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
        _ => return None,
    })
}

fn protect(object: &mut Object, finalizer: &str) {
    let mut all: Vec<String> = object.finalizers().map(str::to_owned).collect();
    if !all.iter().any(|one| one == finalizer) {
        all.push(finalizer.to_owned());
        object.set_at(&["metadata", "finalizers"], all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_protected_and_once() {
        let table = [
            ("", "persistentvolumes", Some("kubernetes.io/pv-protection")),
            ("", "persistentvolumeclaims", Some("kubernetes.io/pvc-protection")),
            ("storage.k8s.io", "volumeattributesclasses", Some("kubernetes.io/vac-protection")),
            ("storage.k8s.io", "storageclasses", None),
            ("example.com", "persistentvolumes", None),
        ];
        for (group, resource, expected) in table {
            assert_eq!(finalizer(group, resource), expected, "{group}/{resource}");
        }
        let mut object = Object::default();
        object.set_at(&["metadata", "finalizers"], vec!["other"]);
        protect(&mut object, "mine");
        protect(&mut object, "mine");
        assert_eq!(object.finalizers().collect::<Vec<_>>(), ["other", "mine"]);
    }
}
