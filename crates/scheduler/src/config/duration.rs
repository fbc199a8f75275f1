//! Durations as Go writes them: `1m30s`, `500ms`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, de};

/// Reads an optional duration.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    let read = |text: String| {
        parse(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is no duration: write 15s or 1m30s")))
    };
    text.map(read).transpose()
}

fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| at + digits);
        let seconds = match &rest[digits..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        sum += Duration::try_from_secs_f64(rest[..digits].parse::<f64>().ok()? * seconds).ok()?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, millis) in [("15s", 15_000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("500ms", 500)] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "1d", "-1s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
