//! How many pods a controller is to have: known from caches for the usual kinds,
//! asked through the scale subresource for all others.

use std::sync::Arc;
use std::time::Duration;

use api::metav1::OwnerReference;
use api::types::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use api::types::core::v1::ReplicationController;
use api::{ObjectKey, Reason};
use client::{Cache, Target};
use reconcile::wiring::controller_of;

use crate::answers::{Answer, Answers};
use crate::controllers::Context;
use crate::inventory::Inventory;
use crate::owners;

/// How long an answer holds.
const FRESH: Duration = Duration::from_secs(1);

/// The size of a pod's controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// Of which object, and how many pods it wants.
    Wants {
        /// The object; the deployment behind a replica set.
        uid: String,
        /// Its replicas.
        replicas: i32,
    },
    /// It is yet to be known.
    Unknown,
    /// There is no such object.
    Missing,
    /// It cannot be had; why.
    Unavailable(String),
}

/// Where sizes are looked up.
pub(super) struct Sizes {
    replica_sets: Arc<Cache<ReplicaSet>>,
    deployments: Arc<Cache<Deployment>>,
    replication_controllers: Arc<Cache<ReplicationController>>,
    stateful_sets: Arc<Cache<StatefulSet>>,
    inventory: Arc<Inventory>,
    answers: Arc<Answers>,
}

impl Sizes {
    pub(super) fn of(context: &Context) -> Self {
        Self {
            replica_sets: context.caches.replica_sets(),
            deployments: context.caches.deployments(),
            replication_controllers: context.caches.replication_controllers(),
            stateful_sets: context.caches.stateful_sets(),
            inventory: context.inventory(),
            answers: Answers::of(context.client.clone(), Arc::clone(&context.clock)),
        }
    }

    pub(super) fn answers(&self) -> Arc<Answers> {
        Arc::clone(&self.answers)
    }

    /// The size of a controller of pods in the namespace of `key`, which is woken when the answer
    /// comes later.
    pub(super) fn look_up(&self, owner: &OwnerReference, key: &ObjectKey) -> Size {
        let namespace = &key.namespace;
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let found = match (group, owner.kind.as_str()) {
            ("", "ReplicationController") => {
                let found = self.replication_controllers.get(namespace, &owner.name);
                found.map(|one| {
                    (owners::uid(&*one).to_owned(), one.spec.as_ref().and_then(|spec| spec.replicas))
                })
            }
            ("apps" | "extensions", "ReplicaSet") => self.behind_replica_set(owner, namespace),
            ("apps", "StatefulSet") => {
                let found = self.stateful_sets.get(namespace, &owner.name);
                found.map(|one| {
                    (owners::uid(&*one).to_owned(), one.spec.as_ref().and_then(|spec| spec.replicas))
                })
            }
            _ => return self.ask(owner, group, key),
        };
        match found {
            Some((uid, replicas)) => Size::Wants { uid, replicas: replicas.unwrap_or(1) },
            None => Size::Missing,
        }
    }

    /// A replica set's size, or that of the deployment that controls it.
    fn behind_replica_set(&self, owner: &OwnerReference, namespace: &str) -> Option<(String, Option<i32>)> {
        let set =
            self.replica_sets.get(namespace, &owner.name).filter(|set| owners::uid(&**set) == owner.uid)?;
        let above = controller_of(&set.metadata).filter(|above| above.kind == "Deployment");
        let deployment = above.and_then(|above| {
            let found = self.deployments.get(namespace, &above.name);
            found.filter(|found| owners::uid(&**found) == above.uid)
        });
        Some(match deployment {
            Some(one) => (owners::uid(&*one).to_owned(), one.spec.as_ref().and_then(|spec| spec.replicas)),
            None => (owner.uid.clone(), set.spec.as_ref().and_then(|spec| spec.replicas)),
        })
    }

    fn ask(&self, owner: &OwnerReference, group: &str, key: &ObjectKey) -> Size {
        if !self.inventory.knows_kinds() {
            return Size::Unknown;
        }
        let Some(kind) = self.inventory.kind_of(owner) else {
            return Size::Unavailable(format!("no matches for kind {:?} in group {group:?}", owner.kind));
        };
        let scale = Target { subresource: "scale".to_owned(), ..kind.target(&key.namespace, &owner.name) };
        let Some(answer) = self.answers.get(&scale, FRESH, key) else { return Size::Unknown };
        let exists = self.inventory.get(&owner.uid).is_some();
        read(&answer, owner, exists, &format!("{}.{group}", kind.resource))
    }
}

/// What an answer of the scale subresource says.
fn read(answer: &Answer, owner: &OwnerReference, exists: bool, resource: &str) -> Size {
    match &**answer {
        Ok(scale) if scale["metadata"]["uid"] != *owner.uid => Size::Missing,
        Ok(scale) => {
            let replicas = scale["spec"]["replicas"].as_i64();
            let replicas = i32::try_from(replicas.unwrap_or_default()).unwrap_or(i32::MAX);
            Size::Wants { uid: owner.uid.clone(), replicas }
        }
        Err(status) if status.reason != Reason::NotFound => Size::Unavailable(status.to_string()),
        Err(_) if exists => Size::Unavailable(format!("{resource} does not implement the scale subresource")),
        Err(_) => Size::Missing,
    }
}

#[cfg(test)]
mod tests {
    use api::Status;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_scale_counts_if_it_is_of_the_owner() {
        let owner = OwnerReference { uid: "u".into(), ..OwnerReference::default() };
        let scale = |uid: &str| {
            let scale = json!({"metadata": {"uid": uid}, "spec": {"replicas": 4}});
            Arc::new(Ok(scale))
        };
        let absent: Answer = Arc::new(Err(Status::not_found("", "things", "x")));
        assert_eq!(read(&scale("u"), &owner, true, "things."), Size::Wants { uid: "u".into(), replicas: 4 });
        assert_eq!(read(&scale("v"), &owner, true, "things."), Size::Missing);
        assert_eq!(read(&absent, &owner, false, "things."), Size::Missing);
        let text = "things. does not implement the scale subresource".to_owned();
        assert_eq!(read(&absent, &owner, true, "things."), Size::Unavailable(text));
    }
}
