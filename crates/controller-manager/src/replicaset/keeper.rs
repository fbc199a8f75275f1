//! What keeps a number of pods: replica sets and, their elders, replication
//! controllers. Everything in which the two differ is here.

use api::metav1::ObjectMeta;
use api::types::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use api::types::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use api::{LabelSelector, Metadata, Resource};
use client::cached::Cached;
use serde::Serialize;

/// A kind that keeps pods.
pub trait Keeper: Cached + Resource + Metadata<Ty = ObjectMeta> {
    /// The loop's name.
    const LOOP: &'static str;
    /// Its status.
    type Status: Serialize;

    /// The selector; one that cannot be read selects nothing.
    fn selector(&self) -> LabelSelector;
    /// How many pods are wanted.
    fn wanted(&self) -> usize;
    /// How long a pod has to be ready to be available, in seconds.
    fn min_ready_seconds(&self) -> i32;
    /// What pods are made from.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// Its status, as it was told last.
    fn status(&self) -> Option<&Self::Status>;
    /// The conditions of that.
    fn conditions(&self) -> Vec<ReplicaSetCondition>;
    /// A replica set's status as its own.
    fn status_of(status: ReplicaSetStatus) -> Self::Status;
}

fn count(replicas: Option<i32>) -> usize {
    usize::try_from(replicas.unwrap_or(1)).unwrap_or_default()
}

impl Keeper for ReplicaSet {
    const LOOP: &'static str = "replicaset";
    type Status = ReplicaSetStatus;

    fn selector(&self) -> LabelSelector {
        let selector = self.spec.as_ref().map(|spec| &spec.selector);
        LabelSelector::from_api(selector).unwrap_or_else(|_| LabelSelector::nothing())
    }

    fn wanted(&self) -> usize {
        count(self.spec.as_ref().and_then(|spec| spec.replicas))
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn status(&self) -> Option<&ReplicaSetStatus> {
        self.status.as_ref()
    }

    fn conditions(&self) -> Vec<ReplicaSetCondition> {
        self.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default()
    }

    fn status_of(status: ReplicaSetStatus) -> ReplicaSetStatus {
        status
    }
}

impl Keeper for ReplicationController {
    const LOOP: &'static str = "replicationcontroller";
    type Status = ReplicationControllerStatus;

    fn selector(&self) -> LabelSelector {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        match selector.filter(|labels| !labels.is_empty()) {
            Some(labels) => LabelSelector::from_map(labels),
            None => LabelSelector::nothing(),
        }
    }

    fn wanted(&self) -> usize {
        count(self.spec.as_ref().and_then(|spec| spec.replicas))
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn status(&self) -> Option<&ReplicationControllerStatus> {
        self.status.as_ref()
    }

    fn conditions(&self) -> Vec<ReplicaSetCondition> {
        let own = self.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let as_set = |one: &ReplicationControllerCondition| ReplicaSetCondition {
            type_: one.type_.clone(),
            status: one.status.clone(),
            last_transition_time: one.last_transition_time.clone(),
            reason: one.reason.clone(),
            message: one.message.clone(),
        };
        own.map(as_set).collect()
    }

    fn status_of(status: ReplicaSetStatus) -> ReplicationControllerStatus {
        let own = |one: ReplicaSetCondition| ReplicationControllerCondition {
            type_: one.type_,
            status: one.status,
            last_transition_time: one.last_transition_time,
            reason: one.reason,
            message: one.message,
        };
        ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(own).collect()),
        }
    }
}
