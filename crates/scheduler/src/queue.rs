//! The pods that wait for a node.
//!
//! A pod is *active* (to be tried next, by priority, then by age), *backing
//! off* (tried, and to be tried again at a time), *unschedulable* (refused, and
//! to be tried when something happens that may help, or after five minutes), or
//! *in flight* (being tried or bound). What happens while it is in flight is
//! remembered, so that no event falls between two stools.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::types::core::v1::Pod;

use crate::plugins::ClusterEvent;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
const FLUSH_AFTER: Duration = Duration::from_secs(300);

/// Priority, then age, then order of arrival.
type Rank = (Reverse<i32>, Instant, u64);

#[derive(Debug)]
enum Place {
    Active,
    BackingOff { until: Instant },
    Unschedulable { since: Instant, unblocked_by: Vec<ClusterEvent> },
    InFlight { missed: BTreeSet<ClusterEvent>, changed: bool },
}

#[derive(Debug)]
struct Waiting {
    pod: Arc<Pod>,
    rank: Rank,
    attempts: u32,
    tried: Instant,
    place: Place,
}

impl Waiting {
    fn backoff_ends(&self) -> Instant {
        let doublings = self.attempts.saturating_sub(1).min(8);
        self.tried + (FIRST_BACKOFF * 2_u32.pow(doublings)).min(LAST_BACKOFF)
    }
}

/// The queue. Pods are known by uid.
#[derive(Debug, Default)]
pub struct Queue {
    pods: HashMap<String, Waiting>,
    active: BTreeSet<(Rank, String)>,
    arrivals: u64,
}

impl Queue {
    /// Takes a pod that waits for a node, new or changed.
    pub fn add(&mut self, pod: Arc<Pod>, now: Instant) {
        let uid = uid(&pod);
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        if let Some(waiting) = self.pods.get_mut(&uid) {
            let matters = waiting.pod.spec != pod.spec || waiting.pod.metadata.labels != pod.metadata.labels;
            waiting.pod = pod;
            match &mut waiting.place {
                Place::InFlight { changed, .. } => *changed |= matters,
                Place::Unschedulable { .. } if matters => self.retry(&uid, now),
                _ => {}
            }
            return;
        }
        self.arrivals += 1;
        let rank = (Reverse(priority), now, self.arrivals);
        self.active.insert((rank, uid.clone()));
        self.pods.insert(uid, Waiting { pod, rank, attempts: 0, tried: now, place: Place::Active });
    }

    /// Forgets a pod: it has a node, or is gone.
    pub fn remove(&mut self, uid: &str) {
        if let Some(waiting) = self.pods.remove(uid) {
            self.active.remove(&(waiting.rank, uid.to_owned()));
        }
    }

    /// Takes the next pod to try; it is in flight then.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<Pod>> {
        let (_, uid) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&uid)?;
        waiting.place = Place::InFlight { missed: BTreeSet::new(), changed: false };
        waiting.attempts += 1;
        waiting.tried = now;
        Some(Arc::clone(&waiting.pod))
    }

    /// A pod in flight fits nowhere.
    pub fn refused(&mut self, uid: &str, unblocked_by: Vec<ClusterEvent>, now: Instant) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        waiting.tried = now;
        let Place::InFlight { missed, changed } = &waiting.place else { return };
        if *changed || unblocked_by.iter().any(|event| missed.contains(event)) {
            self.retry(uid, now);
        } else {
            waiting.place = Place::Unschedulable { since: now, unblocked_by };
        }
    }

    /// A pod in flight could not be bound, for no fault of its own.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        waiting.tried = now;
        self.retry(uid, now);
    }

    /// Something happened in the cluster.
    pub fn happened(&mut self, event: ClusterEvent, now: Instant) {
        let mut retry = Vec::new();
        for (uid, waiting) in &mut self.pods {
            match &mut waiting.place {
                Place::InFlight { missed, .. } => {
                    missed.insert(event);
                }
                Place::Unschedulable { unblocked_by, .. } if unblocked_by.contains(&event) => {
                    retry.push(uid.clone())
                }
                _ => {}
            }
        }
        for uid in retry {
            self.retry(&uid, now);
        }
    }

    /// Moves pods whose time has come.
    pub fn advance(&mut self, now: Instant) {
        let is_due = |waiting: &Waiting| match &waiting.place {
            Place::BackingOff { until } => *until <= now,
            Place::Unschedulable { since, .. } => *since + FLUSH_AFTER <= now,
            _ => false,
        };
        let due: Vec<String> =
            self.pods.iter().filter(|(_, waiting)| is_due(waiting)).map(|(uid, _)| uid.clone()).collect();
        for uid in due {
            self.retry(&uid, now);
        }
    }

    /// When [`Queue::advance`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let due = self.pods.values().filter_map(|waiting| match &waiting.place {
            Place::BackingOff { until } => Some(*until),
            Place::Unschedulable { since, .. } => Some(*since + FLUSH_AFTER),
            _ => None,
        });
        due.min()
    }

    /// How many pods are active, backing off, and unschedulable.
    #[must_use]
    pub fn depths(&self) -> [usize; 3] {
        let count = |of: fn(&Place) -> bool| self.pods.values().filter(|waiting| of(&waiting.place)).count();
        [
            self.active.len(),
            count(|place| matches!(place, Place::BackingOff { .. })),
            count(|place| matches!(place, Place::Unschedulable { .. })),
        ]
    }

    fn retry(&mut self, uid: &str, now: Instant) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        let until = waiting.backoff_ends();
        if until <= now {
            waiting.place = Place::Active;
            self.active.insert((waiting.rank, uid.to_owned()));
        } else {
            waiting.place = Place::BackingOff { until };
        }
    }
}

/// The uid of a pod.
#[must_use]
pub fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use daemon::{Clock as _, SystemClock};
    use serde_json::json;

    use super::*;
    use crate::tests::pod_json;

    const SECOND: Duration = Duration::from_secs(1);

    fn pod(name: &str, priority: i32) -> Arc<Pod> {
        Arc::new(pod_json(name, json!({"containers": [], "priority": priority})))
    }

    fn pop(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.advance(now);
        queue.pop(now).map(|pod| uid(&pod))
    }

    #[test]
    fn priority_then_age() {
        let (mut queue, now) = (Queue::default(), SystemClock.monotonic());
        for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            queue.add(pod(name, priority), now);
        }
        let order: Vec<String> = std::iter::from_fn(|| pop(&mut queue, now)).collect();
        assert_eq!(order, ["b", "d", "a", "c"]);
    }

    #[test]
    fn backoff_doubles_to_ten_seconds() {
        let (mut queue, mut now) = (Queue::default(), SystemClock.monotonic());
        queue.add(pod("a", 0), now);
        for seconds in [1, 2, 4, 8, 10, 10] {
            assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
            queue.failed("a", now);
            assert_eq!(queue.next_due(), Some(now + SECOND * seconds));
            assert_eq!(pop(&mut queue, now + SECOND * seconds - SECOND / 2), None);
            now += SECOND * seconds;
        }
    }

    #[test]
    fn a_refused_pod_waits_for_what_may_help() {
        let (mut queue, now) = (Queue::default(), SystemClock.monotonic());
        queue.add(pod("a", 0), now);
        pop(&mut queue, now);
        queue.refused("a", vec![ClusterEvent::PodRemoved], now);
        let later = now + SECOND * 20;
        queue.happened(ClusterEvent::NodeTaints, later);
        assert_eq!(pop(&mut queue, later), None);
        queue.happened(ClusterEvent::PodRemoved, later);
        assert_eq!(pop(&mut queue, later).as_deref(), Some("a"));
        // The event comes while the pod is being tried.
        queue.happened(ClusterEvent::PodRemoved, later);
        queue.refused("a", vec![ClusterEvent::PodRemoved], later);
        assert_eq!(queue.depths(), [0, 1, 0]);
        assert_eq!(pop(&mut queue, later + SECOND * 2).as_deref(), Some("a"));
        queue.refused("a", vec![], later);
        assert_eq!(pop(&mut queue, later + SECOND * 299), None);
        assert_eq!(pop(&mut queue, later + SECOND * 300).as_deref(), Some("a"));
    }

    #[test]
    fn only_changes_that_matter_wake_a_pod() {
        let (mut queue, now) = (Queue::default(), SystemClock.monotonic());
        queue.add(pod("a", 0), now);
        pop(&mut queue, now);
        queue.refused("a", vec![], now);
        let later = now + SECOND * 20;
        let mut touched = (*pod("a", 0)).clone();
        touched.metadata.resource_version = Some("2".into());
        queue.add(Arc::new(touched.clone()), later);
        assert_eq!(pop(&mut queue, later), None);
        touched.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        queue.add(Arc::new(touched), later);
        assert_eq!(pop(&mut queue, later).as_deref(), Some("a"));
        queue.remove("a");
        queue.failed("a", later);
        assert_eq!(queue.depths(), [0, 0, 0]);
    }
}
