//! Asks drivers to attach volumes to the nodes whose pods use them, and to detach
//! what nobody uses any more (upstream: `pkg/controller/volume/attachdetach`, for
//! CSI drivers). A node says which volumes it has in use, and is told which are
//! attached; nothing is detached under its hands.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::types::storage::v1::{CSIDriver, VolumeAttachment};
use client::{Cache, Change};
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::{NAMESPACE, TIED_TO};
use crate::claim_protection::claims_of;
use crate::controllers::Context;
use crate::{owners, pods};

/// The loop's caches.
pub struct AttachDetach {
    nodes: Arc<Cache<Node>>,
    pods: Arc<Cache<Pod>>,
    claims: Arc<Cache<PersistentVolumeClaim>>,
    volumes: Arc<Cache<PersistentVolume>>,
    attachments: Arc<Cache<VolumeAttachment>>,
    drivers: Arc<Cache<CSIDriver>>,
}

/// A volume that pods of a node use.
pub struct Use {
    volume: Arc<PersistentVolume>,
    pods: Vec<Arc<Pod>>,
    /// Its attachments to other nodes.
    elsewhere: Vec<Arc<VolumeAttachment>>,
}

/// What a node's plan is made of.
pub struct Observed {
    name: String,
    /// `None`: it is gone.
    node: Option<Arc<Node>>,
    /// The attachable volumes that its pods use, by name.
    uses: BTreeMap<String, Use>,
    /// Its attachments, each with its volume if that is still there.
    attachments: Vec<(Arc<VolumeAttachment>, Option<Arc<PersistentVolume>>)>,
}

/// The loop, wired. Its keys are nodes.
pub fn start(context: &Context) -> Loop {
    let caches = &context.caches;
    let reconciler = Arc::new(AttachDetach {
        nodes: caches.nodes(),
        pods: caches.pods(),
        claims: caches.claims(),
        volumes: caches.volumes(),
        attachments: caches.volume_attachments(),
        drivers: caches.csi_drivers(),
    });
    let (by_claim, by_volume, by_attachment) =
        (Arc::clone(&reconciler), Arc::clone(&reconciler), Arc::clone(&reconciler));
    Loop::new(Shared(reconciler), 10)
        .own(&caches.nodes())
        .reads(&caches.csi_drivers())
        .mapped(&caches.pods(), |change| {
            let both = [change.old, change.new].into_iter().flatten();
            let users = both.filter(|pod| !claims_of(pod).is_empty() && !pods::node_name(pod).is_empty());
            users.map(|pod| ObjectKey::new("", pods::node_name(pod))).collect()
        })
        .mapped(&caches.claims(), move |change| by_claim.users(&change.key.namespace, &change.key.name))
        .mapped(&caches.volumes(), move |change| {
            change.new.map(|volume| by_volume.users_of(volume)).unwrap_or_default()
        })
        .mapped(&caches.volume_attachments(), move |change| by_attachment.concerned(change))
}

/// The loop and its triggers look at the same caches.
struct Shared(Arc<AttachDetach>);

impl AttachDetach {
    /// The nodes of the pods that use a claim.
    fn users(&self, namespace: &str, claim: &str) -> Vec<ObjectKey> {
        let all = self.pods.indexed(NAMESPACE, namespace);
        let users = all.iter().filter(|pod| claims_of(pod).iter().any(|one| one == claim));
        let placed = users.filter(|pod| !pods::node_name(pod).is_empty());
        placed.map(|pod| ObjectKey::new("", pods::node_name(pod))).collect()
    }

    fn users_of(&self, volume: &PersistentVolume) -> Vec<ObjectKey> {
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        reference.map(|one| self.users(&text(&one.namespace), &text(&one.name))).unwrap_or_default()
    }

    /// The node of an attachment; when it ends, all that may wait for the volume.
    fn concerned(&self, change: &Change<'_, VolumeAttachment>) -> Vec<ObjectKey> {
        let Some(attachment) = change.new.or(change.old) else { return Vec::new() };
        let mut all = vec![ObjectKey::new("", attachment.spec.node_name.clone())];
        if change.new.is_none() {
            let name = attachment.spec.source.persistent_volume_name.as_deref().unwrap_or_default();
            all.extend(self.volumes.get("", name).map(|volume| self.users_of(&volume)).unwrap_or_default());
        }
        all
    }

    /// The volume behind a claim, if a driver has to attach it.
    fn attachable(&self, namespace: &str, claim: &str) -> Option<Arc<PersistentVolume>> {
        let claim = self.claims.get(namespace, claim)?;
        let volume = self.volumes.get("", claim.spec.as_ref()?.volume_name.as_deref()?)?;
        let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
        let driver = self.drivers.get("", &volume.spec.as_ref()?.csi.as_ref()?.driver);
        let required = driver.and_then(|driver| driver.spec.attach_required).unwrap_or(true);
        let is_bound = reference.uid.as_deref() == Some(owners::uid(&*claim));
        (required && is_bound).then_some(volume)
    }

    fn uses(&self, node: &str) -> BTreeMap<String, Use> {
        let mut uses: BTreeMap<String, Use> = BTreeMap::new();
        for pod in self.pods.indexed(TIED_TO, node).into_iter().filter(|pod| !pods::has_ended(pod)) {
            for claim in claims_of(&pod) {
                let Some(volume) = self.attachable(owners::namespace(&*pod), &claim) else { continue };
                let name = owners::name(&*volume).to_owned();
                let new = |volume: Arc<PersistentVolume>| Use {
                    elsewhere: self.elsewhere(&volume, node),
                    volume,
                    pods: Vec::new(),
                };
                uses.entry(name).or_insert_with(|| new(volume)).pods.push(Arc::clone(&pod));
            }
        }
        uses
    }

    fn elsewhere(&self, volume: &PersistentVolume, node: &str) -> Vec<Arc<VolumeAttachment>> {
        let name = owners::name(volume);
        let mut all = self.attachments.list();
        all.retain(|one| {
            one.spec.source.persistent_volume_name.as_deref() == Some(name) && one.spec.node_name != node
        });
        all
    }
}

impl Reconciler for Shared {
    const NAME: &'static str = "attach-detach";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let caches = &self.0;
        let mut attachments = caches.attachments.list();
        attachments.retain(|one| one.spec.node_name == key.name);
        let volume = |one: &VolumeAttachment| {
            caches.volumes.get("", one.spec.source.persistent_volume_name.as_deref().unwrap_or_default())
        };
        let attachments = attachments.into_iter().map(|one| (Arc::clone(&one), volume(&one))).collect();
        Some(Observed {
            name: key.name.clone(),
            node: caches.nodes.get_key(key),
            uses: caches.uses(&key.name),
            attachments,
        })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment.now)
    }
}
