//! How many pods each replica set may have: surge, unavailability, and the
//! proportional split when a deployment is scaled in the middle of a rollout.

use api::IntOrString;
use api::types::apps::v1::Deployment;

/// A deployment's limits during a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) replicas: i32,
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

/// Whether the strategy is `RollingUpdate`.
pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// A number, or a percentage of `total`, rounded up or down.
pub(crate) fn resolve(value: Option<&IntOrString>, total: i32, up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or_default();
            let share = i64::from(total) * percent;
            let rounded = if up { (share + 99).div_euclid(100) } else { share.div_euclid(100) };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

impl Limits {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        if !is_rolling(deployment) {
            return Self { replicas, surge: 0, unavailable: 0 };
        }
        let rolling =
            spec.and_then(|spec| spec.strategy.as_ref()).and_then(|one| one.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
        let surge = resolve(Some(surge), replicas, true);
        let mut unavailable = resolve(Some(unavailable), replicas, false);
        if surge == 0 && unavailable == 0 {
            // Otherwise nothing could ever move.
            unavailable = 1;
        }
        Self { replicas, surge, unavailable: unavailable.min(replicas) }
    }

    /// The most pods at any time.
    pub(super) const fn most(self) -> i32 {
        self.replicas + self.surge
    }

    /// The fewest available pods at any time.
    pub(super) const fn fewest(self) -> i32 {
        self.replicas - self.unavailable
    }
}

/// A replica set in a proportional split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Its replicas now.
    pub(super) replicas: i32,
    /// The deployment's most pods when it was last scaled.
    pub(super) most_before: i32,
}

/// Splits a deployment's new size over its active replica sets in proportion to
/// their sizes; `parts` come in upstream's order (larger first, then newer on a
/// growth and older on a shrinkage). What rounding leaves goes to the first.
pub(super) fn split(parts: &[Part], limits: Limits) -> Vec<i32> {
    let total: i32 = parts.iter().map(|part| part.replicas).sum();
    let allowed = if limits.replicas > 0 { limits.most() } else { 0 };
    let to_add = allowed - total;
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(parts.len());
    for part in parts {
        let share = if to_add == 0 { 0 } else { share(*part, limits, to_add, added) };
        added += share;
        sizes.push(part.replicas + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    sizes
}

fn share(part: Part, limits: Limits, to_add: i32, added: i32) -> i32 {
    if part.replicas == 0 || to_add == added {
        return 0;
    }
    let fair = if limits.replicas == 0 {
        -part.replicas
    } else {
        let before = f64::from(part.most_before.max(1));
        let size = f64::from(part.replicas) * f64::from(limits.most()) / before;
        size.round() as i32 - part.replicas
    };
    let allowed = to_add - added;
    if to_add > 0 { fair.min(allowed) } else { fair.max(allowed) }
}
