//! Makes the resource claims that pods describe by templates, reserves claims for
//! pods that were scheduled without the scheduler, and frees what nobody uses any
//! more (upstream: `pkg/controller/resourceclaim`). Two loops: `of_pods.rs` decides
//! for pods, `of_claims.rs` for claims.

mod of_claims;
mod of_pods;
#[cfg(test)]
mod tests;

pub(crate) use of_pods::{claim_name, entries};

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::Pod;
use api::types::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use client::{Cache, Change};
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::{CONTROLLER, NAMESPACE};
use crate::controllers::Context;
use crate::{owners, pods};

/// The caches of the loop of pods.
pub struct Pods {
    pods: Arc<Cache<Pod>>,
    claims: Arc<Cache<ResourceClaim>>,
    templates: Arc<Cache<ResourceClaimTemplate>>,
}

/// What a pod's plan is made of.
pub struct ObservedPod {
    pod: Arc<Pod>,
    /// The claims that it controls, and those that it names.
    claims: Vec<Arc<ResourceClaim>>,
    /// The templates that it names.
    templates: Vec<Arc<ResourceClaimTemplate>>,
}

/// The loop of pods, wired.
pub fn start(context: &Context) -> Loop {
    let (pods, claims) = (context.caches.pods(), context.caches.resource_claims());
    let templates = context.caches.resource_claim_templates();
    let known = Arc::clone(&pods);
    let reconciler =
        Pods { pods: Arc::clone(&pods), claims: Arc::clone(&claims), templates: Arc::clone(&templates) };
    Loop::new(reconciler, context.flags.concurrent_resource_claim_syncs)
        .mapped(&pods, |change| {
            let has_some = change.new.is_some_and(|pod| of_pods::entries(pod).next().is_some());
            has_some.then(|| change.key.clone()).into_iter().collect()
        })
        .owned(&claims, "Pod")
        .mapped(&templates, move |change| describing(&known, change))
}

/// The pods that wait for a template.
fn describing(pods: &Cache<Pod>, change: &Change<'_, ResourceClaimTemplate>) -> Vec<ObjectKey> {
    if change.new.is_none() {
        return Vec::new();
    }
    let names = |pod: &Pod| {
        let mut entries = of_pods::entries(pod);
        entries.any(|one| one.resource_claim_template_name.as_ref() == Some(&change.key.name))
    };
    let all = pods.indexed(NAMESPACE, &change.key.namespace);
    all.iter().filter(|pod| names(pod)).map(|pod| ObjectKey::of(&**pod)).collect()
}

impl Reconciler for Pods {
    const NAME: &'static str = "resourceclaim-of-pods";
    type Observed = ObservedPod;

    fn observe(&self, key: &ObjectKey) -> Option<ObservedPod> {
        let pod = self.pods.get_key(key).filter(|pod| pods::is_active(pod))?;
        let mut claims = self.claims.indexed(CONTROLLER, owners::uid(&*pod));
        for name in of_pods::entries(&pod).filter_map(|entry| of_pods::claim_name(&pod, entry)) {
            let is_known = claims.iter().any(|claim| owners::name(&**claim) == name);
            claims.extend(self.claims.get(&key.namespace, &name).filter(|_| !is_known));
        }
        let named = of_pods::entries(&pod).filter_map(|entry| entry.resource_claim_template_name.as_ref());
        let templates = named.filter_map(|name| self.templates.get(&key.namespace, name)).collect();
        Some(ObservedPod { pod, claims, templates })
    }

    fn plan(&self, observed: &ObservedPod, _: &Moment) -> Plan {
        of_pods::plan(observed)
    }
}

/// The caches of the loop of claims.
pub struct Claims {
    claims: Arc<Cache<ResourceClaim>>,
    pods: Arc<Cache<Pod>>,
}

/// What a claim's plan is made of.
pub struct ObservedClaim {
    claim: Arc<ResourceClaim>,
    /// The pods, of those that it is reserved for or was made for, that are there.
    pods: Vec<Arc<Pod>>,
}

/// The loop of claims, wired.
pub fn start_claims(context: &Context) -> Loop {
    let (pods, claims) = (context.caches.pods(), context.caches.resource_claims());
    let reconciler = Claims { claims: Arc::clone(&claims), pods: Arc::clone(&pods) };
    Loop::new(reconciler, context.flags.concurrent_resource_claim_syncs).own(&claims).mapped(
        &pods,
        |change| {
            let ends = change.new.is_none_or(|pod| of_claims::is_done(pod));
            let pod = change.new.or(change.old).filter(|_| ends);
            let names = pod.into_iter().flat_map(|pod| {
                of_pods::entries(pod).filter_map(|entry| of_pods::claim_name(pod, entry)).collect::<Vec<_>>()
            });
            names.map(|name| ObjectKey::new(change.key.namespace.clone(), name)).collect()
        },
    )
}

impl Reconciler for Claims {
    const NAME: &'static str = "resourceclaim";
    type Observed = ObservedClaim;

    fn observe(&self, key: &ObjectKey) -> Option<ObservedClaim> {
        let claim = self.claims.get_key(key)?;
        let pods =
            of_claims::pods_of(&claim).filter_map(|name| self.pods.get(&key.namespace, name)).collect();
        Some(ObservedClaim { claim, pods })
    }

    fn plan(&self, observed: &ObservedClaim, _: &Moment) -> Plan {
        of_claims::plan(observed)
    }
}
