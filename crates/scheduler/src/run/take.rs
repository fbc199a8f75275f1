//! How the loop takes news: the picture of the cluster changes, and pods that may
//! be helped are tried again.

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Node, PersistentVolumeClaim, Pod};
use api::types::storage::v1::{CSINode, CSIStorageCapacity, StorageClass};

use super::Loop;
use crate::events::{Event, node_matters, pod_matters};
use crate::news::News;
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Volumes};

impl Loop {
    pub(super) fn take(&mut self, news: News) {
        let surroundings = self.cluster.surroundings();
        match news {
            News::Node(key, node) => self.take_node(&key.name, node.as_ref()),
            News::Pod(old, new) => self.take_pod(old.as_deref(), new.as_ref()),
            News::Namespace(key, namespace) => {
                let labels = namespace.map(|namespace| namespace.metadata.labels.clone());
                surroundings.set_namespace(&key.name, labels);
            }
            News::Service(key, service) => surroundings.workloads.set_service(&key, service.as_deref()),
            News::Controller(key, one) => surroundings.workloads.set_controller(&key, one.as_deref()),
            News::ReplicaSet(key, set) => surroundings.workloads.set_replica_set(&key, set.as_deref()),
            News::StatefulSet(key, set) => surroundings.workloads.set_stateful_set(&key, set.as_deref()),
            News::Budget(key, budget) => surroundings.budgets.set(&key, budget.as_deref()),
            News::RoomMade { uid, was_made } => {
                self.queue.release(&uid, was_made, self.parts.clock.monotonic())
            }
            News::Bound(bound) => self.take_bound(bound),
            storage => self.take_storage(storage),
        }
    }

    fn take_storage(&mut self, news: News) {
        match news {
            News::Claim(key, claim) => self.take_claim(&key, claim),
            News::Volume(key, volume) => {
                let is_there = volume.is_some();
                self.volumes().set_volume(&key.name, volume);
                self.storage_changed(is_there);
            }
            News::Class(key, class) => {
                let matters = class.as_ref().is_some_and(|new| {
                    let old = self.volumes().class(&key.name).cloned();
                    old.is_none_or(|old| has_other_topologies(&old, new))
                });
                self.volumes().set_class(&key.name, class);
                self.storage_changed(matters);
            }
            News::Driver(key, driver) => {
                let told = self.volumes().tells_capacity(&key.name);
                self.volumes().set_driver(&key.name, driver);
                let tells = self.volumes().tells_capacity(&key.name);
                self.storage_changed(told && !tells);
            }
            News::Capacity(key, capacity) => {
                let matters = capacity.as_ref().is_some_and(|new| has_room(new));
                self.volumes().set_capacity(&key, capacity);
                self.storage_changed(matters);
            }
            News::CsiNode(key, node) => self.take_csi_node(&key.name, node),
            News::Attachment(key, attachment) => {
                self.volumes().set_attachment(&key.name, attachment.as_deref());
                if attachment.is_none() {
                    self.happened(&Event::Attachment);
                }
            }
            _ => {}
        }
    }

    fn volumes(&mut self) -> &mut Volumes {
        Arc::make_mut(&mut self.cluster.surroundings().volumes)
    }

    fn storage_changed(&mut self, matters: bool) {
        if matters {
            self.happened(&Event::Storage);
        }
    }

    fn take_claim(&mut self, key: &ObjectKey, claim: Option<Arc<PersistentVolumeClaim>>) {
        let (is_new, is_there) = (self.volumes().claim(key).is_none(), claim.is_some());
        self.volumes().set_claim(key, claim);
        if is_there {
            self.happened(&Event::Claim { key, is_new });
        }
    }

    fn take_csi_node(&mut self, name: &str, node: Option<Arc<CSINode>>) {
        let old = self.volumes().node(name).cloned();
        self.volumes().set_node(name, node.clone());
        if let Some(new) = &node {
            self.happened(&Event::CsiNode { old: old.as_ref(), new });
        }
    }

    fn take_node(&mut self, name: &str, node: Option<&Arc<Node>>) {
        let old = self.cluster.surroundings().node(name).map(|info| NodeInfo::new(Arc::clone(&info.node)));
        let Some(node) = node else {
            self.cluster.remove_node(name);
            if let Some(old) = &old {
                self.happened(&Event::NodeRemoved(old));
            }
            return;
        };
        self.cluster.set_node(node);
        let new = NodeInfo::new(Arc::clone(node));
        match &old {
            None => self.happened(&Event::NodeAdded(&new)),
            Some(old) if node_matters(old, &new) => self.happened(&Event::NodeChanged { old, new: &new }),
            Some(_) => {}
        }
    }

    fn take_pod(&mut self, old: Option<&Pod>, new: Option<&Arc<PodInfo>>) {
        // A pod that was replaced between two lists: the old one has ended.
        let old_uid = old.and_then(|old| old.metadata.uid.as_deref());
        if let Some(uid) = old_uid.filter(|uid| new.is_none_or(|new| new.uid != *uid)) {
            self.end_pod(uid);
        }
        match new {
            Some(pod) if pod.has_ended() => self.end_pod(&pod.uid),
            Some(pod) if pod.node().is_some() => self.take_placed(pod),
            Some(pod) => self.take_waiting(pod),
            None => {}
        }
    }

    fn take_placed(&mut self, pod: &Arc<PodInfo>) {
        self.queue.remove(&pod.uid);
        self.parts.verdicts.forget(&pod.key);
        let was_assumed = self.cluster.is_assumed(&pod.uid);
        match self.cluster.set_pod(pod).filter(|_| !was_assumed) {
            None => self.happened(&Event::PodAdded(pod)),
            Some(old) if pod_matters(&old, pod) => self.happened(&Event::PodChanged { old: &old, new: pod }),
            Some(_) => {}
        }
    }

    fn take_waiting(&mut self, pod: &Arc<PodInfo>) {
        let Some(profile) = self.parts.profiles.iter().position(|one| one.name == pod.scheduler()) else {
            return;
        };
        if pod.is_leaving {
            self.end_pod(&pod.uid);
            return;
        }
        if self.cluster.is_assumed(&pod.uid) {
            return;
        }
        let now = self.now();
        let old = self.queue.get(&pod.uid).cloned();
        let was_nominated = old.as_ref().and_then(|old| old.nominated());
        // Our own word about a node may not have come back yet.
        if was_nominated.is_some() || pod.nominated().is_some() {
            self.cluster.nominate(pod, pod.nominated());
        }
        if let Some(old) =
            old.as_ref().filter(|_| was_nominated.is_some() && was_nominated != pod.nominated())
        {
            self.gave_up_node(old);
        }
        self.queue.add(pod, profile, &self.parts.profiles, now);
    }

    /// Pods that had to respect the claim of a pod to a node need it no more.
    fn gave_up_node(&mut self, pod: &Arc<PodInfo>) {
        let now = self.now();
        let may = |other: &PodInfo| other.priority <= pod.priority;
        self.queue.happened(&Event::PodRemoved(pod), &self.parts.profiles, now, may);
    }

    fn end_pod(&mut self, uid: &str) {
        let waiting = self.queue.remove(uid);
        if let Some(pod) = &waiting {
            self.parts.verdicts.forget(&pod.key);
        }
        let was_nominated = self.cluster.withdraw(uid).is_some();
        if let Some(pod) = self.cluster.remove_pod(uid) {
            self.happened(&Event::PodRemoved(&pod));
        } else if let Some(pod) = waiting.filter(|_| was_nominated) {
            self.gave_up_node(&pod);
        }
    }
}

fn has_other_topologies(old: &StorageClass, new: &StorageClass) -> bool {
    old.allowed_topologies != new.allowed_topologies
}

fn has_room(capacity: &CSIStorageCapacity) -> bool {
    capacity.maximum_volume_size.is_some() || capacity.capacity.is_some()
}
