//! The two clocks, as the kubelet's shells read them. Pure parts take the time
//! as an argument.

use std::time::Instant;

use daemon::clock::{Clock as _, SystemClock};
use jiff::Timestamp;

/// The time of day.
#[must_use]
pub fn now() -> Timestamp {
    SystemClock.now()
}

/// A time that never goes back.
#[must_use]
pub fn monotonic() -> Instant {
    SystemClock.monotonic()
}

/// The time from `earlier` to `later`; nothing if it is not later.
#[must_use]
pub fn elapsed(earlier: Timestamp, later: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}
