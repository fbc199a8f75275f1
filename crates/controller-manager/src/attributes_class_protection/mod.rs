//! A class of volume attributes that is deleted stays while a claim or a volume
//! has it (upstream: `pkg/controller/volume/vacprotection`).

use std::sync::Arc;

use api::types::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::types::storage::v1::VolumeAttributesClass;
use api::{Object, ObjectKey};
use client::Cache;
use client::verbs::target;
use reconcile::action::Search;
use reconcile::{Action, Guard, Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;
use crate::protection;

const FINALIZER: &str = "kubernetes.io/vac-protection";
const WORKERS: usize = 1;

/// The loop's caches.
pub struct AttributesClassProtection {
    classes: Arc<Cache<VolumeAttributesClass>>,
    claims: Arc<Cache<PersistentVolumeClaim>>,
    volumes: Arc<Cache<PersistentVolume>>,
}

/// What a plan is made of.
pub struct Observed {
    class: Arc<VolumeAttributesClass>,
    is_used: bool,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let caches = &context.caches;
    let (classes, claims, volumes) = (caches.attributes_classes(), caches.claims(), caches.volumes());
    let reconciler = AttributesClassProtection {
        classes: Arc::clone(&classes),
        claims: Arc::clone(&claims),
        volumes: Arc::clone(&volumes),
    };
    let keys = |names: Vec<String>| names.into_iter().map(|name| ObjectKey::new("", name)).collect();
    Loop::new(reconciler, WORKERS)
        .own(&classes)
        .mapped(&claims, move |change| keys(change.old.map(|claim| of_claim(claim)).unwrap_or_default()))
        .mapped(&volumes, move |change| keys(change.old.map(|volume| of_volume(volume)).unwrap_or_default()))
}

/// The classes that a claim has, had last, or is to get.
fn of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.clone());
    let target = status
        .and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.clone());
    [wanted, current, target].into_iter().flatten().collect()
}

fn of_volume(volume: &PersistentVolume) -> Vec<String> {
    volume.spec.iter().filter_map(|spec| spec.volume_attributes_class_name.clone()).collect()
}

/// Looks for what has a class.
#[derive(Debug)]
struct User(String);

impl Search for User {
    fn finds(&self, object: &Object) -> bool {
        // What cannot be read may have it.
        let names = if object.kind() == "PersistentVolume" {
            object.to_typed().map(|volume| of_volume(&volume))
        } else {
            object.to_typed().map(|claim| of_claim(&claim))
        };
        names.map_or(true, |names| names.contains(&self.0))
    }
}

impl Reconciler for AttributesClassProtection {
    const NAME: &'static str = "volumeattributesclass-protection";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let class = self.classes.get_key(key)?;
        // Most classes are not being deleted: no need to look who has them.
        let is_used = class.metadata.deletion_timestamp.is_some()
            && (self.claims.list().iter().any(|claim| of_claim(claim).contains(&key.name))
                || self.volumes.list().iter().any(|volume| of_volume(volume).contains(&key.name)));
        Some(Observed { class, is_used })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        let name = observed.class.metadata.name.clone().unwrap_or_default();
        let mut plan = protection::settle(&*observed.class, FINALIZER, observed.is_used, None);
        if observed.class.metadata.deletion_timestamp.is_some() && !plan.actions.is_empty() {
            // What took the class a moment ago may not be in the caches yet.
            let collections = [target::<PersistentVolumeClaim>("", ""), target::<PersistentVolume>("", "")];
            let certain = collections.map(|target| {
                Action::Require(Guard::NoneOf { target, search: Arc::new(User(name.clone())) })
            });
            plan.actions.splice(0..0, certain);
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{context, now, object};

    #[test]
    fn a_class_goes_when_nothing_has_it() {
        let context = context();
        let caches = &context.caches;
        let reconciler = AttributesClassProtection {
            classes: caches.attributes_classes(),
            claims: caches.claims(),
            volumes: caches.volumes(),
        };
        reconciler.classes.insert(object(json!({
            "metadata": {"name": "fast", "uid": "u", "finalizers": [FINALIZER],
                "deletionTimestamp": "2026-11-23T11:30:00Z"},
            "driverName": "d",
        })));
        let key = ObjectKey::new("", "fast");
        let planned = || {
            let observed = reconciler.observe(&key).expect("there");
            reconciler.plan(&observed, &Moment::at(now())).actions.len()
        };
        assert_eq!(planned(), 3, "two questions and the change");
        let claim = json!({"metadata": {"name": "c", "namespace": "ns"},
            "status": {"currentVolumeAttributesClassName": "fast"}});
        reconciler.claims.insert(object(claim.clone()));
        assert_eq!(planned(), 0);
        let mut seen = Object::from_value(claim).expect("an object");
        seen.set("kind", "PersistentVolumeClaim");
        assert!(User("fast".to_owned()).finds(&seen) && !User("slow".to_owned()).finds(&seen));
    }
}
