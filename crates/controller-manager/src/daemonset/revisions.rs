//! The history of a daemon set's templates, kept as controller revisions.

use std::sync::Arc;

use api::metav1::ObjectMeta;
use api::openapi::apimachinery::pkg::runtime::RawExtension;
use api::types::apps::v1::{ControllerRevision, DaemonSet};
use api::types::core::v1::Pod;
use reconcile::Action;
use serde_json::{Value, json};

use super::template::HASH;
use crate::deployment::short_hash;
use crate::owners;

/// The template as a patch that puts it back.
fn data(set: &DaemonSet) -> Value {
    let template = set.spec.as_ref().map(|spec| &spec.template);
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

fn hash(set: &DaemonSet) -> String {
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    short_hash(&data(set), collisions)
}

/// The name of the revision for the present template.
pub(super) fn new_name(set: &DaemonSet) -> String {
    format!("{}-{}", owners::name(set), hash(set))
}

/// The present template's revision.
pub(super) struct Current {
    /// Its hash, as pods carry it.
    pub(super) hash: String,
    /// What must be written for it to be there.
    pub(super) actions: Vec<Action>,
    /// Set where its name is taken.
    pub(super) collision: Option<i32>,
}

pub(super) fn current(
    set: &DaemonSet,
    revisions: &[Arc<ControllerRevision>],
    namesake: Option<&ControllerRevision>,
) -> Current {
    let data = data(set);
    let newest = revisions.iter().map(|one| one.revision).max().unwrap_or_default();
    let same = |one: &&Arc<ControllerRevision>| one.data.as_ref().is_some_and(|held| held.0 == data);
    if let Some(found) = revisions.iter().filter(same).max_by_key(|one| one.revision) {
        let labels = found.metadata.labels.as_ref();
        let hash = labels.and_then(|labels| labels.get(HASH)).cloned().unwrap_or_default();
        let mut actions = Vec::new();
        if found.revision < newest {
            // Back to an old template: it is the newest again.
            actions.push(Action::patch_unchanged(&**found, json!({"revision": newest + 1})));
        }
        return Current { hash, actions, collision: None };
    }
    let hash = hash(set);
    if namesake.is_some() {
        let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or_default();
        return Current { hash, actions: Vec::new(), collision: Some(collisions + 1) };
    }
    let template = set.spec.as_ref().and_then(|spec| spec.template.metadata.clone()).unwrap_or_default();
    let mut labels = template.labels.unwrap_or_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(new_name(set)),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: set.metadata.annotations.clone(),
            owner_references: Some(vec![owners::controller_reference(set)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: newest + 1,
    };
    Current { hash, actions: vec![Action::create(&revision)], collision: None }
}

/// Deletes the oldest revisions beyond the limit that no pod has.
pub(super) fn clean_up(
    set: &DaemonSet,
    revisions: &[Arc<ControllerRevision>],
    hash: &str,
    pods: &[Arc<Pod>],
) -> Vec<Action> {
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let in_use = |one: &ControllerRevision| {
        let Some(its) = one.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)) else {
            return false;
        };
        let carries =
            |pod: &Arc<Pod>| pod.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)) == Some(its);
        its == hash || pods.iter().any(carries)
    };
    let mut old: Vec<&Arc<ControllerRevision>> = revisions.iter().filter(|one| !in_use(one)).collect();
    old.sort_by_key(|one| one.revision);
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    old.into_iter().take(surplus).map(|one| Action::delete(&**one)).collect()
}
