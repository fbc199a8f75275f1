//! Which attachments a node has, and what it is told of them.

use std::time::Duration;

use api::metav1::ObjectMeta;
use api::types::core::v1::{AttachedVolume, Node, PersistentVolume};
use api::types::storage::v1::{VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec};
use client::events::reference;
use jiff::Timestamp;
use reconcile::{Action, Plan};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Observed, Use};
use crate::{nodes, owners, pods};

/// Says of a node that its volumes are attached by us, not by itself.
const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// How long a node that is not healthy is waited for before its volumes are detached.
const PATIENCE: Duration = Duration::from_secs(360);
/// A node with this taint is known to be off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The driver of a volume, and the driver's name for it.
fn handle(volume: &PersistentVolume) -> Option<(&str, &str)> {
    let source = volume.spec.as_ref()?.csi.as_ref()?;
    Some((&source.driver, &source.volume_handle))
}

/// The name by which nodes know a volume.
fn unique_name(volume: &PersistentVolume) -> Option<String> {
    handle(volume).map(|(driver, handle)| format!("kubernetes.io/csi/{driver}^{handle}"))
}

/// The name of a volume's attachment to a node, by which drivers and kubelets find it.
fn attachment_name(driver: &str, handle: &str, node: &str) -> String {
    let digest = Sha256::digest(format!("{handle}{driver}{node}").as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("csi-{hex}")
}

fn is_attached(attachment: &VolumeAttachment) -> bool {
    attachment.status.as_ref().is_some_and(|status| status.attached)
}

/// Whether several nodes may have a volume at a time.
fn is_for_many(volume: &PersistentVolume) -> bool {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    modes.is_empty() || modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany")
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut sync = Sync { observed, now, leaving: Vec::new(), plan: Plan::default() };
    let managed = observed.node.as_ref().and_then(|node| node.metadata.annotations.as_ref()?.get(MANAGED));
    let is_managed = managed.is_some_and(|managed| managed == "true");
    let mut detached = Vec::new();
    for (attachment, volume) in &observed.attachments {
        let name = attachment.spec.source.persistent_volume_name.as_deref().unwrap_or_default();
        let is_used = observed.uses.contains_key(name);
        if attachment.metadata.deletion_timestamp.is_some() {
            sync.leaving.extend(volume.as_deref().and_then(unique_name));
        } else if !is_used && !name.is_empty() && sync.may_detach(volume.as_deref()) {
            sync.leaving.extend(volume.as_deref().and_then(unique_name));
            detached.push(Action::delete(&**attachment));
        }
    }
    if let Some(node) = observed.node.as_deref().filter(|_| is_managed) {
        // The node must not count on what is about to be detached.
        sync.tell(node);
        observed.uses.values().for_each(|one| sync.attach(one));
    }
    sync.plan.actions.extend(detached);
    sync.plan
}

struct Sync<'a> {
    observed: &'a Observed,
    now: Timestamp,
    /// Volumes that are being detached, by the names that nodes know.
    leaving: Vec<String>,
    plan: Plan,
}

impl Sync<'_> {
    /// Whether the node has let a volume go, or cannot say so any more.
    fn may_detach(&mut self, volume: Option<&PersistentVolume>) -> bool {
        let (Some(node), Some(volume)) = (&self.observed.node, volume) else { return true };
        let in_use = node.status.iter().flat_map(|status| status.volumes_in_use.iter().flatten());
        let name = unique_name(volume);
        if !in_use.into_iter().any(|one| Some(one) == name.as_ref()) {
            return true;
        }
        if nodes::taints(node).any(|taint| taint.key == OUT_OF_SERVICE) {
            return true;
        }
        let ready = nodes::condition(node, "Ready");
        let Some(ready) = ready.filter(|ready| ready.status != "True") else { return false };
        let since = ready.last_transition_time.as_ref().map_or(self.now, |time| time.0);
        let left = PATIENCE.as_secs_f64() - self.now.duration_since(since).as_secs_f64();
        if left > 0.0 {
            self.plan.wake(Duration::from_secs_f64(left));
        }
        left <= 0.0
    }

    /// Tells the node which volumes it may use.
    fn tell(&mut self, node: &Node) {
        let attached = self.observed.attachments.iter().filter(|(attachment, _)| is_attached(attachment));
        let names = attached.filter_map(|(_, volume)| unique_name(volume.as_deref()?));
        let mut names: Vec<String> = names.filter(|name| !self.leaving.contains(name)).collect();
        names.sort();
        let told = node.status.iter().flat_map(|status| status.volumes_attached.iter().flatten());
        let mut told: Vec<&str> = told.map(|one| one.name.as_str()).collect();
        told.sort_unstable();
        if told.iter().copied().eq(names.iter().map(String::as_str)) {
            return;
        }
        let entry = |name: String| AttachedVolume { name, device_path: String::new() };
        let all: Vec<AttachedVolume> = names.into_iter().map(entry).collect();
        self.plan.actions.push(Action::patch_status(node, json!({"status": {"volumesAttached": all}})));
    }

    fn attach(&mut self, wanted: &Use) {
        let Some((driver, handle)) = handle(&wanted.volume) else { return };
        let name = owners::name(&*wanted.volume);
        let present = self.observed.attachments.iter().map(|(attachment, _)| attachment);
        let present =
            present.clone().find(|one| one.spec.source.persistent_volume_name.as_deref() == Some(name));
        if let Some(present) = present {
            let error = present.status.as_ref().and_then(|status| status.attach_error.as_ref());
            if let Some(message) = error.and_then(|error| error.message.clone()) {
                let text = format!("AttachVolume.Attach failed for volume {name:?} : {message}");
                self.warn(wanted, &text);
            }
            return;
        }
        if !is_for_many(&wanted.volume) && !wanted.elsewhere.is_empty() {
            let text = format!(
                "Multi-Attach error for volume {name:?} Volume is already exclusively attached to one node and can't be attached to another"
            );
            return self.warn(wanted, &text);
        }
        self.plan.actions.push(Action::create(&VolumeAttachment {
            metadata: ObjectMeta {
                name: Some(attachment_name(driver, handle, &self.observed.name)),
                ..ObjectMeta::default()
            },
            spec: VolumeAttachmentSpec {
                attacher: driver.to_owned(),
                node_name: self.observed.name.clone(),
                source: VolumeAttachmentSource {
                    persistent_volume_name: Some(name.to_owned()),
                    ..VolumeAttachmentSource::default()
                },
            },
            status: None,
        }));
    }

    fn warn(&mut self, wanted: &Use, text: &str) {
        let waiting = wanted.pods.iter().filter(|pod| !pods::is_being_deleted(pod));
        let news = waiting.map(|pod| Action::warning(reference(&**pod), "FailedAttachVolume", text));
        self.plan.actions.extend(news);
    }
}
