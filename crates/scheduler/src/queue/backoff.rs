//! How long a pod waits before it is tried again.

use std::time::Duration;

/// Times between attempts: the first, doubled until the longest.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first attempt.
    pub first: Duration,
    /// Never longer than this.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(10) }
    }
}

impl Backoff {
    /// The time after so many attempts.
    #[must_use]
    pub fn of(&self, attempts: u32) -> Duration {
        if attempts == 0 {
            return Duration::ZERO;
        }
        let factor = 2_u32.saturating_pow(attempts - 1);
        self.first.checked_mul(factor).map_or(self.longest, |time| time.min(self.longest))
    }
}
