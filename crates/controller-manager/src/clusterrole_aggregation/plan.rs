//! The rules that a cluster role has from others.

use std::sync::Arc;

use api::LabelSelector;
use api::types::rbac::v1::{ClusterRole, PolicyRule};
use reconcile::{Action, Plan};
use serde_json::json;

use crate::owners;

pub(super) fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Plan {
    let Some(rule) = &role.aggregation_rule else { return Plan::default() };
    let mut others: Vec<&Arc<ClusterRole>> =
        all.iter().filter(|other| owners::name(&***other) != owners::name(role)).collect();
    others.sort_by_key(|other| owners::name(&***other));
    let mut rules: Vec<&PolicyRule> = Vec::new();
    for selector in rule.cluster_role_selectors.iter().flatten() {
        let Ok(selector) = LabelSelector::from_api(Some(selector)) else { return Plan::default() };
        let selected = others.iter().filter(|other| selector.matches(&other.metadata.labels));
        for rule in selected.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    if rules.iter().copied().eq(role.rules.iter().flatten()) {
        return Plan::default();
    }
    Plan::of(vec![Action::patch_unchanged(role, json!({"rules": rules}))])
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::object;

    fn role(name: &str, label: &str, resources: &[&str]) -> ClusterRole {
        let rules: Vec<Value> =
            resources.iter().map(|one| json!({"verbs": ["get"], "resources": [one]})).collect();
        object(json!({"metadata": {"name": name, "uid": name, "labels": {label: "true"}}, "rules": rules}))
    }

    #[test]
    fn a_role_has_the_rules_of_those_it_selects_by_name_and_once() {
        let others = [role("b", "to-view", &["pods", "nodes"]), role("a", "to-view", &["services", "pods"])];
        let others: Vec<Arc<ClusterRole>> =
            others.into_iter().chain([role("c", "to-edit", &["secrets"])]).map(Arc::new).collect();
        let mut made = role("view", "to-view", &["stale"]);
        made.aggregation_rule =
            Some(object(json!({"clusterRoleSelectors": [{"matchLabels": {"to-view": "true"}}]})));
        let planned = plan(&made, &others);
        let [Action::Patch { patch: client::Patch::Merge(patch), .. }] = &planned.actions[..] else {
            panic!("{planned:?}")
        };
        let resources: Vec<&Value> =
            patch["rules"].as_array().into_iter().flatten().map(|rule| &rule["resources"][0]).collect();
        assert_eq!(resources, ["services", "pods", "nodes"]);
        made.rules = serde_json::from_value(patch["rules"].clone()).expect("rules");
        assert_eq!(plan(&made, &others), Plan::default());
        assert_eq!(plan(&others[0], &others), Plan::default(), "it is made of no others");
    }
}
