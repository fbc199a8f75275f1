//! The tokens that a node may ask for: of the accounts of its pods, bound to
//! the pod, and for audiences that the pod names.

use api::Object;
use serde_json::Value;

use crate::authz::Attributes;
use crate::cache::WatchCache;

fn reference<'a>(asked: &'a Object, field: &str) -> &'a str {
    asked.text(&["spec", "boundObjectRef", field])
}

/// The pod that a token is to be bound to.
pub(super) fn bound_pod(asked: &Object) -> Result<&str, String> {
    let name = reference(asked, "name");
    if (reference(asked, "apiVersion"), reference(asked, "kind")) != ("v1", "Pod") || name.is_empty() {
        return Err("node requested token not bound to a pod".to_owned());
    }
    if reference(asked, "uid").is_empty() {
        return Err("node requested token with a pod binding without a uid".to_owned());
    }
    Ok(name)
}

/// Whether the pod is the one that is meant, and runs on the node.
pub(super) fn judge(asked: &Object, pod: &Object, node: &str) -> Result<(), String> {
    let uid = reference(asked, "uid");
    if uid != pod.uid() {
        return Err(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if pod.text(&["spec", "nodeName"]) != node {
        return Err("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    Ok(())
}

fn list<'a>(object: &'a Object, path: &[&str]) -> impl Iterator<Item = &'a Value> {
    object.at(path).and_then(Value::as_array).into_iter().flatten()
}

/// Whether the pod, a CSI driver of its volumes, or a role names the audience.
pub(super) fn judge_audience(
    asked: &Object,
    pod: &Object,
    cache: &WatchCache,
    may: impl Fn(&Attributes) -> bool,
) -> Result<(), String> {
    let audiences: Vec<&str> = list(asked, &["spec", "audiences"]).filter_map(Value::as_str).collect();
    let audience = match audiences.as_slice() {
        [] => "",
        [one] => one,
        _ => return Err("node may only request 0 or 1 audiences".to_owned()),
    };
    let named = list(pod, &["spec", "volumes"]).any(|volume| projects(volume, audience))
        || drivers(pod, cache).iter().any(|driver| drives(cache, driver, audience));
    let ask = Attributes {
        verb: "request-serviceaccounts-token-audience".to_owned(),
        version: "v1".to_owned(),
        resource: audience.to_owned(),
        namespace: pod.namespace().to_owned(),
        name: pod.text(&["spec", "serviceAccountName"]).to_owned(),
        ..Attributes::default()
    };
    if named || may(&ask) {
        return Ok(());
    }
    let node = pod.text(&["spec", "nodeName"]);
    Err(format!(
        "audience {audience:?} not found in pod spec volume, system:node:{node} is not authorized to request tokens for this audience"
    ))
}

fn projects(volume: &Value, audience: &str) -> bool {
    let sources = volume["projected"]["sources"].as_array().into_iter().flatten();
    let mut tokens = sources.map(|source| &source["serviceAccountToken"]).filter(|token| token.is_object());
    tokens.any(|token| token["audience"].as_str().unwrap_or_default() == audience)
}

/// The CSI drivers of a pod's volumes.
fn drivers(pod: &Object, cache: &WatchCache) -> Vec<String> {
    let of_claim = |name: &str| -> Option<String> {
        let claim = cache.resource("", "persistentvolumeclaims").get(pod.namespace(), name)?.object().ok()?;
        let volume = cache.resource("", "persistentvolumes").get("", claim.text(&["spec", "volumeName"]))?;
        let driver = volume.object().ok()?.text(&["spec", "csi", "driver"]).to_owned();
        (!driver.is_empty()).then_some(driver)
    };
    let driver = |volume: &Value| -> Option<String> {
        if let Some(driver) = volume["csi"]["driver"].as_str() {
            return Some(driver.to_owned());
        }
        if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
            return of_claim(claim);
        }
        let name = volume["name"].as_str().filter(|_| volume["ephemeral"].is_object())?;
        of_claim(&format!("{}-{name}", pod.name()))
    };
    list(pod, &["spec", "volumes"]).filter_map(driver).collect()
}

fn drives(cache: &WatchCache, driver: &str, audience: &str) -> bool {
    let found = cache.resource("storage.k8s.io", "csidrivers").get("", driver);
    let Some(driver) = found.and_then(|driver| driver.object().ok()) else { return false };
    list(&driver, &["spec", "tokenRequests"]).any(|one| one["audience"] == audience)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn tokens_are_bound_to_pods_of_the_node() {
        let ask = |kind: &str, name: &str, uid: &str| {
            object(json!({"spec": {"boundObjectRef":
                {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}}}))
        };
        assert_eq!(bound_pod(&ask("Pod", "p", "u")), Ok("p"));
        for bad in [ask("Secret", "p", "u"), ask("Pod", "", "u"), ask("Pod", "p", ""), object(json!({}))] {
            assert!(bound_pod(&bad).is_err(), "{bad:?}");
        }
        let pod = object(json!({"metadata": {"uid": "u"}, "spec": {"nodeName": "n"}}));
        assert_eq!(judge(&ask("Pod", "p", "u"), &pod, "n"), Ok(()));
        assert!(judge(&ask("Pod", "p", "v"), &pod, "n").is_err());
        assert!(judge(&ask("Pod", "p", "u"), &pod, "m").is_err());
    }

    #[test]
    fn audiences_are_those_of_projected_tokens() {
        let volume = |audience: Value| json!({"projected": {"sources": [{"configMap": {}}, {"serviceAccountToken": audience}]}});
        assert!(projects(&volume(json!({"path": "t"})), ""));
        assert!(projects(&volume(json!({"audience": "vault"})), "vault"));
        assert!(!projects(&volume(json!({"audience": "vault"})), "other"));
        assert!(!projects(&json!({"emptyDir": {}}), ""));
    }
}
