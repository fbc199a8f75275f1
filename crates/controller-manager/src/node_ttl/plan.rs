//! How long a node may keep what it was told.

use api::types::core::v1::Node;
use reconcile::{Action, Plan};
use serde_json::json;

const TTL: &str = "node.alpha.kubernetes.io/ttl";

/// A range of sizes, in nodes, and its time in seconds.
struct Step {
    fewest: usize,
    most: usize,
    seconds: u32,
}

/// The ranges overlap, so that a cluster at a border does not go back and forth.
const STEPS: [Step; 5] = [
    Step { fewest: 0, most: 100, seconds: 0 },
    Step { fewest: 90, most: 500, seconds: 15 },
    Step { fewest: 450, most: 1000, seconds: 30 },
    Step { fewest: 900, most: 2000, seconds: 60 },
    Step { fewest: 1800, most: usize::MAX, seconds: 300 },
];

pub(super) fn plan(node: &Node, count: usize) -> Plan {
    let told = node.metadata.annotations.as_ref().and_then(|all| all.get(TTL));
    let told = told.and_then(|text| text.parse::<u32>().ok());
    let seconds = seconds(told, count);
    if told == Some(seconds) {
        return Plan::default();
    }
    Plan::of(vec![Action::patch(node, json!({"metadata": {"annotations": {TTL: seconds.to_string()}}}))])
}

/// The time for a size; what was told before holds as long as its range has the size.
fn seconds(told: Option<u32>, count: usize) -> u32 {
    let mut steps = STEPS.iter().filter(|step| (step.fewest..=step.most).contains(&count));
    let lowest = steps.clone().next().map_or(0, |step| step.seconds);
    steps.find(|step| Some(step.seconds) == told).map_or(lowest, |step| step.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_grows_with_the_cluster_and_does_not_flap() {
        let table = [
            (None, 1, 0),
            (Some(0), 100, 0),
            (Some(0), 101, 15),
            (Some(15), 95, 15),
            (Some(15), 89, 0),
            (None, 95, 0),
            (Some(7), 600, 30),
            (Some(60), 5000, 300),
            (Some(300), 1800, 300),
            (Some(300), 1799, 60),
        ];
        for (told, count, expected) in table {
            assert_eq!(seconds(told, count), expected, "{told:?} at {count}");
        }
        let node = crate::testing::node("n", json!({"metadata": {"annotations": {TTL: "0"}}}));
        assert_eq!(plan(&node, 3), Plan::default());
        assert_eq!(plan(&node, 300).actions.len(), 1);
    }
}
