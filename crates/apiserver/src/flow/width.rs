//! How many seats a request takes: one, but for lists and watches that read many
//! objects, by the bytes that these take in memory, as upstream estimates them.
//!
//! Upstream charges writes for the watchers whom they wake, too. Here all watchers
//! of a change share its bytes, so that a write takes one seat.

use std::time::Duration;

/// Bytes in memory that a seat stands for.
const BYTES_PER_SEAT: u64 = 100_000;
/// A list is sent in pieces: it never holds more than this at once.
const STREAMED: u64 = 1_000_000;
/// The widest request.
const WIDEST: u64 = 100;

/// What a request says beside what it asks: how wide it is, and how patient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// How long the request may take; `None`: as long as the client likes.
    pub time: Option<Duration>,
    /// At most so many objects; 0: all.
    pub limit: usize,
    /// Whether a watch begins with the objects that are there.
    pub sends_initial: bool,
}

/// The objects that are stored of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) objects: usize,
    pub(super) bytes: usize,
}

/// The seats of a list, or of a watch that begins with a list; `is_single` is one of one name.
pub(super) fn seats(held: Held, reading: Reading, is_single: bool, widest: u64) -> u64 {
    if held.objects == 0 {
        return 1;
    }
    let all = held.objects as u64;
    let average = (held.bytes as u64).div_ceil(all);
    let limited = if reading.limit > 0 { all.min(reading.limit as u64) } else { all };
    let objects = if is_single { 1 } else { limited };
    let bytes = objects.saturating_mul(average).min(STREAMED);
    bytes.div_ceil(BYTES_PER_SEAT).clamp(1, widest.clamp(1, WIDEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_bytes() {
        let held = Held { objects: 1000, bytes: 500_000 };
        let all = Reading::default();
        let table = [
            (Held::default(), all, false, 100, 1),
            (held, all, false, 100, 5),
            (held, all, false, 3, 3),
            (held, Reading { limit: 250, ..all }, false, 100, 2),
            (held, all, true, 100, 1),
            (Held { objects: 150_000, bytes: 900_000_000 }, all, false, 100, 10),
            (held, all, false, 0, 1),
        ];
        for (held, reading, is_single, widest, expected) in table {
            assert_eq!(seats(held, reading, is_single, widest), expected, "{held:?} {reading:?}");
        }
    }
}
