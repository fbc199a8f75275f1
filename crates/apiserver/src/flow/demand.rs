//! How many seats a level's requests wanted over time: what was used and what was
//! waited for, from which the level's limit follows.

use super::Nanos;

/// How slowly the smoothed demand falls.
const SMOOTHING: f64 = 0.977;

/// The demand since the last look.
#[derive(Debug, Default)]
pub(super) struct Demand {
    now: f64,
    last: Nanos,
    from: Nanos,
    sum: f64,
    squares: f64,
    peak: f64,
}

impl Demand {
    /// Notes the demand from now on.
    pub(super) fn set(&mut self, now: Nanos, seats: u64) {
        self.sync(now);
        // Seats are few.
        self.now = seats as f64;
        self.peak = self.peak.max(self.now);
    }

    fn sync(&mut self, now: Nanos) {
        let past = now.saturating_sub(self.last) as f64;
        self.sum += past * self.now;
        self.squares += past * self.now * self.now;
        self.last = self.last.max(now);
    }

    /// Takes what was seen, and begins anew.
    pub(super) fn take(&mut self, now: Nanos) -> Seen {
        self.sync(now);
        let length = self.last.saturating_sub(self.from) as f64;
        let (average, deviation) = if length > 0.0 {
            let average = self.sum / length;
            (average, (self.squares / length - average * average).max(0.0).sqrt())
        } else {
            (self.now, 0.0)
        };
        let seen = Seen { average, deviation, peak: self.peak, is_empty: length <= 0.0 };
        (self.sum, self.squares, self.peak, self.from) = (0.0, 0.0, self.now, self.last);
        seen
    }
}

/// What was seen over a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    average: f64,
    deviation: f64,
    peak: f64,
    is_empty: bool,
}

/// The demand as limits follow it: it rises at once and falls slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Smoothed {
    /// Over the last while.
    pub(super) average: f64,
    /// Over the last while.
    pub(super) deviation: f64,
    /// The most in the last while.
    pub(super) peak: u64,
    /// Smoothed over many whiles.
    pub(super) smoothed: f64,
}

impl Smoothed {
    pub(super) fn update(&mut self, seen: Seen) {
        // Not negative, and small.
        self.peak = seen.peak.round() as u64;
        if seen.is_empty {
            return;
        }
        (self.average, self.deviation) = (seen.average, seen.deviation);
        let envelope = seen.average + seen.deviation;
        self.smoothed = envelope.max(SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_deviation_and_peak() {
        let mut demand = Demand::default();
        demand.set(0, 4);
        demand.set(10, 0);
        let seen = demand.take(20);
        assert_eq!((seen.average, seen.deviation, seen.peak), (2.0, 2.0, 4.0));
        let seen = demand.take(30);
        assert_eq!((seen.average, seen.deviation, seen.peak), (0.0, 0.0, 0.0));
    }

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let mut smoothed = Smoothed::default();
        let seen = |average: f64| Seen { average, deviation: 0.0, peak: average, is_empty: false };
        smoothed.update(seen(100.0));
        assert_eq!(smoothed.smoothed, 100.0);
        smoothed.update(seen(0.0));
        assert!((smoothed.smoothed - 97.7).abs() < 1e-9);
        smoothed.update(Seen { is_empty: true, ..seen(3.0) });
        assert_eq!((smoothed.peak, smoothed.average), (3, 0.0));
    }
}
