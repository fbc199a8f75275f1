//! When a node is short of something: `--eviction-hard`, as upstream writes it.

use std::str::FromStr;

use api::Quantity;

/// Amounts below which the node is under pressure.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    memory: Amount,
    disk: Amount,
}

/// An absolute amount, or a share of what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    Bytes(u64),
    Percent(f64),
}

impl Amount {
    fn is_short(self, available: u64, total: u64) -> bool {
        match self {
            Self::Bytes(least) => available < least,
            Self::Percent(least) => total > 0 && (available as f64) < total as f64 * least / 100.0,
        }
    }
}

impl Default for Thresholds {
    /// Upstream's.
    fn default() -> Self {
        Self { memory: Amount::Bytes(100 << 20), disk: Amount::Percent(10.0) }
    }
}

impl FromStr for Thresholds {
    type Err = String;

    /// Reads `memory.available<100Mi,nodefs.available<10%`; what is not named keeps
    /// its default.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let (signal, amount) =
                one.split_once('<').ok_or_else(|| format!("{one:?} is not SIGNAL<AMOUNT"))?;
            let bad = || format!("{amount:?} is neither a quantity nor a percentage");
            let amount = match amount.strip_suffix('%') {
                Some(share) => {
                    let share: f64 = share.parse().map_err(|_| bad())?;
                    if !(0.0..=100.0).contains(&share) {
                        return Err(bad());
                    }
                    Amount::Percent(share)
                }
                None => {
                    let quantity: Quantity = amount.parse().map_err(|_| bad())?;
                    Amount::Bytes(u64::try_from(quantity.units()).map_err(|_| bad())?)
                }
            };
            match signal {
                "memory.available" => all.memory = amount,
                "nodefs.available" => all.disk = amount,
                other => {
                    return Err(format!(
                        "unknown signal {other:?}: memory.available and nodefs.available are known"
                    ));
                }
            }
        }
        Ok(all)
    }
}

impl Thresholds {
    pub(super) fn is_memory_short(&self, available: u64, total: u64) -> bool {
        self.memory.is_short(available, total)
    }

    pub(super) fn is_disk_short(&self, available: u64, total: u64) -> bool {
        self.disk.is_short(available, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read() {
        let upstream = Thresholds::default();
        assert!(upstream.is_disk_short(9, 100) && !upstream.is_disk_short(10, 100));
        assert!(upstream.is_memory_short(99 << 20, 1 << 40));
        let own: Thresholds = "nodefs.available<1%,memory.available<1Gi".parse().expect("reads");
        assert!(!own.is_disk_short(9, 100) && own.is_disk_short(0, 100));
        assert!(own.is_memory_short(1 << 29, 1 << 40));
        assert_eq!("".parse(), Ok(upstream));
        for bad in [
            "nodefs.available",
            "nodefs.available<x",
            "nodefs.available<200%",
            "pid<1",
            "memory.available<-1",
        ] {
            assert!(bad.parse::<Thresholds>().is_err(), "{bad}");
        }
    }
}
