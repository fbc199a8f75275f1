//! Which pods a rolling update replaces next, and which revision a new pod gets.

use api::types::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet};
use api::types::core::v1::Pod;
use jiff::Timestamp;

use super::identity;
use crate::deployment::resolve;
use crate::pods;

fn rolling(set: &StatefulSet) -> Option<&RollingUpdateStatefulSetStrategy> {
    set.spec.as_ref()?.update_strategy.as_ref()?.rolling_update.as_ref()
}

/// Whether the set updates its pods by itself.
pub(super) fn is_rolling(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// Whether a new pod is still made from the current revision.
pub(super) fn starts_at_current(set: &StatefulSet, ordinal: i32) -> bool {
    let current = set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or_default();
    let kept = match rolling(set) {
        Some(rolling) => rolling.partition.unwrap_or_default(),
        None if is_rolling(set) => current,
        None => 0,
    };
    ordinal < identity::first(set).saturating_add(kept)
}

/// The pods to replace now, each by its deletion. `row` has a place for each ordinal, in their
/// order, empty where the pod is missing.
pub(super) fn next<'a>(
    set: &StatefulSet,
    row: &[Option<&'a Pod>],
    update_revision: &str,
    now: Timestamp,
) -> Vec<&'a Pod> {
    let partition = rolling(set).and_then(|rolling| rolling.partition).unwrap_or_default();
    let partition = usize::try_from(partition).unwrap_or_default().min(row.len());
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default();
    let serves = |place: &Option<&Pod>| {
        place.is_some_and(|pod| pods::is_available(pod, min_ready, now) && !pods::is_being_deleted(pod))
    };
    let is_old = |pod: &&Pod| identity::revision(pod) != update_revision && !pods::is_being_deleted(pod);
    let targets = row[partition..].iter().rev();
    let Some(limit) = rolling(set).and_then(|rolling| rolling.max_unavailable.as_ref()) else {
        // One at a time, from the end; each waits for all that were replaced before it.
        for place in targets {
            if let Some(pod) = place.filter(is_old) {
                return vec![pod];
            }
            if !serves(place) {
                break;
            }
        }
        return Vec::new();
    };
    let replicas = i32::try_from(row.len()).unwrap_or(i32::MAX);
    let limit = usize::try_from(resolve(Some(limit), replicas, false)).unwrap_or_default().max(1);
    let unavailable = row.iter().filter(|place| !serves(place)).count();
    targets.filter_map(|place| place.filter(is_old)).take(limit.saturating_sub(unavailable)).collect()
}
