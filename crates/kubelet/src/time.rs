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

/// A duration as Go prints it, which is how upstream's messages have it, to the
/// millisecond: `313ms`, `1.594s`, `2m0.5s`.
#[must_use]
pub fn go_duration(duration: std::time::Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let fraction = format!("{:03}", millis % 1000);
    let fraction = fraction.trim_end_matches('0');
    let seconds = match (millis / 1000 % 60, fraction) {
        (whole, "") => format!("{whole}s"),
        (whole, fraction) => format!("{whole}.{fraction}s"),
    };
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, _) => format!("{minutes}m{seconds}"),
        _ => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::go_duration;

    #[test]
    fn durations_as_in_go() {
        for (millis, expected) in [
            (0, "0s"),
            (313, "313ms"),
            (1000, "1s"),
            (1594, "1.594s"),
            (7_260, "7.26s"),
            (120_500, "2m0.5s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        }
    }
}
