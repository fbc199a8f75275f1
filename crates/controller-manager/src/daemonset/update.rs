//! The pods that a rolling update replaces next, within its limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::types::core::v1::Pod;
use jiff::Timestamp;

use super::template::HASH;
use crate::pods::{is_available, is_being_deleted};

/// A rolling update's limits, in nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) surge: usize,
    pub(super) unavailable: usize,
    pub(super) min_ready_seconds: i32,
    pub(super) desired: usize,
}

/// What an update does next.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Step {
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) create_on: Vec<String>,
}

/// Whether a pod carries the present template.
pub(super) fn is_new(pod: &Pod, hash: &str) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)).is_some_and(|its| its == hash)
}

/// The new and the old pod of a node; `None` where there are more than that.
fn sort_out<'a>(pods: &'a [Arc<Pod>], hash: &str) -> Option<(Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>)> {
    let mut found = (None, None);
    for pod in pods.iter().filter(|pod| !is_being_deleted(pod)) {
        let place = if is_new(pod, hash) { &mut found.0 } else { &mut found.1 };
        if place.replace(pod).is_some() {
            return None;
        }
    }
    Some(found)
}

/// The next step without surge: old pods go, the daemon set's main loop puts
/// new ones in their place.
pub(super) fn replace(
    by_node: &BTreeMap<String, Vec<Arc<Pod>>>,
    hash: &str,
    limits: Limits,
    now: Timestamp,
) -> Step {
    let available = |pod: &Pod| is_available(pod, limits.min_ready_seconds, now);
    let mut unavailable = 0;
    let (mut broken, mut candidates) = (Vec::new(), Vec::new());
    for pods in by_node.values() {
        match sort_out(pods, hash) {
            None | Some((None, None) | (Some(_), Some(_))) => unavailable += 1,
            Some((Some(new), None)) => unavailable += usize::from(!available(new)),
            Some((None, Some(old))) if !available(old) => {
                broken.push(Arc::clone(old));
                unavailable += 1;
            }
            Some((None, Some(old))) => candidates.push(Arc::clone(old)),
        }
    }
    candidates.truncate(limits.unavailable.saturating_sub(unavailable));
    broken.extend(candidates);
    Step { delete: broken, create_on: Vec::new() }
}

/// The next step with surge: new pods start beside old ones, which go when the
/// new ones serve.
pub(super) fn surge(
    by_node: &BTreeMap<String, Vec<Arc<Pod>>>,
    hash: &str,
    limits: Limits,
    now: Timestamp,
    may_run: impl Fn(&str) -> bool,
) -> Step {
    let available = |pod: &Pod| is_available(pod, limits.min_ready_seconds, now);
    let mut step = Step::default();
    let (mut surging, mut serving) = (0, 0);
    let (mut candidates, mut misplaced) = (Vec::new(), Vec::new());
    for (node, pods) in by_node {
        let Some((new, old)) = sort_out(pods, hash) else {
            surging += 1;
            continue;
        };
        serving += usize::from(old.or(new).is_some_and(|pod| available(pod)));
        match (new, old) {
            (_, None) => {}
            (None, Some(old)) => match (available(old), may_run(node)) {
                (false, false) => step.delete.push(Arc::clone(old)),
                (false, true) => step.create_on.push(node.clone()),
                (true, false) => misplaced.push(Arc::clone(old)),
                (true, true) => candidates.push(node.clone()),
            },
            (Some(new), Some(_)) if !available(new) => surging += 1,
            (Some(_), Some(old)) => step.delete.push(Arc::clone(old)),
        }
    }
    // Who asked for surge wants no gap: a misplaced pod goes when others serve.
    misplaced.truncate(serving.saturating_sub(limits.desired));
    step.delete.extend(misplaced);
    candidates.truncate(limits.surge.saturating_sub(surging));
    step.create_on.extend(candidates);
    step
}
