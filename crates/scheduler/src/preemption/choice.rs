//! Which node is spared least: upstream's order of reasons.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::Candidate;

/// Candidates, the best first: the fewest broken budgets, the least important
/// victim of greatest importance, the smallest sum of priorities, the fewest
/// victims, the youngest of the most important.
#[must_use]
pub fn best(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by_cached_key(|candidate| {
        (
            candidate.violations,
            candidate.victims.first().map_or(i32::MIN, |first| first.priority),
            candidate.victims.iter().map(|victim| above_zero(victim.priority)).sum::<i64>(),
            candidate.victims.len(),
            Reverse(start(candidate)),
        )
    });
    candidates
}

/// A priority moved up so far that none is negative: more victims always add.
fn above_zero(priority: i32) -> i64 {
    i64::from(priority) - i64::from(i32::MIN)
}

/// When the oldest of the most important victims started.
fn start(candidate: &Candidate) -> Option<Timestamp> {
    let highest = candidate.victims.first()?.priority;
    let most_important = candidate.victims.iter().take_while(|victim| victim.priority == highest);
    most_important.map(|victim| victim.started.unwrap_or(Timestamp::MAX)).min()
}
