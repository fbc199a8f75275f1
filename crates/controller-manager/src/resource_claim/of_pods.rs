//! What a pod's resource claims need: made from templates, named in its status,
//! reserved for it.

use api::metav1::ObjectMeta;
use api::types::core::v1::{Pod, PodResourceClaim, PodResourceClaimStatus};
use api::types::resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate};
use client::events::reference;
use reconcile::{Action, Announcement, Plan};
use serde_json::json;

use super::ObservedPod;
use crate::{owners, pods};

/// The annotation of a claim made from a template: the entry of the pod that it is for.
const ENTRY: &str = "resource.kubernetes.io/pod-claim-name";
/// Consumers that a claim may have.
const MOST_CONSUMERS: usize = 256;
/// The longest start of generated names.
const LONGEST_PREFIX: usize = 57;

/// The claims that a pod asks for.
pub(crate) fn entries(pod: &Pod) -> impl Iterator<Item = &PodResourceClaim> {
    pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten())
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &PodResourceClaimStatus> {
    pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten())
}

/// The name of an entry's claim, as far as it is known.
pub(crate) fn claim_name(pod: &Pod, entry: &PodResourceClaim) -> Option<String> {
    let told = || statuses(pod).find(|one| one.name == entry.name)?.resource_claim_name.clone();
    entry.resource_claim_name.clone().or_else(told)
}

/// Whether it was found that an entry needs no claim.
fn needs_none(pod: &Pod, entry: &PodResourceClaim) -> bool {
    statuses(pod).any(|one| one.name == entry.name && one.resource_claim_name.is_none())
}

pub(super) fn plan(observed: &ObservedPod) -> Plan {
    let pod = &*observed.pod;
    let mut plan = Plan::default();
    let mut news: Vec<PodResourceClaimStatus> = Vec::new();
    for entry in entries(pod).filter(|entry| !needs_none(pod, entry)) {
        let Some(template) = &entry.resource_claim_template_name else { continue };
        let named = claim_name(pod, entry);
        let is_there = |claim: &ResourceClaim| {
            Some(owners::name(claim)) == named.as_deref() && owners::is_controlled_by(claim, pod)
        };
        if observed.claims.iter().any(|claim| is_there(claim)) {
            continue;
        }
        if let Some(made) = observed.claims.iter().find(|claim| is_for(claim, pod, entry)) {
            let name = owners::name(&**made).to_owned();
            news.push(PodResourceClaimStatus { name: entry.name.clone(), resource_claim_name: Some(name) });
            continue;
        }
        match observed.templates.iter().find(|one| owners::name(&***one) == template) {
            Some(template) => plan.actions.push(create(pod, entry, template)),
            None => {
                let text = format!(
                    "PodResourceClaim {}: resource claim template {template:?} not found",
                    entry.name
                );
                plan.actions.push(Action::warning(reference(pod), "FailedResourceClaimCreation", text));
                return plan;
            }
        }
    }
    if !news.is_empty() {
        let kept = statuses(pod).filter(|old| news.iter().all(|new| new.name != old.name));
        let all: Vec<&PodResourceClaimStatus> = kept.chain(&news).collect();
        let version = &pod.metadata.resource_version;
        let patch =
            json!({"metadata": {"resourceVersion": version}, "status": {"resourceClaimStatuses": all}});
        plan.actions.push(Action::patch_status(pod, patch));
    }
    if !pods::node_name(pod).is_empty() {
        // Otherwise the scheduler reserves.
        plan.actions.extend(reservations(observed));
    }
    plan
}

/// Whether a claim was made for an entry of a pod.
fn is_for(claim: &ResourceClaim, pod: &Pod, entry: &PodResourceClaim) -> bool {
    let annotation = claim.metadata.annotations.as_ref().and_then(|all| all.get(ENTRY));
    annotation == Some(&entry.name) && owners::is_controlled_by(claim, pod)
}

fn create(pod: &Pod, entry: &PodResourceClaim, template: &ResourceClaimTemplate) -> Action {
    let described = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations = described.annotations.unwrap_or_default();
    annotations.insert(ENTRY.to_owned(), entry.name.clone());
    let owner =
        api::metav1::OwnerReference { block_owner_deletion: None, ..owners::controller_reference(pod) };
    let claim = ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(name_prefix(pods::name(pod), &entry.name)),
            namespace: pod.metadata.namespace.clone(),
            labels: described.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.spec.clone(),
        status: None,
    };
    let failure = format!("PodResourceClaim {}: create ResourceClaim : {{error}}", entry.name);
    Action::create(&claim).announced(Announcement {
        about: reference(pod),
        success: None,
        failure: Some(("FailedResourceClaimCreation", failure)),
    })
}

/// The start of the names of an entry's claims; both parts are cut by the same share.
fn name_prefix(pod: &str, entry: &str) -> String {
    let whole = format!("{pod}-{entry}-");
    if whole.len() <= LONGEST_PREFIX {
        return whole;
    }
    let cut = |text: &str| text[..text.len() * LONGEST_PREFIX / whole.len()].to_owned();
    format!("{}-{}", cut(pod), cut(entry))
}

fn reservations(observed: &ObservedPod) -> Vec<Action> {
    let pod = &*observed.pod;
    let mut actions = Vec::new();
    for entry in entries(pod) {
        let Some(name) = claim_name(pod, entry) else { continue };
        let Some(claim) = observed.claims.iter().find(|claim| owners::name(&***claim) == name) else { break };
        if entry.resource_claim_template_name.is_some() && !owners::is_controlled_by(&**claim, pod) {
            break;
        }
        let status = claim.status.clone().unwrap_or_default();
        let mut consumers = status.reserved_for.unwrap_or_default();
        let is_reserved = consumers.iter().any(|consumer| consumer.uid == owners::uid(pod));
        if status.allocation.is_none() || is_reserved || consumers.len() >= MOST_CONSUMERS {
            continue;
        }
        consumers.push(ResourceClaimConsumerReference {
            api_group: None,
            resource: "pods".to_owned(),
            name: pods::name(pod).to_owned(),
            uid: owners::uid(pod).to_owned(),
        });
        let version = &claim.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "status": {"reservedFor": consumers}});
        actions.push(Action::patch_status(&**claim, patch));
    }
    actions
}
