//! The quality-of-service class of a pod (`pkg/apis/core/helper/qos`).

use std::collections::BTreeMap;

use api::{Object, Quantity};
use serde_json::Value;

use crate::fields::Fields;

/// `Guaranteed`, `Burstable` or `BestEffort`.
#[must_use]
pub fn qos_class(pod: &Object) -> &'static str {
    let spec = pod.field("spec");
    let whole = spec.field("resources");
    if whole.entries("requests").next().is_some() || whole.entries("limits").next().is_some() {
        return class(&[whole]);
    }
    let all: Vec<&Value> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| spec.list(list))
        .map(|container| container.field("resources"))
        .collect();
    class(&all)
}

fn class(all: &[&Value]) -> &'static str {
    let mut sums: [BTreeMap<&str, Quantity>; 2] = [BTreeMap::new(), BTreeMap::new()];
    let mut guaranteed = true;
    for resources in all {
        for (list, sum) in ["requests", "limits"].iter().zip(&mut sums) {
            let mut found = 0;
            for (name, value) in resources.entries(list) {
                let quantity: Quantity =
                    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(Quantity::ZERO);
                if matches!(name.as_str(), "cpu" | "memory") && quantity > Quantity::ZERO {
                    *sum.entry(name.as_str()).or_insert(Quantity::ZERO) += quantity;
                    found += 1;
                }
            }
            if *list == "limits" && found < 2 {
                guaranteed = false;
            }
        }
    }
    let [requests, limits] = sums;
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
