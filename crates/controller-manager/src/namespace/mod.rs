//! Empties namespaces that are being deleted, and then lets them go (upstream:
//! `pkg/controller/namespace`).

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::Namespace;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;
use crate::inventory::{Entry, Inventory, Kind};
use crate::namespaces::is_active;

/// The loop's caches.
pub struct Namespaces {
    namespaces: Arc<Cache<Namespace>>,
    inventory: Arc<Inventory>,
}

/// What a plan is made of.
pub struct Observed {
    namespace: Arc<Namespace>,
    /// What is known to be in it.
    content: Vec<Arc<Entry>>,
    /// What could be in it.
    kinds: Vec<Arc<Kind>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (namespaces, inventory) = (context.caches.namespaces(), context.inventory());
    let reconciler = Namespaces { namespaces: Arc::clone(&namespaces), inventory: Arc::clone(&inventory) };
    let control = Loop::new(reconciler, context.flags.concurrent_namespace_syncs).own(&namespaces);
    let waker = control.waker();
    inventory.subscribe(move |old, new| {
        let Some(gone) = old.filter(|entry| new.is_none() && !entry.namespace.is_empty()) else { return };
        if namespaces.get("", &gone.namespace).is_some_and(|namespace| !is_active(&namespace)) {
            waker.wake(ObjectKey::new("", gone.namespace.clone()));
        }
    });
    control
}

impl Reconciler for Namespaces {
    const NAME: &'static str = "namespace";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let namespace = self.namespaces.get_key(key)?;
        namespace.metadata.deletion_timestamp.as_ref()?;
        let content = self.inventory.in_namespace(&key.name);
        Some(Observed { namespace, content, kinds: self.inventory.kinds() })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment)
    }
}
