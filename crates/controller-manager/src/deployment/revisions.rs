//! Which replica set carries the deployment's present template, what it is
//! called, and the annotations that number the revisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::metav1::{LabelSelector, ObjectMeta};
use api::types::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use api::types::core::v1::PodTemplateSpec;
use sha2::{Digest as _, Sha256};

use super::scale::Limits;
use crate::owners;

/// The label that tells a replica set's pods from its siblings'.
pub(super) const HASH: &str = "pod-template-hash";
/// The revision that a replica set, or the deployment, is at.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The revisions at which a replica set was before.
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The deployment's replicas when the replica set was last scaled.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The deployment's most pods when the replica set was last scaled.
pub(super) const MOST: &str = "deployment.kubernetes.io/max-replicas";

/// The longest text of [`HISTORY`].
const HISTORY_LIMIT: usize = 2000;

/// Annotations of a deployment that its replica sets do not inherit.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MOST,
    "deprecated.deployment.rollback.to",
];

/// A short text that only an equal value shares: the alphabet of generated
/// names, which spells no words.
pub(crate) fn short_hash(value: &impl serde::Serialize, collisions: Option<i32>) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    // Maps of API types are ordered, so equal values have equal JSON.
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(value).unwrap_or_default());
    if let Some(collisions) = collisions {
        hash.update(collisions.to_le_bytes());
    }
    let digest = hash.finalize();
    digest.iter().take(10).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

fn template(deployment: &Deployment) -> PodTemplateSpec {
    deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default()
}

fn hash(deployment: &Deployment) -> String {
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    short_hash(&template(deployment), collisions)
}

/// The name of the replica set for the present template.
pub(super) fn new_name(deployment: &Deployment) -> String {
    format!("{}-{}", owners::name(deployment), hash(deployment))
}

/// Whether a replica set carries the deployment's present template.
pub(super) fn carries(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let bare = |mut template: PodTemplateSpec| {
        if let Some(metadata) = &mut template.metadata {
            if let Some(labels) = &mut metadata.labels {
                labels.remove(HASH);
            }
            if metadata.labels.as_ref().is_some_and(BTreeMap::is_empty) {
                metadata.labels = None;
            }
        }
        if template.metadata.as_ref().is_some_and(|metadata| *metadata == ObjectMeta::default()) {
            template.metadata = None;
        }
        template
    };
    let theirs = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    bare(theirs) == bare(template(deployment))
}

/// An annotation as a number.
pub(super) fn number(metadata: &ObjectMeta, annotation: &str) -> Option<i64> {
    metadata.annotations.as_ref()?.get(annotation)?.parse().ok()
}

/// The newest revision among replica sets.
pub(super) fn newest<'a>(sets: impl IntoIterator<Item = &'a Arc<ReplicaSet>>) -> i64 {
    sets.into_iter().filter_map(|set| number(&set.metadata, REVISION)).max().unwrap_or_default()
}

/// The annotations that a replica set lacks to carry `revision`.
pub(super) fn missing_annotations(
    deployment: &Deployment,
    have: &ObjectMeta,
    revision: i64,
) -> BTreeMap<String, String> {
    let mut missing = BTreeMap::new();
    let has = |key: &str| have.annotations.as_ref().and_then(|all| all.get(key));
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&key.as_str()) && has(key) != Some(value) {
            missing.insert(key.clone(), value.clone());
        }
    }
    let before = number(have, REVISION);
    if before.is_none_or(|before| before < revision) {
        missing.insert(REVISION.to_owned(), revision.to_string());
        if let Some(before) = before {
            let mut history: Vec<String> =
                has(HISTORY).map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default();
            history.push(before.to_string());
            while history.join(",").len() > HISTORY_LIMIT {
                history.remove(0);
            }
            missing.insert(HISTORY.to_owned(), history.join(","));
        }
    }
    missing
}

/// The annotations by which a replica set remembers the deployment's size.
pub(super) fn size_annotations(limits: Limits) -> [(String, String); 2] {
    [(DESIRED.to_owned(), limits.replicas.to_string()), (MOST.to_owned(), limits.most().to_string())]
}

/// The replica set for the present template.
pub(super) fn new_set(deployment: &Deployment, revision: i64, replicas: i32) -> ReplicaSet {
    let hash = hash(deployment);
    let limits = Limits::of(deployment);
    let mut template = template(deployment);
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    let labels = metadata.labels.clone();
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut selector: LabelSelector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash);
    let mut annotations = missing_annotations(deployment, &ObjectMeta::default(), revision);
    annotations.extend(size_annotations(limits));
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(new_name(deployment)),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owners::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}
