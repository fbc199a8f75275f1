//! One manifest to one static pod, or the reason why not: upstream's rules for
//! pods from files, with the API's own defaults and validation.
//!
//! Pure, but for the time that the caller gives.

use std::sync::Arc;

use api::Object;
use api::types::core::v1::Pod;
use jiff::Timestamp;
use resources::kinds::pod::references;
use resources::{Catalogue, Descriptor};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::pod;

/// A manifest that is no pod for this node.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Neither YAML nor JSON.
    #[error("read manifest")]
    Syntax(#[from] api::yaml::YamlError),
    /// Something else than a pod.
    #[error("{0}")]
    NotAPod(String),
    /// A pod that breaks the API's rules.
    #[error("invalid pod: {0}")]
    Invalid(String),
    /// A pod that needs what only the API server has.
    #[error("cannot use it as a static pod: it refers to {0}")]
    Reference(&'static str),
}

/// What turns manifests into pods.
#[derive(Clone)]
pub struct Decoder {
    kind: Arc<Descriptor>,
    node: String,
}

impl Decoder {
    /// A decoder for the node of that name.
    ///
    /// # Panics
    /// If the catalogue has no pods, which it always has.
    #[must_use]
    pub fn new(node: &str) -> Self {
        let kind = Catalogue::built_in().find("", "v1", "pods").cloned();
        Self { kind: kind.expect("pods are in the catalogue"), node: node.to_owned() }
    }

    /// The pod of a manifest. Its uid is the hash of the manifest, the node's
    /// name and `origin`, unless the manifest has one; so a changed manifest is
    /// another pod, and an unchanged one is the same after every restart.
    ///
    /// # Errors
    /// Why it is not a pod for this node.
    pub fn decode(&self, text: &str, origin: &str, now: Timestamp) -> Result<Pod, ManifestError> {
        let value = api::yaml::parse(text)?;
        let mut object = Object::from_value(value)
            .map_err(|error| ManifestError::NotAPod(format!("expected an object, found {}", error.found)))?;
        if (object.api_version(), object.kind()) != ("v1", "Pod") {
            let found = format!("expected a v1 Pod, found {:?} {:?}", object.api_version(), object.kind());
            return Err(ManifestError::NotAPod(found));
        }
        let (schema, shape) = &**self.kind.shape;
        let conformed = api::schema::conform(schema, *shape, object.as_map_mut())
            .map_err(|error| ManifestError::NotAPod(error.to_string()))?;
        if !conformed.unknown.is_empty() {
            tracing::warn!(origin, fields = ?conformed.unknown, "unknown fields in a manifest");
        }
        self.settle(&mut object, origin, now);
        self.kind.strategy.default(&mut object);
        let mut errors = resources::metadata::validate(&self.kind, &object);
        errors.extend(self.kind.strategy.validate(&object));
        if !errors.is_empty() {
            return Err(ManifestError::Invalid(api::field::aggregate(&errors)));
        }
        if let Some(what) = references::first(object.get("spec").unwrap_or(&Value::Null)) {
            return Err(ManifestError::Reference(what));
        }
        object.to_typed().map_err(|error| ManifestError::NotAPod(error.to_string()))
    }

    /// What the kubelet, rather than the manifest, says about a static pod.
    fn settle(&self, object: &mut Object, origin: &str, now: Timestamp) {
        if object.uid().is_empty() {
            let mut hash = Sha256::new();
            for part in [self.node.as_bytes(), origin.as_bytes(), object.to_vec().as_slice()] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            object.set_at(&["metadata", "uid"], pod::hex(&hash.finalize()[..16]));
        }
        let uid = object.uid().to_owned();
        if !object.name().is_empty() {
            let name = format!("{}-{}", object.name(), self.node.to_lowercase());
            object.set_at(&["metadata", "name"], name);
        }
        if object.namespace().is_empty() {
            object.set_at(&["metadata", "namespace"], "default");
        }
        for (key, value) in [
            (pod::CONFIG_SOURCE, "file".to_owned()),
            (pod::CONFIG_HASH, uid),
            (pod::CONFIG_SEEN, now.to_string()),
        ] {
            object.set_at(&["metadata", "annotations", key], value);
        }
        object.remove_at(&["metadata", "annotations", pod::CONFIG_MIRROR]);
        object.set_at(&["spec", "nodeName"], self.node.as_str());
        // Taints that drive pods away do not concern pods that nobody placed.
        let mut tolerations =
            object.at(&["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
        tolerations.push(json!({"operator": "Exists", "effect": "NoExecute"}));
        object.set_at(&["spec", "tolerations"], tolerations);
        object.set("status", json!({"phase": "Pending"}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec:\n  containers:\n  - {name: c, image: busybox}\n";

    fn decode(text: &str) -> Result<Pod, ManifestError> {
        Decoder::new("node-1").decode(text, "/etc/manifests/web.yaml", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_pod_is_settled_on_the_node() {
        let pod = decode(PLAIN).expect("a pod");
        let id = pod::id(&pod);
        assert_eq!((id.namespace.as_str(), id.name.as_str()), ("default", "web-node-1"));
        assert_eq!(id.uid.len(), 32);
        assert!(pod::is_static(&pod) && !pod::is_mirror(&pod));
        assert_eq!(pod::annotation(&pod, pod::CONFIG_HASH), Some(id.uid.as_str()));
        assert_eq!(pod::annotation(&pod, pod::CONFIG_SEEN), Some("1970-01-01T00:00:00Z"));
        let spec = pod::spec(&pod);
        assert_eq!(spec.node_name.as_deref(), Some("node-1"));
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"), "defaulted as by the API server");
        let tolerations = spec.tolerations.as_deref().expect("tolerations");
        assert_eq!(tolerations[0].effect.as_deref(), Some("NoExecute"));
    }

    #[test]
    fn the_uid_follows_the_content() {
        let uid = |text: &str| pod::id(&decode(text).expect("a pod")).uid;
        let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"a":"b"},"name":"web"},"spec":{"containers":[{"image":"busybox","name":"c"}]}}"#;
        assert_eq!(uid(PLAIN), uid(&format!("# a comment\n{PLAIN}")));
        assert_eq!(uid(PLAIN), uid(json));
        assert_ne!(uid(PLAIN), uid(&PLAIN.replace("busybox", "busybox:2")));
        let own = PLAIN.replace("name: web", "name: web, uid: my-own");
        assert_eq!(uid(&own), "my-own");
        let elsewhere =
            Decoder::new("node-2").decode(PLAIN, "/etc/manifests/web.yaml", Timestamp::UNIX_EPOCH);
        assert_ne!(uid(PLAIN), pod::id(&elsewhere.expect("a pod")).uid);
    }

    #[test]
    fn what_is_refused() {
        let with = |spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {spec}\n");
        let container = "containers: [{name: c, image: i}]";
        let cases = [
            ("a: [".to_owned(), "read manifest"),
            ("[]".to_owned(), "expected an object"),
            (PLAIN.replace("kind: Pod", "kind: Service"), "expected a v1 Pod"),
            (PLAIN.replace("name: web", "name: WEB_"), "metadata.name"),
            (with("{containers: []}"), "spec.containers"),
            (with(&format!("{{{container}, serviceAccountName: x}}")), "serviceaccounts"),
            (with(&format!("{{{container}, imagePullSecrets: [{{name: s}}]}}")), "secrets"),
            (with(&format!("{{{container}, volumes: [{{name: v, configMap: {{name: m}}}}]}}")), "configmaps"),
            (
                with(&format!(
                    "{{{container}, volumes: [{{name: v, persistentVolumeClaim: {{claimName: m}}}}]}}"
                )),
                "persistentvolumeclaims",
            ),
            (
                with(
                    "{containers: [{name: c, image: i, env: [{name: E, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]}",
                ),
                "secrets",
            ),
        ];
        for (text, expected) in cases {
            let error = decode(&text).expect_err(&text);
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
        let allowed = with(&format!(
            "{{{container}, volumes: [{{name: h, hostPath: {{path: /x}}}}, {{name: e, emptyDir: {{}}}}]}}"
        ));
        decode(&allowed).expect("needs nothing from the API server");
    }
}
