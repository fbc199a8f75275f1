//! Deletes what its owners left behind, and carries foreground deletions and
//! orphanings through (upstream: `pkg/controller/garbagecollector`).
//!
//! A key is the uid of an object. That an owner is absent is asked of the
//! server itself before anything is deleted: no cache can vouch for absence.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::ObjectKey;
use api::metav1::OwnerReference;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;
use crate::inventory::{Entry, Inventory, Kind};

/// The loop's view.
pub struct GarbageCollector {
    inventory: Arc<Inventory>,
}

/// An owner as the inventory knows it.
pub struct Owner {
    reference: OwnerReference,
    kind: Option<Arc<Kind>>,
    entry: Option<Arc<Entry>>,
}

/// What a plan is made of.
pub struct Observed {
    item: Arc<Entry>,
    owners: Vec<Owner>,
    dependents: Vec<Arc<Entry>>,
    /// Whether the inventory has every kind.
    complete: bool,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let inventory = context.inventory();
    let control =
        Loop::new(GarbageCollector { inventory: Arc::clone(&inventory) }, context.flags.concurrent_gc_syncs);
    let waker = control.waker();
    let weak = Arc::downgrade(&inventory);
    let wake = move |uid: &str| waker.wake(ObjectKey::new("", uid));
    inventory.subscribe(move |old, new| {
        let either = [old, new].into_iter().flatten();
        for entry in either.clone() {
            // Most objects have no owner and are not being deleted: nothing to look at.
            if !entry.owners.is_empty() || entry.deleting {
                wake(&entry.uid);
            }
            for owner in entry.owners.iter().filter(|_| new.is_none() || entry.deleting) {
                wake(&owner.uid);
            }
        }
        let ends = new.is_none_or(|entry| entry.awaits_dependents());
        if let (true, Some(inventory), Some(entry)) = (ends, weak.upgrade(), either.last()) {
            inventory.dependents(&entry.uid).iter().for_each(|dependent| wake(&dependent.uid));
        }
    });
    control
}

impl Reconciler for GarbageCollector {
    const NAME: &'static str = "garbage-collector";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let item = self.inventory.get(&key.name)?;
        let owner = |reference: &OwnerReference| Owner {
            kind: self.inventory.kind_of(reference),
            entry: self.inventory.get(&reference.uid),
            reference: reference.clone(),
        };
        let owners = item.owners.iter().map(owner).collect();
        let dependents = self.inventory.dependents(&key.name);
        Some(Observed { item, owners, dependents, complete: self.inventory.is_complete() })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan::plan(observed)
    }
}
