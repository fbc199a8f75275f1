//! Which part each node gets.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::Node;
use client::events::reference;
use ipnet::IpNet;
use reconcile::{Action, Plan};
use serde_json::json;

use crate::owners;

/// Nodes served in one plan.
const BATCH: usize = 100;

/// A range of the cluster and the prefix length of its parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) range: IpNet,
    pub(super) size: u8,
}

/// The parts that a node has.
pub(super) fn parts_of(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let texts = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    texts.filter_map(|text| text.parse().ok()).collect()
}

pub(super) fn plan(nodes: &[Arc<Node>], ranges: &[Range]) -> Plan {
    let mut plan = Plan::default();
    let taken: HashSet<IpNet> = nodes.iter().flat_map(|node| parts_of(node)).collect();
    let mut free: Vec<_> = ranges
        .iter()
        .map(|range| {
            let parts = range.range.subnets(range.size.max(range.range.prefix_len())).ok();
            // A part that overlaps one of another size is taken as well.
            let is_free = |part: &IpNet| {
                !taken.contains(part) && !taken.iter().any(|one| one.contains(part) || part.contains(one))
            };
            parts.into_iter().flatten().filter(is_free)
        })
        .collect();
    let mut waiting: Vec<&Arc<Node>> = nodes.iter().filter(|node| parts_of(node).is_empty()).collect();
    waiting.sort_by_key(|node| owners::name(&***node));
    for node in waiting.into_iter().take(BATCH) {
        let parts: Option<Vec<String>> =
            free.iter_mut().map(|free| free.next().map(|part| part.to_string())).collect();
        match parts {
            Some(parts) => {
                let change = json!({"spec": {"podCIDR": parts.first(), "podCIDRs": parts}});
                plan.actions.push(Action::patch_unchanged(&**node, change));
            }
            None => {
                let text = format!("Node {} status is now: CIDRNotAvailable", owners::name(&**node));
                plan.actions.push(Action::normal(reference(&**node), "CIDRNotAvailable", text));
                plan.wake(Duration::from_secs(60));
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::node;

    #[test]
    fn each_node_gets_a_part_that_nobody_has_until_there_is_none() {
        let range = Range { range: "10.244.0.0/22".parse().expect("a range"), size: 24 };
        let with = |name: &str, part: &str| {
            Arc::new(node(name, json!({"spec": {"podCIDR": part, "podCIDRs": [part]}})))
        };
        let without = |name: &str| Arc::new(node(name, json!({})));
        let nodes = [with("a", "10.244.1.0/24"), without("b"), without("c"), without("d"), without("e")];
        let text = format!("{:?}", plan(&nodes, &[range]));
        for part in ["10.244.0.0/24", "10.244.2.0/24", "10.244.3.0/24"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(
            !text.contains("10.244.1.0/24") && text.contains("Node e status is now: CIDRNotAvailable"),
            "{text}"
        );
    }
}
