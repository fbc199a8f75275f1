//! The time, read in one place; everything that computes with it takes it.

use std::time::Duration;

use jiff::Timestamp;

/// The time now.
#[expect(clippy::disallowed_methods, reason = "a command line has no daemon's clock; this is its only one")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// How long ago a time of the API is, as kubectl shows ages.
pub(crate) fn age(text: &str, now: Timestamp) -> String {
    match api::time::parse(text) {
        Some(then) => api::time::human_duration(now.as_second() - then.as_second()),
        None => "<unknown>".into(),
    }
}

/// When a wait that may last this long is over; zero is for ever.
pub(crate) fn deadline(limit: Duration) -> Option<tokio::time::Instant> {
    (!limit.is_zero()).then(|| tokio::time::Instant::now() + limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told() {
        let now = api::time::parse("2026-01-01T00:10:00Z").expect("time");
        assert_eq!(age("2026-01-01T00:05:00Z", now), "5m");
        assert_eq!(age("", now), "<unknown>");
    }
}
