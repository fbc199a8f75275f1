//! What a pod's spec needs from the API server: static pods and their mirrors
//! may need nothing (upstream's `HasAPIObjectReference`).

use serde_json::Value;

/// The resource of some API object that a pod's spec refers to, if it does:
/// the first that is found.
#[must_use]
pub fn first(spec: &Value) -> Option<&'static str> {
    let is_named = |value: &Value| value.as_str().is_some_and(|name| !name.is_empty());
    if is_named(&spec["serviceAccountName"]) || is_named(&spec["serviceAccount"]) {
        return Some("serviceaccounts");
    }
    if spec["resourceClaims"].as_array().is_some_and(|claims| !claims.is_empty()) {
        return Some("resourceclaims");
    }
    below(spec)
}

/// Walks the places where a spec can name another object.
fn below(value: &Value) -> Option<&'static str> {
    match value {
        Value::Object(map) => map.iter().filter(|(_, inner)| !inner.is_null()).find_map(|(key, inner)| {
            match key.as_str() {
                "secret" | "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => Some("secrets"),
                "imagePullSecrets" => {
                    inner.as_array().is_some_and(|list| !list.is_empty()).then_some("secrets")
                }
                "configMap" | "configMapRef" | "configMapKeyRef" => Some("configmaps"),
                "persistentVolumeClaim" | "ephemeral" => Some("persistentvolumeclaims"),
                "serviceAccountToken" => Some("serviceaccounts"),
                "clusterTrustBundle" => Some("clustertrustbundles"),
                "podCertificate" => Some("podcertificaterequests"),
                "csi" => Some("csidrivers"),
                // Free text, not references.
                "command" | "args" | "nodeSelector" | "affinity" | "topologySpreadConstraints" => None,
                _ => below(inner),
            }
        }),
        Value::Array(items) => items.iter().find_map(below),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_to_refer() {
        let volume = |source: Value| json!({"volumes": [source]});
        let cases = [
            (json!({"containers": [{"name": "c"}]}), None),
            (json!({"serviceAccountName": ""}), None),
            (json!({"serviceAccountName": "x"}), Some("serviceaccounts")),
            (json!({"imagePullSecrets": []}), None),
            (json!({"imagePullSecrets": [{"name": "s"}]}), Some("secrets")),
            (json!({"resourceClaims": [{"name": "r"}]}), Some("resourceclaims")),
            (json!({"containers": [{"envFrom": [{"configMapRef": {"name": "m"}}]}]}), Some("configmaps")),
            (
                json!({"initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]}),
                Some("secrets"),
            ),
            (volume(json!({"emptyDir": {}, "hostPath": {"path": "/"}})), None),
            (volume(json!({"csi": {"driver": "d"}})), Some("csidrivers")),
            (volume(json!({"ephemeral": {}})), Some("persistentvolumeclaims")),
            (volume(json!({"projected": {"sources": [{"downwardAPI": {}}]}})), None),
            (
                volume(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
                Some("serviceaccounts"),
            ),
            (json!({"affinity": {"secret": {}}, "nodeSelector": {"csi": "yes"}}), None),
        ];
        for (spec, expected) in cases {
            assert_eq!(first(&spec), expected, "{spec}");
        }
    }
}
