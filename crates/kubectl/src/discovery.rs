//! Which resources the server has, and which one a word on the command line
//! means.

use std::sync::Arc;

use serde_json::Value;

use crate::error::Error;

/// One resource in one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) verbs: Vec<String>,
    pub(crate) subresources: Vec<String>,
}

impl Resource {
    /// `apps/v1`, or `v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `deployment.apps`, as messages name an object's type.
    pub(crate) fn label(&self) -> String {
        api::status::qualified(&self.group, &self.kind.to_lowercase())
    }

    /// `deployments.apps`.
    pub(crate) fn qualified(&self) -> String {
        api::status::qualified(&self.group, &self.plural)
    }

    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }

    pub(crate) fn target(&self, namespace: &str, name: &str) -> client::Target {
        client::Target {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.plural.clone(),
            subresource: String::new(),
            namespace: if self.namespaced { namespace.to_owned() } else { String::new() },
            name: name.to_owned(),
        }
    }
}

/// Everything that the server has, the preferred version of each group first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Discovery {
    pub(crate) resources: Vec<Arc<Resource>>,
    /// Groups with their versions, in the server's order.
    pub(crate) groups: Vec<(String, Vec<String>)>,
}

impl Discovery {
    /// Reads an `APIGroupDiscoveryList`.
    pub(crate) fn parse(list: &Value) -> Self {
        let mut found = Self::default();
        for group in array(list, "items") {
            let name = text(&group["metadata"], "name");
            let mut versions = Vec::new();
            for version in array(group, "versions") {
                versions.push(text(version, "version"));
                for resource in array(version, "resources") {
                    found.resources.push(Arc::new(read(&name, &text(version, "version"), resource)));
                }
            }
            found.groups.push((name, versions));
        }
        found
    }

    /// The resource that a word means: `pods`, `po`, `Pod`, `deploy.apps`,
    /// `deployments.v1.apps`.
    pub(crate) fn find(&self, word: &str) -> Result<Arc<Resource>, Error> {
        let lower = word.to_lowercase();
        let whole = |resource: &&Arc<Resource>| is_named(resource, &lower);
        if let Some(found) = self.resources.iter().find(whole) {
            return Ok(found.clone());
        }
        if let Some((name, rest)) = lower.split_once('.') {
            let (version, group) = rest.split_once('.').unwrap_or((rest, ""));
            let fits = |resource: &&Arc<Resource>| {
                is_named(resource, name)
                    && (resource.group == rest || (resource.version == version && resource.group == group))
            };
            let prefix = |resource: &&Arc<Resource>| {
                is_named(resource, name) && resource.group.split('.').next() == Some(rest)
            };
            let mut all = self.resources.iter();
            if let Some(found) = all.find(fits).or_else(|| self.resources.iter().find(prefix)) {
                return Ok(found.clone());
            }
        }
        Err(Error::said(format!("the server doesn't have a resource type {word:?}")))
    }

    /// The resources of a category such as `all`.
    pub(crate) fn category(&self, name: &str) -> Vec<Arc<Resource>> {
        let mut found: Vec<Arc<Resource>> = Vec::new();
        for resource in &self.resources {
            let known = found.iter().any(|one| one.group == resource.group && one.plural == resource.plural);
            if !known && resource.categories.iter().any(|one| one == name) {
                found.push(resource.clone());
            }
        }
        found
    }

    /// The resource of an object's `apiVersion` and `kind`.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Result<Arc<Resource>, Error> {
        let fits = |one: &&Arc<Resource>| one.kind == kind && one.api_version() == api_version;
        self.resources.iter().find(fits).cloned().ok_or_else(|| {
            Error::said(format!(
                "no matches for kind {kind:?} in version {api_version:?}\nensure CRDs are installed first"
            ))
        })
    }
}

fn is_named(resource: &Resource, word: &str) -> bool {
    resource.plural == word
        || resource.singular == word
        || resource.short_names.iter().any(|short| short == word)
        || resource.kind.eq_ignore_ascii_case(word)
}

fn read(group: &str, version: &str, resource: &Value) -> Resource {
    let kind = text(&resource["responseKind"], "kind");
    let singular = text(resource, "singularResource");
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: text(resource, "resource"),
        singular: if singular.is_empty() { kind.to_lowercase() } else { singular },
        kind,
        namespaced: resource["scope"] == "Namespaced",
        short_names: texts(resource, "shortNames"),
        categories: texts(resource, "categories"),
        verbs: texts(resource, "verbs"),
        subresources: array(resource, "subresources").iter().map(|one| text(one, "subresource")).collect(),
    }
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    array(value, key).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn sample() -> Discovery {
        let resource = |name: &str, kind: &str, short: &str, category: &str, scope: &str| {
            json!({"resource": name, "responseKind": {"kind": kind}, "scope": scope, "shortNames": [short],
                   "categories": [category], "verbs": ["get", "list"], "subresources": [{"subresource": "status"}]})
        };
        Discovery::parse(&json!({"items": [
            {"metadata": {}, "versions": [{"version": "v1", "resources": [
                resource("pods", "Pod", "po", "all", "Namespaced"),
                resource("nodes", "Node", "no", "", "Cluster"),
                resource("services", "Service", "svc", "all", "Namespaced")]}]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                resource("deployments", "Deployment", "deploy", "all", "Namespaced")]}]},
        ]}))
    }

    #[test]
    fn a_word_names_a_resource() {
        let discovery = sample();
        let table = [
            ("pods", "pods"),
            ("po", "pods"),
            ("Pod", "pods"),
            ("deploy.apps", "deployments"),
            ("deployments.v1.apps", "deployments"),
            ("no", "nodes"),
        ];
        for (word, plural) in table {
            assert_eq!(discovery.find(word).expect(word).plural, plural);
        }
        assert_eq!(
            discovery.find("foo").expect_err("unknown").to_string(),
            r#"error: the server doesn't have a resource type "foo""#
        );
        assert_eq!(discovery.category("all").len(), 3);
        assert_eq!(discovery.of_kind("apps/v1", "Deployment").expect("there").label(), "deployment.apps");
    }
}
