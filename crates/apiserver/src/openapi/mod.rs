//! OpenAPI v3 documents, one for each group version, made from the schema that
//! the server itself decodes with, so that they cannot disagree.

mod paths;
pub(crate) mod v2;
pub(crate) mod wire;

use std::sync::Arc;

use resources::Descriptor;
use resources::openapi::components;
use serde_json::{Map, Value, json};

/// The document of one group version.
#[must_use]
pub(crate) fn document(kinds: &[Arc<Descriptor>], group: &str, version: &str) -> Value {
    let own: Vec<_> = kinds.iter().filter(|kind| kind.group == group && kind.version == version).collect();
    let mut paths = Map::new();
    for kind in &own {
        paths.extend(paths::of_kind(kind));
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths,
        "components": components(kinds, group, version),
    })
}

#[cfg(test)]
mod tests {
    use resources::Catalogue;

    use super::*;

    #[test]
    fn every_reference_resolves() {
        let kinds: Vec<_> = Catalogue::built_in().iter().cloned().collect();
        let document = document(&kinds, "apps", "v1");
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let text = document.to_string();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().expect("closed");
            assert!(schemas.contains_key(name), "{name}");
        }
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(
            schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"][0]["kind"],
            "Deployment"
        );
    }
}
