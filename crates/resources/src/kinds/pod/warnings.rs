//! Advice on pods and pod templates (`pkg/api/pod/warnings.go`).

use api::Object;
use serde_json::Value;

use crate::fields::Fields;
use crate::names;

/// Advice on a new pod.
pub(super) fn on_create(pod: &Object) -> Vec<String> {
    let mut found = Vec::new();
    let name = names::label(pod.name());
    if !name.is_empty() {
        found.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
            name.join(" ")
        ));
    }
    found.extend(on_spec(pod.field("spec"), "spec"));
    found
}

/// Advice on a spec at a path.
pub(crate) fn on_spec(spec: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for key in spec.field("nodeSelector").as_object().into_iter().flatten().map(|(key, _)| key) {
        let replacement = match key.as_str() {
            "beta.kubernetes.io/arch" => "kubernetes.io/arch",
            "beta.kubernetes.io/os" => "kubernetes.io/os",
            "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
            "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
            "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
            _ => continue,
        };
        found
            .push(format!("{path}.nodeSelector[{key}]: deprecated since v1.14; use {replacement:?} instead"));
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in spec.list(list).iter().enumerate() {
            let env: Vec<&str> = container.list("env").iter().map(|one| one.text("name")).collect();
            for (at, name) in env.iter().enumerate() {
                if env[..at].contains(name) {
                    found.push(format!(
                        "{path}.{list}[{index}].env[{at}]: hides previous definition of {name:?}, which may be dropped when using apply"
                    ));
                }
            }
        }
    }
    if spec.int("terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        found.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    found
}
