//! How fast a target may grow and shrink: recent recommendations steady the size,
//! policies limit its change. Pure.

use std::time::Duration;

use api::types::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};
use jiff::Timestamp;

/// What is remembered of an autoscaler.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History {
    /// What metrics called for, and when.
    pub(super) recommendations: Vec<(Timestamp, i32)>,
    /// Changes of the size, growth positive, and when.
    pub(super) changes: Vec<(Timestamp, i32)>,
}

/// A size in question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) behavior: Option<&'a HorizontalPodAutoscalerBehavior>,
    pub(super) history: &'a History,
    pub(super) least: i32,
    pub(super) most: i32,
    pub(super) current: i32,
    /// What the metrics call for.
    pub(super) wanted: i32,
    /// How long a shrinkage waits where the autoscaler does not say.
    pub(super) downscale_stabilization: Duration,
    pub(super) now: Timestamp,
}

/// A size, and why it is that: a condition's status, reason and message.
pub(super) struct Answer {
    pub(super) replicas: i32,
    pub(super) able: (&'static str, &'static str),
    pub(super) limited: (bool, &'static str, &'static str),
}

/// The rules that hold where an autoscaler has some of its own, but not these.
fn default_rules(up: bool) -> HPAScalingRules {
    let policy = |kind: &str, value| HPAScalingPolicy { type_: kind.to_owned(), value, period_seconds: 15 };
    HPAScalingRules {
        select_policy: Some("Max".to_owned()),
        stabilization_window_seconds: up.then_some(0),
        policies: Some(if up {
            vec![policy("Pods", 4), policy("Percent", 100)]
        } else {
            vec![policy("Percent", 100)]
        }),
        tolerance: None,
    }
}

const STEADY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const LOWER: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const HIGHER: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_FAST_UP: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

impl Question<'_> {
    fn recent(&self, window: Duration) -> impl Iterator<Item = i32> {
        let opens = self.now.checked_sub(window).unwrap_or(Timestamp::MIN);
        let all = self.history.recommendations.iter();
        all.filter(move |(at, _)| *at > opens).map(|(_, recommendation)| *recommendation)
    }

    pub(super) fn answer(&self) -> Answer {
        let (steadied, able) = match self.behavior {
            Some(behavior) => self.steadied_by(behavior),
            None => {
                let recent = self.recent(self.downscale_stabilization);
                (recent.fold(self.wanted, i32::max), HIGHER)
            }
        };
        let able = if steadied == self.wanted { STEADY } else { able };
        let (replicas, why) = match self.behavior {
            Some(behavior) => self.limited_by(behavior, steadied),
            None => self.limited(steadied),
        };
        Answer { replicas, able, limited: (replicas != steadied, why.0, why.1) }
    }

    fn steadied_by(&self, behavior: &HorizontalPodAutoscalerBehavior) -> (i32, (&'static str, &'static str)) {
        let window = |rules: Option<&HPAScalingRules>, default: Duration| {
            let seconds = rules.and_then(|rules| rules.stabilization_window_seconds);
            seconds.map_or(default, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
        };
        let up = window(behavior.scale_up.as_ref(), Duration::ZERO);
        let down = window(behavior.scale_down.as_ref(), self.downscale_stabilization);
        let lowest = self.recent(up).fold(self.wanted, i32::min);
        let highest = self.recent(down).fold(self.wanted, i32::max);
        let steadied = self.current.max(lowest).min(highest);
        (steadied, if self.wanted >= self.current { LOWER } else { HIGHER })
    }

    /// Without rules of its own a target may double, and small ones may become four.
    fn limited(&self, wanted: i32) -> (i32, (&'static str, &'static str)) {
        let fastest = self.current.saturating_mul(2).max(4);
        let (most, why) = if self.most > fastest { (fastest, TOO_FAST_UP) } else { (self.most, TOO_MANY) };
        if wanted < self.least {
            (self.least, TOO_FEW)
        } else if wanted > most {
            (most, why)
        } else {
            (wanted, WITHIN)
        }
    }

    fn limited_by(
        &self,
        behavior: &HorizontalPodAutoscalerBehavior,
        wanted: i32,
    ) -> (i32, (&'static str, &'static str)) {
        let current = self.current;
        if wanted > current {
            let rules = behavior.scale_up.clone().unwrap_or_else(|| default_rules(true));
            let fastest = self.rate_limit(&rules, true).max(current);
            let (most, why) =
                if self.most > fastest { (fastest, TOO_FAST_UP) } else { (self.most, TOO_MANY) };
            if wanted > most {
                return (most, why);
            }
        } else if wanted < current {
            let rules = behavior.scale_down.clone().unwrap_or_else(|| default_rules(false));
            let fastest = self.rate_limit(&rules, false).min(current);
            let (least, why) =
                if self.least < fastest { (fastest, TOO_FAST_DOWN) } else { (self.least, TOO_FEW) };
            if wanted < least {
                return (least, why);
            }
        }
        (wanted, WITHIN)
    }

    /// The size to which policies let a target go now.
    fn rate_limit(&self, rules: &HPAScalingRules, up: bool) -> i32 {
        let select = rules.select_policy.as_deref().unwrap_or("Max");
        if select == "Disabled" {
            return self.current;
        }
        let defaults = default_rules(up).policies;
        let policies = rules.policies.as_ref().or(defaults.as_ref());
        let limits = policies.into_iter().flatten().map(|policy| self.policy_limit(policy, up));
        // The larger change lies higher when growing, lower when shrinking.
        let limit = if (select == "Min") == up { limits.min() } else { limits.max() };
        limit.unwrap_or(self.current)
    }

    fn policy_limit(&self, policy: &HPAScalingPolicy, up: bool) -> i32 {
        let period = Duration::from_secs(u64::try_from(policy.period_seconds).unwrap_or_default());
        let opens = self.now.checked_sub(period).unwrap_or(Timestamp::MIN);
        let changes = self.history.changes.iter().filter(|(at, _)| *at > opens);
        let start = self.current - changes.map(|(_, change)| change).sum::<i32>();
        let share = f64::from(start) * f64::from(policy.value) / 100.0;
        match (policy.type_.as_str(), up) {
            ("Pods", true) => start.saturating_add(policy.value),
            ("Pods", false) => start.saturating_sub(policy.value),
            // Rounded so that a small share still is a change.
            (_, true) => (f64::from(start) + share).ceil() as i32,
            (_, false) => (f64::from(start) - share) as i32,
        }
    }
}
