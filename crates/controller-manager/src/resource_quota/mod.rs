//! Recounts what namespaces use of their quotas (upstream:
//! `pkg/controller/resourcequota`).
//!
//! The API server charges a quota in the transaction that stores the object;
//! this loop gives back what ended, takes over new limits, and looks again from
//! time to time. It lowers an amount only by what was read at or after the
//! revision that last raised it: a cache that is behind would lose the charge of
//! an object that it does not have yet.

mod plan;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::types::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use api::{Metadata, Object, ObjectKey, metav1, quota};
use client::Cache;
use client::cached::Cached;
use parking_lot::Mutex;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::NAMESPACE;
use crate::controllers::Context;
use crate::inventory::Inventory;
use crate::pods;

/// The revisions at which amounts were last raised, by quota and name.
type Raised = Mutex<HashMap<ObjectKey, BTreeMap<String, u64>>>;

/// The loop's caches.
pub struct ResourceQuotas {
    quotas: Arc<Cache<ResourceQuota>>,
    pods: Arc<Cache<Pod>>,
    services: Arc<Cache<Service>>,
    claims: Arc<Cache<PersistentVolumeClaim>>,
    inventory: Arc<Inventory>,
    raised: Arc<Raised>,
}

/// Objects of one kind in the quota's namespace.
pub struct Source {
    /// Plural name; all are of the core group.
    resource: &'static str,
    objects: Vec<Object>,
    /// Up to which revision they are complete.
    revision: u64,
}

/// What a plan is made of.
pub struct Observed {
    quota: Arc<ResourceQuota>,
    /// The kinds whose objects differ in what they use.
    sources: Vec<Source>,
    /// How many objects of the other kinds there are, by the quota's name for
    /// them, and up to which revision that is so.
    counts: BTreeMap<String, (usize, u64)>,
    raised: BTreeMap<String, u64>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let caches = &context.caches;
    let (quotas, inventory) = (caches.resource_quotas(), context.inventory());
    let (pods, services, claims) = (caches.pods(), caches.services(), caches.claims());
    let raised = Arc::<Raised>::default();
    let reconciler = ResourceQuotas {
        quotas: Arc::clone(&quotas),
        pods: Arc::clone(&pods),
        services: Arc::clone(&services),
        claims: Arc::clone(&claims),
        inventory: Arc::clone(&inventory),
        raised: Arc::clone(&raised),
    };
    let of = |quotas: &Arc<Cache<ResourceQuota>>| {
        let quotas = Arc::clone(quotas);
        move |namespace: &str| -> Vec<ObjectKey> {
            quotas.indexed(NAMESPACE, namespace).iter().map(|quota| ObjectKey::of(&**quota)).collect()
        }
    };
    let (of_pod, of_service, of_claim, of_entry) = (of(&quotas), of(&quotas), of(&quotas), of(&quotas));
    let control = Loop::new(reconciler, context.flags.concurrent_resource_quota_syncs)
        .mapped(&quotas, move |change| {
            remember(&raised, change.key, change.old.map(|old| &**old), change.new.map(|new| &**new));
            // Charges too: what they are for may be gone before they are seen here.
            vec![change.key.clone()]
        })
        .mapped(&pods, move |change| {
            let frees = change.old.is_some_and(|old| {
                change
                    .new
                    .is_none_or(|new| old.spec != new.spec || pods::has_ended(old) != pods::has_ended(new))
            });
            if frees { of_pod(&change.key.namespace) } else { Vec::new() }
        })
        .mapped(&services, move |change| {
            let frees = change.old.is_some_and(|old| change.new.is_none_or(|new| old.spec != new.spec));
            if frees { of_service(&change.key.namespace) } else { Vec::new() }
        })
        .mapped(&claims, move |change| {
            let frees = change.old.is_some_and(|old| change.new.is_none_or(|new| old != new));
            if frees { of_claim(&change.key.namespace) } else { Vec::new() }
        });
    let waker = control.waker();
    inventory.subscribe(move |old, new| {
        if let (Some(gone), None) = (old, new) {
            of_entry(&gone.namespace).into_iter().for_each(|key| waker.wake(key));
        }
    });
    control
}

/// Notes which amounts a change of a quota raised.
fn remember(raised: &Raised, key: &ObjectKey, old: Option<&ResourceQuota>, new: Option<&ResourceQuota>) {
    let mut raised = raised.lock();
    let Some(new) = new else {
        raised.remove(key);
        return;
    };
    let revision = revision_of(&new.metadata);
    let before = old.map(plan::used).unwrap_or_default();
    let of_quota = raised.entry(key.clone()).or_default();
    for (name, amount) in plan::used(new) {
        if before.get(&name).is_none_or(|before| *before < amount) {
            of_quota.insert(name, revision);
        }
    }
}

fn revision_of(metadata: &metav1::ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn source<K>(cache: &Cache<K>, resource: &'static str, namespace: &str) -> Source
where
    K: Cached + serde::Serialize + Metadata<Ty = metav1::ObjectMeta>,
{
    // The revision first: what comes in between is more than is claimed.
    let revision = cache.revision();
    let objects = cache.indexed(NAMESPACE, namespace);
    Source {
        resource,
        objects: objects.iter().filter_map(|object| Object::from_typed(&**object).ok()).collect(),
        revision,
    }
}

impl ResourceQuotas {
    fn counts(&self, namespace: &str, names: &[String]) -> BTreeMap<String, (usize, u64)> {
        let mut counts = BTreeMap::new();
        for kind in self.inventory.kinds() {
            let counted = quota::count_name(&kind.group, &kind.resource);
            let is_of_kind = |name: &&String| {
                **name == counted || quota::named_count(&kind.group, &kind.resource) == Some(name.as_str())
            };
            for name in names.iter().filter(is_of_kind) {
                if let Some(revision) = self.inventory.revision(&kind) {
                    let entries = self.inventory.in_namespace(namespace);
                    let count = entries.iter().filter(|entry| entry.kind == kind).count();
                    counts.insert(name.clone(), (count, revision));
                }
            }
        }
        counts
    }
}

impl Reconciler for ResourceQuotas {
    const NAME: &'static str = "resourcequota";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let quota = self.quotas.get_key(key).filter(|quota| quota.metadata.deletion_timestamp.is_none())?;
        let raised = self.raised.lock().get(key).cloned().unwrap_or_default();
        let sources = vec![
            source(&self.pods, "pods", &key.namespace),
            source(&self.services, "services", &key.namespace),
            source(&self.claims, "persistentvolumeclaims", &key.namespace),
        ];
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
        let names: Vec<String> = hard.into_iter().flatten().map(|(name, _)| name.clone()).collect();
        let counts = self.counts(&key.namespace, &names);
        Some(Observed { quota, sources, counts, raised })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment.now)
    }
}
