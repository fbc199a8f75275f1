//! Binds claims to persistent volumes, and takes volumes back (upstream:
//! `pkg/controller/volume/persistentvolume`).
//!
//! A binding is two references, volume to claim and claim to volume, written one
//! after the other; whatever was interrupted is completed from what is there.
//! Two loops: `claims.rs` decides for claims, `volumes.rs` for volumes.

mod claims;
mod matching;
#[cfg(test)]
mod tests;
mod volumes;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use api::types::storage::v1::StorageClass;
use client::{Cache, Change};
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::{NAMESPACE, TIED_TO, UNBOUND};
use crate::controllers::Context;
use crate::{claim_protection, owners, pods};

/// The loop's caches.
pub struct Claims {
    claims: Arc<Cache<PersistentVolumeClaim>>,
    volumes: Arc<Cache<PersistentVolume>>,
    classes: Arc<Cache<StorageClass>>,
    pods: Arc<Cache<Pod>>,
}

/// What a claim's plan is made of.
pub struct ObservedClaim {
    claim: Arc<PersistentVolumeClaim>,
    /// The volume that it names; for one that names none, all volumes.
    volumes: Vec<Arc<PersistentVolume>>,
    /// Its storage class.
    class: Option<Arc<StorageClass>>,
    /// The class of claims that name none.
    default_class: Option<Arc<StorageClass>>,
    /// Pods that use it and wait to be scheduled.
    waiting_pods: Vec<String>,
}

/// The loop of claims, wired.
pub fn start(context: &Context) -> Loop {
    let (claims, volumes) = (context.caches.claims(), context.caches.volumes());
    let (classes, pods) = (context.caches.storage_classes(), context.caches.pods());
    let reconciler = Claims {
        claims: Arc::clone(&claims),
        volumes: Arc::clone(&volumes),
        classes: Arc::clone(&classes),
        pods: Arc::clone(&pods),
    };
    let (by_volume, by_class) = (Arc::clone(&claims), Arc::clone(&claims));
    Loop::new(reconciler, 1)
        .own(&claims)
        .reads(&pods)
        .mapped(&volumes, move |change| claimants(&by_volume, change))
        .mapped(&classes, move |_| keys(&by_class.indexed(UNBOUND, "")))
}

fn keys<K: client::cached::Cached>(objects: &[Arc<K>]) -> Vec<ObjectKey> {
    objects.iter().map(|one| ObjectKey::of(&**one)).collect()
}

/// The claims that a volume is for, or could be.
fn claimants(claims: &Cache<PersistentVolumeClaim>, change: &Change<'_, PersistentVolume>) -> Vec<ObjectKey> {
    let mut all = keys(&claims.indexed(TIED_TO, &change.key.name));
    for volume in [change.old, change.new].into_iter().flatten() {
        all.extend(matching::claim_key(volume));
    }
    let is_free = change.new.is_some_and(|volume| matching::claim_key(volume).is_none());
    if is_free {
        all.extend(keys(&claims.indexed(UNBOUND, "")));
    }
    all
}

impl Reconciler for Claims {
    const NAME: &'static str = "persistentvolumeclaim-binder";
    type Observed = ObservedClaim;

    fn observe(&self, key: &ObjectKey) -> Option<ObservedClaim> {
        let claim = self.claims.get_key(key)?;
        let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        let volumes = match named {
            "" => self.volumes.list(),
            name => self.volumes.get("", name).into_iter().collect(),
        };
        let class = self.classes.get("", matching::class_of_claim(&claim));
        let default_class = matching::default_class(&self.classes.list());
        let mut waiting: Vec<String> = self
            .pods
            .indexed(NAMESPACE, &key.namespace)
            .iter()
            .filter(|pod| pods::node_name(pod).is_empty() && pods::is_active(pod))
            .filter(|pod| claim_protection::claims_of(pod).contains(&key.name))
            .map(|pod| pods::name(pod).to_owned())
            .collect();
        waiting.sort();
        Some(ObservedClaim { claim, volumes, class, default_class, waiting_pods: waiting })
    }

    fn plan(&self, observed: &ObservedClaim, _: &Moment) -> Plan {
        claims::plan(observed)
    }
}

/// The loop's caches.
pub struct Volumes {
    volumes: Arc<Cache<PersistentVolume>>,
    claims: Arc<Cache<PersistentVolumeClaim>>,
}

/// What a volume's plan is made of.
pub struct ObservedVolume {
    volume: Arc<PersistentVolume>,
    /// The claim that it is bound to, if it is still that one.
    claim: Option<Arc<PersistentVolumeClaim>>,
}

/// The loop of volumes, wired.
pub fn start_volumes(context: &Context) -> Loop {
    let (claims, volumes) = (context.caches.claims(), context.caches.volumes());
    let by_claim = Arc::clone(&volumes);
    let reconciler = Volumes { volumes: Arc::clone(&volumes), claims: Arc::clone(&claims) };
    Loop::new(reconciler, 1).own(&volumes).mapped(&claims, move |change| {
        let mut all = keys(&by_claim.indexed(TIED_TO, &change.key.to_string()));
        let both = [change.old, change.new].into_iter().flatten();
        let named = both.filter_map(|claim| claim.spec.as_ref()?.volume_name.clone());
        all.extend(named.filter(|name| !name.is_empty()).map(|name| ObjectKey::new("", name)));
        all
    })
}

impl Reconciler for Volumes {
    const NAME: &'static str = "persistentvolume-binder";
    type Observed = ObservedVolume;

    fn observe(&self, key: &ObjectKey) -> Option<ObservedVolume> {
        let volume = self.volumes.get_key(key)?;
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let claim = matching::claim_key(&volume).and_then(|key| self.claims.get_key(&key));
        let claim = claim.filter(|claim| {
            reference.and_then(|reference| reference.uid.as_deref()) == Some(owners::uid(&**claim))
        });
        Some(ObservedVolume { volume, claim })
    }

    fn plan(&self, observed: &ObservedVolume, _: &Moment) -> Plan {
        volumes::plan(observed)
    }
}
