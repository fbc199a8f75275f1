//! What a node may do: look after itself and the pods bound to it, and read
//! just those secrets, config maps, claims and accounts that these pods use.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::Attributes;
use crate::cache::{Selected, WatchCache};
use crate::stored::Stored;

/// Pods whose references are remembered.
const REMEMBERED: usize = 20_000;

pub(super) struct NodeAuthorizer {
    cache: Arc<WatchCache>,
    /// By pod uid: the revision that was looked at, and what it refers to.
    references: Mutex<HashMap<String, (u64, Arc<References>)>>,
}

/// The names that a pod refers to, by resource.
#[derive(Debug, Default, PartialEq, Eq)]
struct References {
    secrets: Vec<String>,
    config_maps: Vec<String>,
    claims: Vec<String>,
    service_account: String,
}

impl NodeAuthorizer {
    pub(super) fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache, references: Mutex::default() }
    }

    pub(super) fn allows(&self, node: &str, ask: &Attributes) -> Result<(), String> {
        let verb = ask.verb.as_str();
        let reads = matches!(verb, "get" | "list" | "watch");
        match (ask.group.as_str(), ask.resource.as_str(), ask.subresource.as_str()) {
            ("", "secrets" | "configmaps" | "persistentvolumeclaims", "") => {
                self.allows_referenced(node, ask, reads)
            }
            ("", "persistentvolumeclaims", "status") => {
                self.allows_referenced(node, ask, matches!(verb, "update" | "patch"))
            }
            ("", "persistentvolumes", "") => (verb == "get").then_some(()).ok_or_else(only_read),
            ("", "serviceaccounts", "token") => {
                let used = verb == "create"
                    && self.any_pod(node, &ask.namespace, |pod| pod.service_account == ask.name);
                used.then_some(()).ok_or_else(|| unrelated(node, ask))
            }
            ("", "nodes", "" | "status") => match verb {
                "create" => Ok(()),
                "get" | "list" | "watch" if ask.name == node => Ok(()),
                "get" | "list" | "watch" if ask.name.is_empty() => {
                    Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
                }
                "get" | "list" | "watch" => {
                    Err(format!("node '{node}' cannot read '{}', only its own Node object", ask.name))
                }
                "update" | "patch" if ask.name == node => Ok(()),
                _ => Err(format!("node {node:?} cannot modify node {:?}", ask.name)),
            },
            ("", "pods", "") if verb == "create" => Ok(()),
            ("", "pods", "") if reads => {
                if ask.fields.required("spec.nodeName") == Some(node) {
                    return Ok(());
                }
                if ask.name.is_empty() {
                    return Err("can only list/watch pods with spec.nodeName field selector".to_owned());
                }
                let allowed = match self.cache.resource("", "pods").get(&ask.namespace, &ask.name) {
                    Some(pod) => pod.field("spec.nodeName") == Some(node),
                    // Not found says nothing; but a watch would see what comes.
                    None => verb == "get",
                };
                if allowed { Ok(()) } else { Err(unrelated(node, ask)) }
            }
            ("", "pods", "" | "status" | "eviction" | "resize")
                if matches!(verb, "update" | "patch" | "delete" | "create") =>
            {
                let pod = self.cache.resource("", "pods").get(&ask.namespace, &ask.name);
                match pod {
                    Some(pod) if pod.field("spec.nodeName") == Some(node) => Ok(()),
                    None => Ok(()),
                    Some(_) => Err(format!("node {node:?} can only modify pods that are bound to it")),
                }
            }
            ("", "services" | "namespaces", "") if reads => Ok(()),
            ("", "events", "") | ("events.k8s.io", "events", "") => {
                matches!(verb, "create" | "patch" | "update").then_some(()).ok_or_else(only_read)
            }
            ("coordination.k8s.io", "leases", "") => {
                let own = ask.namespace == "kube-node-lease" && (ask.name == node || verb == "create");
                own.then_some(()).ok_or_else(|| format!("node {node:?} can only access its own lease"))
            }
            ("node.k8s.io", "runtimeclasses", "") if reads => Ok(()),
            ("storage.k8s.io", "csidrivers" | "volumeattachments", "") if reads => Ok(()),
            ("storage.k8s.io", "csinodes", "") if ask.name == node || verb == "create" || reads => Ok(()),
            ("certificates.k8s.io", "certificatesigningrequests", "") => {
                matches!(verb, "create" | "get" | "list" | "watch").then_some(()).ok_or_else(only_read)
            }
            ("authentication.k8s.io", "tokenreviews", "")
            | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => Ok(()),
            _ => Err(String::new()),
        }
    }

    fn allows_referenced(&self, node: &str, ask: &Attributes, reads: bool) -> Result<(), String> {
        if !reads {
            return Err(only_read());
        }
        if ask.name.is_empty() {
            return Err(format!(
                "No Object name found: node {node:?} can only read {} one by one",
                ask.resource
            ));
        }
        let used = self.any_pod(node, &ask.namespace, |pod| {
            let names = match ask.resource.as_str() {
                "secrets" => &pod.secrets,
                "configmaps" => &pod.config_maps,
                _ => &pod.claims,
            };
            names.contains(&ask.name)
        });
        used.then_some(()).ok_or_else(|| unrelated(node, ask))
    }

    fn any_pod(&self, node: &str, namespace: &str, matches: impl Fn(&References) -> bool) -> bool {
        let selected = Selected { namespace: namespace.to_owned(), ..Selected::default() };
        let (pods, _) = self.cache.resource("", "pods").list(&selected, 0, None);
        let own = pods.iter().filter(|pod| pod.field("spec.nodeName") == Some(node));
        own.into_iter().any(|pod| matches(&self.references(pod)))
    }

    fn references(&self, pod: &Stored) -> Arc<References> {
        let mut known = self.references.lock();
        if let Some((revision, references)) = known.get(pod.uid())
            && *revision == pod.revision
        {
            return Arc::clone(references);
        }
        let read = serde_json::from_slice(&pod.json).map(|pod| find_references(&pod)).unwrap_or_default();
        let references = Arc::new(read);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(pod.uid().to_owned(), (pod.revision, Arc::clone(&references)));
        references
    }
}

fn only_read() -> String {
    "can only read".to_owned()
}

fn unrelated(node: &str, ask: &Attributes) -> String {
    format!("no relationship found between node {node:?} and this object {}/{}", ask.namespace, ask.name)
}

fn find_references(pod: &Value) -> References {
    let mut found = References {
        service_account: pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().to_owned(),
        ..References::default()
    };
    collect(&pod["spec"], &mut found);
    found
}

/// The fields under which a pod's spec names other objects.
fn collect(value: &Value, found: &mut References) {
    match value {
        Value::Object(map) => {
            for (key, below) in map {
                let name_in = |field: &str| below[field].as_str().map(str::to_owned);
                match key.as_str() {
                    "configMap" | "configMapRef" | "configMapKeyRef" => {
                        found.config_maps.extend(name_in("name"))
                    }
                    "secret" => found.secrets.extend(name_in("secretName").or_else(|| name_in("name"))),
                    "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => {
                        found.secrets.extend(name_in("name"))
                    }
                    "imagePullSecrets" => {
                        let names =
                            below.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str());
                        found.secrets.extend(names.map(str::to_owned));
                    }
                    "persistentVolumeClaim" => found.claims.extend(name_in("claimName")),
                    _ => {}
                }
                collect(below, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_refer_is_seen() {
        let pod = serde_json::json!({"spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "v", "secret": {"secretName": "vol"}},
                {"name": "c", "configMap": {"name": "cm"}},
                {"name": "p", "projected": {"sources": [{"secret": {"name": "proj"}}, {"configMap": {"name": "pcm"}}]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}},
            ],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}], "envFrom": [{"configMapRef": {"name": "env"}}]}],
        }});
        let mut found = find_references(&pod);
        found.secrets.sort();
        found.config_maps.sort();
        assert_eq!(found.secrets, ["key", "proj", "pull", "vol"]);
        assert_eq!(found.config_maps, ["cm", "env", "pcm"]);
        assert_eq!((found.claims, found.service_account), (vec!["claim".to_owned()], "sa".to_owned()));
    }
}
