//! Answers that are remembered for a while, and never more than so many of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::Clock;
use parking_lot::Mutex;

/// Remembered answers.
pub(crate) struct Expiring<K, V> {
    most: usize,
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K: Eq + Hash, V: Clone> Expiring<K, V> {
    pub(crate) fn new(most: usize, clock: Arc<dyn Clock>) -> Self {
        Self { most, clock, known: Mutex::default() }
    }

    /// What is remembered and not too old.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let now = self.clock.monotonic();
        let known = self.known.lock();
        known.get(key).filter(|(until, _)| now < *until).map(|(_, value)| value.clone())
    }

    /// Remembers something for a while.
    pub(crate) fn put(&self, key: K, value: V, keep: Duration) {
        if keep.is_zero() {
            return;
        }
        let now = self.clock.monotonic();
        let mut known = self.known.lock();
        if known.len() >= self.most {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() >= self.most {
            // Whoever fills it up with what is still good pays for it anew.
            known.clear();
        }
        known.insert(key, (now + keep, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Still(Mutex<Instant>);

    impl Clock for Still {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Instant {
            *self.0.lock()
        }
    }

    #[test]
    fn old_and_many_are_forgotten() {
        let clock = Arc::new(Still(Mutex::new(daemon::SystemClock.monotonic())));
        let known = Expiring::new(2, Arc::clone(&clock) as Arc<dyn Clock>);
        known.put(1, "a", Duration::from_secs(10));
        known.put(2, "b", Duration::ZERO);
        assert_eq!((known.get(&1), known.get(&2)), (Some("a"), None));
        known.put(2, "b", Duration::from_secs(20));
        *clock.0.lock() += Duration::from_secs(10);
        assert_eq!((known.get(&1), known.get(&2)), (None, Some("b")));
        known.put(3, "c", Duration::from_secs(20));
        assert_eq!((known.get(&2), known.get(&3)), (Some("b"), Some("c")));
        known.put(4, "d", Duration::from_secs(20));
        assert_eq!((known.get(&3), known.get(&4)), (None, Some("d")), "full of what is good");
    }
}
