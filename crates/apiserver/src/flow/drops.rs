//! How long a refused client is told to wait: longer while many are refused.

/// The longest wait, in seconds.
const MOST: u64 = 32;

/// The refusals of one level.
#[derive(Debug)]
pub(super) struct Drops {
    /// Seconds, and the refusals in each.
    history: Vec<(u64, u64)>,
    second: u64,
    count: u64,
    wait: u64,
    changed: u64,
}

impl Default for Drops {
    fn default() -> Self {
        Self { history: Vec::new(), second: 0, count: 0, wait: 1, changed: 0 }
    }
}

impl Drops {
    /// Notes a refusal in a second; returns the seconds to wait.
    pub(super) fn note(&mut self, second: u64) -> u64 {
        if self.second == second {
            self.count += 1;
            return self.wait;
        }
        self.history.push((self.second, self.count));
        let keep = (2 * self.wait).min(MOST);
        self.history.retain(|(then, _)| second.saturating_sub(*then) <= keep);
        (self.second, self.count) = (second, 1);
        let recent = self.history.iter().filter(|(then, _)| second.saturating_sub(*then) <= self.wait);
        let refused: u64 = recent.map(|(_, count)| count).sum();
        if second.saturating_sub(self.changed) >= self.wait && refused >= 3 * self.wait {
            (self.wait, self.changed) = ((self.wait * 2).min(MOST), second);
        } else if refused < self.wait && self.wait > 1 {
            self.wait -= 1;
        }
        self.wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_the_refusals() {
        let mut drops = Drops::default();
        assert_eq!(drops.note(100), 1);
        for second in 101..200 {
            for _ in 0..200 {
                drops.note(second);
            }
        }
        assert_eq!(drops.note(200), MOST);
        for second in [400, 500, 600] {
            assert!(drops.note(second) < MOST, "it falls when few are refused");
        }
    }
}
