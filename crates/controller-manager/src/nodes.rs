//! What controllers ask of nodes: taints, selectors, conditions. Pure.

use api::types::core::v1::{
    Node, NodeCondition, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

/// A condition of its status.
#[must_use]
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// Its taints.
pub fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten())
}

/// Whether a toleration covers a taint.
#[must_use]
pub fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    let value = || taint.value.clone().unwrap_or_default();
    match text(&toleration.operator).as_str() {
        "" | "Equal" => text(&toleration.value) == value(),
        "Exists" => true,
        other => {
            let (Ok(limit), Ok(number)) = (text(&toleration.value).parse::<i64>(), value().parse::<i64>())
            else {
                return false;
            };
            other == "Gt" && number > limit || other == "Lt" && number < limit
        }
    }
}

/// Whether a node's labels and name are what a pod demands.
#[must_use]
pub fn satisfies(node: &Node, pod: &PodSpec) -> bool {
    let label =
        |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    if pod.node_selector.iter().flatten().any(|(key, value)| label(key) != Some(value)) {
        return false;
    }
    let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| fits(term, node, &label)))
}

fn fits<'a>(term: &NodeSelectorTerm, node: &'a Node, label: &impl Fn(&str) -> Option<&'a str>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |key: &str| node.metadata.name.as_deref().filter(|_| key == "metadata.name");
    expressions.iter().all(|one| holds(one, label(&one.key)))
        && fields.iter().all(|one| holds(one, field(&one.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let limit = number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => matches!((number(value), limit), (Some(number), Some(limit)) if number > limit),
        "Lt" => matches!((number(value), limit), (Some(number), Some(limit)) if number < limit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{node, object};

    #[test]
    fn tolerations_cover_taints_as_upstream_has_it() {
        let taint: Taint = object(json!({"key": "k", "value": "v", "effect": "NoExecute"}));
        let table = [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), false),
            (json!({"key": "j", "operator": "Exists"}), false),
        ];
        for (toleration, expected) in table {
            assert_eq!(covers(&object(toleration.clone()), &taint), expected, "{toleration}");
        }
    }

    #[test]
    fn selectors_and_affinity_both_count() {
        let node = node("a", json!({"metadata": {"labels": {"zone": "x", "size": "4"}}}));
        let affinity = |expression: serde_json::Value| {
            json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}})
        };
        let table = [
            (json!({"containers": []}), true),
            (json!({"containers": [], "nodeSelector": {"zone": "x"}}), true),
            (json!({"containers": [], "nodeSelector": {"zone": "y"}}), false),
            (affinity(json!({"key": "zone", "operator": "In", "values": ["x", "y"]})), true),
            (affinity(json!({"key": "zone", "operator": "NotIn", "values": ["x"]})), false),
            (affinity(json!({"key": "size", "operator": "Gt", "values": ["3"]})), true),
            (affinity(json!({"key": "gone", "operator": "Exists"})), false),
        ];
        for (spec, expected) in table {
            assert_eq!(satisfies(&node, &object(spec.clone())), expected, "{spec}");
        }
    }
}
