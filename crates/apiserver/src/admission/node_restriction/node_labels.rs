//! The labels that a node may give itself.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Labels of Kubernetes' own domains that describe the machine.
const OWN: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
/// Domains, and those below them, that are for kubelets to use.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Labels by which administrators keep workloads apart.
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// The labels that changed and that a node may not change, sorted.
pub(super) fn forbidden(new: Option<&Map<String, Value>>, old: Option<&Map<String, Value>>) -> Vec<String> {
    let none = Map::new();
    let (new, old) = (new.unwrap_or(&none), old.unwrap_or(&none));
    let names: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = names.into_iter().filter(|name| new.get(*name) != old.get(*name));
    changed.filter(|name| is_forbidden(name)).cloned().collect()
}

fn is_in(domain: &str, of: &str) -> bool {
    domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'))
}

fn is_forbidden(name: &str) -> bool {
    let domain = name.split_once('/').map_or("", |(domain, _)| domain);
    if is_in(domain, RESTRICTED) {
        return true;
    }
    let is_kubernetes = is_in(domain, "kubernetes.io") || is_in(domain, "k8s.io");
    let is_own = OWN.contains(&name) || OWN_DOMAINS.iter().any(|own| is_in(domain, own));
    is_kubernetes && !is_own
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn which_labels_are_for_nodes() {
        let table = [
            ("example.com/a", false),
            ("plain", false),
            ("kubernetes.io/hostname", false),
            ("node.kubernetes.io/anything", false),
            ("x.kubelet.kubernetes.io/anything", false),
            ("xkubernetes.io/a", false),
            ("kubernetes.io/other", true),
            ("x.k8s.io/a", true),
            ("node-role.kubernetes.io/control-plane", true),
            ("node-restriction.kubernetes.io/a", true),
            ("team.node-restriction.kubernetes.io/a", true),
        ];
        for (name, expected) in table {
            assert_eq!(is_forbidden(name), expected, "{name}");
        }
    }

    #[test]
    fn only_changes_count() {
        let map = |value: Value| value.as_object().cloned();
        let old = map(json!({"k8s.io/kept": "1", "k8s.io/gone": "1", "k8s.io/changed": "1"}));
        let new = map(json!({"k8s.io/kept": "1", "k8s.io/changed": "2", "k8s.io/new": "1", "free": "1"}));
        assert_eq!(forbidden(new.as_ref(), old.as_ref()), ["k8s.io/changed", "k8s.io/gone", "k8s.io/new"]);
    }
}
