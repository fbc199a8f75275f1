//! Which keys wait for a run: each once, never two runs of one key at a time,
//! with delays and per-key backoff.
//!
//! A value without clock or lock; time is the [`Duration`] since the owner's start.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use api::ObjectKey;

/// The delay after the first failure, as upstream's rate limiter has it.
pub const FIRST_BACKOFF: Duration = Duration::from_millis(5);
/// The longest delay after failures.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(1000);

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    ready: VecDeque<ObjectKey>,
    /// Wants a run: in `ready`, or running and to be run again.
    wanted: HashSet<ObjectKey>,
    running: HashSet<ObjectKey>,
    wakes: HashMap<ObjectKey, Duration>,
    by_time: BTreeSet<(Duration, ObjectKey)>,
    failures: HashMap<ObjectKey, u32>,
}

impl Queue {
    /// Wants a run of the key; whether that is news.
    pub fn add(&mut self, key: ObjectKey) -> bool {
        if !self.wanted.insert(key.clone()) {
            return false;
        }
        if !self.running.contains(&key) {
            self.ready.push_back(key);
        }
        true
    }

    /// Wants a run at a time, instead of at any time wanted before.
    pub fn wake_at(&mut self, key: ObjectKey, at: Duration) {
        self.forget_wake(&key);
        self.wakes.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }

    /// Wants no run by time any more.
    pub fn forget_wake(&mut self, key: &ObjectKey) {
        if let Some(at) = self.wakes.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    /// When the next delayed key is due.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the next key; it is running until [`Self::done`].
    pub fn pop(&mut self, now: Duration) -> Option<ObjectKey> {
        self.take_due(now);
        let key = self.ready.pop_front()?;
        self.start(&key);
        Some(key)
    }

    /// Takes a ready key out of turn, for simulations; `index` below [`Self::len`].
    pub fn pop_at(&mut self, index: usize) -> Option<ObjectKey> {
        let key = self.ready.remove(index)?;
        self.start(&key);
        Some(key)
    }

    fn start(&mut self, key: &ObjectKey) {
        self.wanted.remove(key);
        self.running.insert(key.clone());
    }

    /// Moves what is due by now to the ready keys.
    pub fn take_due(&mut self, now: Duration) {
        while let Some((at, key)) = self.by_time.first().cloned() {
            if at > now {
                return;
            }
            self.forget_wake(&key);
            self.add(key);
        }
    }

    /// The key's run has ended; a run wanted meanwhile becomes ready.
    pub fn done(&mut self, key: &ObjectKey) {
        self.running.remove(key);
        if self.wanted.contains(key) {
            self.ready.push_back(key.clone());
        }
    }

    /// Counts a failure; how long to wait.
    pub fn backoff(&mut self, key: &ObjectKey) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        let delay = FIRST_BACKOFF.saturating_mul(1 << (*failures).min(20));
        *failures = failures.saturating_add(1);
        delay.min(LONGEST_BACKOFF)
    }

    /// The key is well again.
    pub fn forget_failures(&mut self, key: &ObjectKey) {
        self.failures.remove(key);
    }

    /// How many keys are ready.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// Whether no key is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    const ZERO: Duration = Duration::ZERO;

    #[test]
    fn a_key_waits_once_and_never_runs_twice_at_a_time() {
        let mut queue = Queue::default();
        assert!(queue.add(key("a")));
        assert!(!queue.add(key("a")));
        assert_eq!(queue.pop(ZERO), Some(key("a")));
        assert!(queue.add(key("a")), "wanted again while running");
        assert_eq!(queue.pop(ZERO), None, "but not beside its own run");
        queue.done(&key("a"));
        assert_eq!(queue.pop(ZERO), Some(key("a")));
        queue.done(&key("a"));
        assert_eq!(queue.pop(ZERO), None);
    }

    #[test]
    fn a_later_wake_replaces_an_earlier_one() {
        let mut queue = Queue::default();
        let second = Duration::from_secs(1);
        queue.wake_at(key("a"), second);
        queue.wake_at(key("a"), second * 3);
        queue.wake_at(key("b"), second * 2);
        assert_eq!(queue.next_wake(), Some(second * 2));
        assert_eq!(queue.pop(second), None);
        assert_eq!(queue.pop(second * 2), Some(key("b")));
        queue.forget_wake(&key("a"));
        assert_eq!(queue.pop(second * 9), None);
    }

    #[test]
    fn backoff_doubles_to_its_limit_and_is_forgotten() {
        let mut queue = Queue::default();
        let delays: Vec<_> = (0..20).map(|_| queue.backoff(&key("a"))).collect();
        assert_eq!(delays[..3], [5, 10, 20].map(Duration::from_millis));
        assert_eq!(delays[19], LONGEST_BACKOFF);
        queue.forget_failures(&key("a"));
        assert_eq!(queue.backoff(&key("a")), FIRST_BACKOFF);
    }
}
