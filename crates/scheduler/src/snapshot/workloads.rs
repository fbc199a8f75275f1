//! Who else has pods like this one: services and the owners of pods, from which
//! upstream deduces what pods without constraints of their own are spread by.

use std::collections::{BTreeMap, HashMap};

use api::selector::Requirement;
use api::types::apps::v1::{ReplicaSet, StatefulSet};
use api::types::core::v1::{Pod, ReplicationController, Service};
use api::{LabelSelector, ObjectKey};

type Labels = BTreeMap<String, String>;

/// Selectors of services and owners.
#[derive(Debug, Default)]
pub struct Workloads {
    services: HashMap<String, HashMap<String, Labels>>,
    owners: HashMap<(&'static str, ObjectKey), LabelSelector>,
}

impl Workloads {
    /// Takes a service; `None`: it is gone.
    pub fn set_service(&mut self, key: &ObjectKey, service: Option<&Service>) {
        let selector = service.and_then(|service| service.spec.as_ref()?.selector.clone());
        let services = self.services.entry(key.namespace.clone()).or_default();
        match selector {
            Some(selector) => services.insert(key.name.clone(), selector),
            None => services.remove(&key.name),
        };
        if services.is_empty() {
            self.services.remove(&key.namespace);
        }
    }

    /// Takes a replication controller; `None`: it is gone.
    pub fn set_controller(&mut self, key: &ObjectKey, controller: Option<&ReplicationController>) {
        let selector = controller.map(|one| {
            LabelSelector::from_map(one.spec.iter().flat_map(|spec| spec.selector.iter().flatten()))
        });
        self.set_owner("ReplicationController", key, selector);
    }

    /// Takes a replica set; `None`: it is gone.
    pub fn set_replica_set(&mut self, key: &ObjectKey, set: Option<&ReplicaSet>) {
        let selector = set.and_then(|one| LabelSelector::from_api(Some(&one.spec.as_ref()?.selector)).ok());
        self.set_owner("ReplicaSet", key, selector);
    }

    /// Takes a stateful set; `None`: it is gone.
    pub fn set_stateful_set(&mut self, key: &ObjectKey, set: Option<&StatefulSet>) {
        let selector = set.and_then(|one| LabelSelector::from_api(Some(&one.spec.as_ref()?.selector)).ok());
        self.set_owner("StatefulSet", key, selector);
    }

    fn set_owner(&mut self, kind: &'static str, key: &ObjectKey, selector: Option<LabelSelector>) {
        match selector {
            Some(selector) => self.owners.insert((kind, key.clone()), selector),
            None => self.owners.remove(&(kind, key.clone())),
        };
    }

    /// The selector of the pods that belong together with a pod; `None`: it is
    /// alone.
    #[must_use]
    pub fn selector_of(&self, pod: &Pod) -> Option<LabelSelector> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut labels = Labels::new();
        for selector in self.services.get(namespace).into_iter().flat_map(HashMap::values) {
            if LabelSelector::from_map(selector).matches(&pod.metadata.labels) {
                labels.extend(selector.clone());
            }
        }
        let mut requirements: Vec<Requirement> = LabelSelector::from_map(&labels).requirements().to_vec();
        if let Some(selector) = self.owner_selector(pod, namespace) {
            requirements.extend(selector.requirements().iter().cloned());
        }
        (!requirements.is_empty()).then(|| LabelSelector::from_requirements(requirements))
    }

    fn owner_selector(&self, pod: &Pod, namespace: &str) -> Option<&LabelSelector> {
        let owners = pod.metadata.owner_references.iter().flatten();
        let owner = owners.into_iter().find(|owner| owner.controller == Some(true))?;
        let kind = match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("v1", "ReplicationController") => "ReplicationController",
            ("apps/v1", "ReplicaSet") => "ReplicaSet",
            ("apps/v1", "StatefulSet") => "StatefulSet",
            _ => return None,
        };
        self.owners.get(&(kind, ObjectKey::new(namespace, owner.name.clone())))
    }
}
