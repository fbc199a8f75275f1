//! How a daemon set's templates are numbered: its pods carry the hash of the
//! revision that they were made from.

use std::sync::Arc;

use api::types::apps::v1::{ControllerRevision, DaemonSet};
use api::types::core::v1::{Pod, PodTemplateSpec};
use reconcile::Action;

use super::template::HASH;
use crate::revisions::{self, Versioned};

impl Versioned for DaemonSet {
    const HASH: &'static str = HASH;

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }

    fn collisions(&self) -> Option<i32> {
        self.status.as_ref()?.collision_count
    }

    fn history_limit(&self) -> Option<i32> {
        self.spec.as_ref()?.revision_history_limit
    }
}

/// Deletes the oldest revisions beyond the limit that no pod has.
pub(super) fn clean_up(
    set: &DaemonSet,
    all: &[Arc<ControllerRevision>],
    hash: &str,
    pods: &[Arc<Pod>],
) -> Vec<Action> {
    let carried = |pod: &Arc<Pod>| pod.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)).cloned();
    let carried: Vec<String> = pods.iter().filter_map(carried).collect();
    revisions::clean_up(set, all, |one| {
        let its = revisions::hash_of::<DaemonSet>(one);
        !its.is_empty() && (its == hash || carried.iter().any(|hash| hash == its))
    })
}
