//! Times as the API writes them: RFC 3339 in UTC, whole seconds (`metav1.Time`)
//! or microseconds (`metav1.MicroTime`).

use jiff::Timestamp;

/// `metav1.Time`: `2026-01-31T10:00:00Z`.
#[must_use]
pub fn format(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`: `2026-01-31T10:00:00.000000Z`.
#[must_use]
pub fn format_micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads RFC 3339 with any offset.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// An age as kubectl shows it: `5s`, `3m20s`, `2h`, `4d3h`, `1y20d`, following
/// `k8s.io/apimachinery/pkg/util/duration.HumanDuration`. Negative ages up to
/// two seconds are `0s`, older ones `<invalid>`.
#[must_use]
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match seconds {
        i64::MIN..-1 => "<invalid>".into(),
        -1..0 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if seconds < 10 * MINUTE => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        _ if seconds < 3 * HOUR => format!("{}m", seconds / MINUTE),
        _ if seconds < 8 * HOUR => two(seconds / HOUR, "h", seconds / MINUTE % 60, "m"),
        _ if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 8 * DAY => two(seconds / DAY, "d", seconds / HOUR % 24, "h"),
        _ if seconds < 2 * 365 * DAY => format!("{}d", seconds / DAY),
        _ if seconds < 8 * 365 * DAY => two(seconds / DAY / 365, "y", seconds / DAY % 365, "d"),
        _ => format!("{}y", seconds / DAY / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectls() {
        let table = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (8 * 3600 + 60, "8h"),
            (48 * 3600, "2d"),
            (49 * 3600, "2d1h"),
            (8 * 86400, "8d"),
            (730 * 86400, "2y"),
            (731 * 86400, "2y1d"),
            (-5, "<invalid>"),
        ];
        for (seconds, text) in table {
            assert_eq!(human_duration(seconds), text);
        }
    }

    #[test]
    fn times_are_written_in_utc() {
        let time = parse("2026-01-31T12:00:00.123456+02:00").expect("valid");
        assert_eq!(format(time), "2026-01-31T10:00:00Z");
        assert_eq!(format_micro(time), "2026-01-31T10:00:00.123456Z");
    }
}
