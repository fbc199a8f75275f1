//! How long a failed pod is left before another takes its place on the node, so
//! that one which a kubelet refuses over and over does not keep everybody busy.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

/// The delay after the second failure on a node, doubled by each further one.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// After a time without failures they are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(30 * 60);

/// A daemon set, by uid, and a node.
type Place = (String, String);

#[derive(Debug)]
struct Failure {
    /// The pod that was let go last.
    pod: String,
    at: Timestamp,
    /// How long the next one is left.
    delay: Duration,
}

/// The failures on all nodes.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<Place, Failure>);

impl Failures {
    /// How long a failed pod is still left; zero where it may go, which is noted.
    pub(super) fn left(&mut self, set: &str, node: &str, pod: &str, now: Timestamp) -> Duration {
        let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        self.0.retain(|_, failure| since(failure.at) < FORGOTTEN);
        let place = (set.to_owned(), node.to_owned());
        let Some(failure) = self.0.get_mut(&place) else {
            self.0.insert(place, Failure { pod: pod.to_owned(), at: now, delay: FIRST });
            return Duration::ZERO;
        };
        if failure.pod == pod {
            return Duration::ZERO;
        }
        let left = failure.delay.saturating_sub(since(failure.at));
        if left.is_zero() {
            let delay = (failure.delay * 2).min(LONGEST);
            *failure = Failure { pod: pod.to_owned(), at: now, delay };
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;

    #[test]
    fn each_failure_on_a_node_is_left_longer() {
        let mut failures = Failures::default();
        let mut left = |node: &str, pod: &str, after: u64| {
            let at = now().checked_add(Duration::from_secs(after)).expect("a time");
            failures.left("set", node, pod, at).as_secs()
        };
        assert_eq!(left("a", "p1", 0), 0, "the first goes at once");
        assert_eq!(left("a", "p1", 0), 0, "and may be seen again");
        assert_eq!(left("a", "p2", 0), 1);
        assert_eq!(left("b", "q1", 0), 0, "another node is another matter");
        assert_eq!(left("a", "p2", 1), 0);
        assert_eq!((left("a", "p3", 1), left("a", "p3", 3)), (2, 0));
        assert_eq!(left("a", "p4", 3), 4);
        assert_eq!(left("a", "p4", 3 + 1800), 0, "all is forgotten");
        assert_eq!(left("a", "p5", 3 + 1800), 1);
    }
}
