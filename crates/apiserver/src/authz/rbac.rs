//! RBAC: roles are sets of rules, bindings give roles to users, groups and
//! service accounts.
//!
//! The roles and bindings are compiled when one of them changes, not when a
//! request asks.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Deserialize;

use super::Attributes;
use crate::authn::User;
use crate::cache::{Resource, WatchCache};
use crate::stored::Stored;

const GROUP: &str = "rbac.authorization.k8s.io";

/// A rule of a role.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// `*` is every verb.
    pub verbs: Vec<String>,
    /// `*` is every group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `*` is every resource, `*/scale` a subresource of all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Empty: all names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths; `*` at the end is anything.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

impl Rule {
    /// Whether the rule allows something.
    #[must_use]
    pub fn allows(&self, attributes: &Attributes) -> bool {
        if !has(&self.verbs, &attributes.verb) {
            return false;
        }
        if attributes.resource.is_empty() {
            return self.non_resource_urls.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => attributes.path.starts_with(prefix),
                None => *pattern == attributes.path,
            });
        }
        has(&self.api_groups, &attributes.group)
            && self.covers(&attributes.resource, &attributes.subresource)
            && (self.resource_names.is_empty() || self.resource_names.contains(&attributes.name))
    }

    fn covers(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|one| match one.split_once('/') {
            None => one == "*" || (subresource.is_empty() && one == resource),
            Some((of, sub)) => sub == subresource && (of == resource || of == "*"),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Role {
    rules: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Binding {
    subjects: Vec<Subject>,
    role_ref: RoleRef,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

/// What a subject is given, and through which binding.
struct Grant {
    rules: Vec<Arc<Rule>>,
    binding: String,
    role: String,
}

/// The compiled state: grants by subject, for the cluster and by namespace.
#[derive(Default)]
struct Compiled {
    version: Version,
    cluster: HashMap<String, Vec<Arc<Grant>>>,
    namespaced: HashMap<String, HashMap<String, Vec<Arc<Grant>>>>,
}

/// The last change of each of the four kinds.
type Version = [(u64, usize); 4];

pub(super) struct Rbac {
    /// Cluster roles, roles, cluster role bindings, role bindings.
    resources: [Arc<Resource>; 4],
    compiled: ArcSwap<Compiled>,
}

impl Rbac {
    #[expect(clippy::needless_pass_by_value, reason = "the same shape as its sibling")]
    pub(super) fn new(cache: Arc<WatchCache>) -> Self {
        let resources = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"]
            .map(|resource| cache.resource(GROUP, resource));
        Self { resources, compiled: ArcSwap::default() }
    }

    fn current(&self) -> Arc<Compiled> {
        let version = self.resources.each_ref().map(|one| (one.last_change(), one.len()));
        let compiled = self.compiled.load_full();
        if compiled.version == version {
            return compiled;
        }
        let fresh = Arc::new(compile(&self.resources, version));
        self.compiled.store(Arc::clone(&fresh));
        fresh
    }

    pub(super) fn allows(&self, user: &User, attributes: &Attributes) -> Option<String> {
        let compiled = self.current();
        let namespaced =
            compiled.namespaced.get(&attributes.namespace).filter(|_| !attributes.namespace.is_empty());
        for subject in subjects(user) {
            let cluster = compiled.cluster.get(&subject).into_iter().flatten();
            let local = namespaced.and_then(|grants| grants.get(&subject)).into_iter().flatten();
            for grant in cluster.chain(local) {
                if grant.rules.iter().any(|rule| rule.allows(attributes)) {
                    return Some(format!(
                        "RBAC: allowed by {} of {} to {subject:?}",
                        grant.binding, grant.role
                    ));
                }
            }
        }
        None
    }

    pub(super) fn rules(&self, user: &User, namespace: &str) -> Vec<Arc<Rule>> {
        let compiled = self.current();
        let namespaced = compiled.namespaced.get(namespace);
        let mut found = Vec::new();
        for subject in subjects(user) {
            let cluster = compiled.cluster.get(&subject).into_iter().flatten();
            let local = namespaced.and_then(|grants| grants.get(&subject)).into_iter().flatten();
            found.extend(cluster.chain(local).flat_map(|grant| grant.rules.iter().cloned()));
        }
        found
    }
}

fn subjects(user: &User) -> impl Iterator<Item = String> {
    let groups = user.groups.iter().map(|group| format!("Group/{group}"));
    std::iter::once(format!("User/{}", user.name)).chain(groups)
}

impl Subject {
    /// The name under which [`subjects`] looks for it.
    fn key(&self, binding_namespace: &str) -> Option<String> {
        match self.kind.as_str() {
            "User" | "Group" => Some(format!("{}/{}", self.kind, self.name)),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                Some(format!("User/system:serviceaccount:{namespace}:{}", self.name))
            }
            _ => None,
        }
    }
}

fn read<T: serde::de::DeserializeOwned + Default>(stored: &Stored) -> T {
    serde_json::from_slice(&stored.json).unwrap_or_else(|error| {
        tracing::error!(name = stored.name(), namespace = stored.namespace(), %error, "unreadable RBAC object grants nothing");
        T::default()
    })
}

fn compile(
    [cluster_roles, roles, cluster_bindings, bindings]: &[Arc<Resource>; 4],
    version: Version,
) -> Compiled {
    let mut rules: HashMap<(String, String), Vec<Arc<Rule>>> = HashMap::new();
    for role in cluster_roles.all().iter().chain(&roles.all()) {
        let read: Role = read(role);
        let key = (role.namespace().to_owned(), role.name().to_owned());
        rules.insert(key, read.rules.into_iter().map(Arc::new).collect());
    }
    let mut compiled = Compiled { version, ..Compiled::default() };
    for stored in cluster_bindings.all().iter().chain(&bindings.all()) {
        let binding: Binding = read(stored);
        let namespace = stored.namespace();
        let scope = if binding.role_ref.kind == "ClusterRole" { "" } else { namespace };
        let Some(rules) = rules.get(&(scope.to_owned(), binding.role_ref.name.clone())) else { continue };
        let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
        let grant = Arc::new(Grant {
            rules: rules.clone(),
            binding: format!("{kind} {:?}", stored.name()),
            role: format!("{} {:?}", binding.role_ref.kind, binding.role_ref.name),
        });
        let grants = if namespace.is_empty() {
            &mut compiled.cluster
        } else {
            compiled.namespaced.entry(namespace.to_owned()).or_default()
        };
        for subject in binding.subjects.iter().filter_map(|subject| subject.key(namespace)) {
            grants.entry(subject).or_default().push(Arc::clone(&grant));
        }
    }
    compiled
}

/// The first of `wanted` that `held` does not cover: nobody may give away
/// rights that they do not have.
#[must_use]
pub fn escalation<'a>(held: &[Arc<Rule>], wanted: &'a [Rule]) -> Option<&'a Rule> {
    wanted.iter().find(|rule| !pieces(rule).all(|piece| held.iter().any(|one| one.allows(&piece))))
}

/// Every single right that a rule gives, as a request for it.
fn pieces(rule: &Rule) -> impl Iterator<Item = Attributes> + '_ {
    let names: Vec<String> =
        if rule.resource_names.is_empty() { vec![String::new()] } else { rule.resource_names.clone() };
    let mut all = Vec::new();
    for verb in &rule.verbs {
        for path in &rule.non_resource_urls {
            all.push(Attributes { verb: verb.clone(), path: path.clone(), ..Attributes::default() });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                for name in &names {
                    all.push(Attributes {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.to_owned(),
                        subresource: subresource.to_owned(),
                        name: name.clone(),
                        ..Attributes::default()
                    });
                }
            }
        }
    }
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: serde_json::Value) -> Rule {
        serde_json::from_value(json).expect("a rule")
    }

    fn ask(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn rules() {
        let pods = rule(
            serde_json::json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/scale"], "resourceNames": []}),
        );
        let named = rule(
            serde_json::json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"]}),
        );
        let table = [
            (&pods, ask("get", "", "pods", "x"), true),
            (&pods, ask("get", "", "pods/log", "x"), false),
            (&pods, ask("get", "", "anything/scale", "x"), true),
            (&pods, ask("delete", "", "pods", "x"), false),
            (&pods, ask("get", "apps", "pods", "x"), false),
            (&named, ask("delete", "apps", "deployments/status", "a"), true),
            (&named, ask("delete", "apps", "deployments", "b"), false),
        ];
        for (rule, attributes, allowed) in table {
            assert_eq!(rule.allows(&attributes), allowed, "{attributes:?}");
        }
        let paths = rule(serde_json::json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]}));
        for (path, allowed) in [("/healthz", true), ("/healthz/x", false), ("/api/v1", true)] {
            let attributes = Attributes { verb: "get".into(), path: path.into(), ..Attributes::default() };
            assert_eq!(paths.allows(&attributes), allowed, "{path}");
        }
    }

    #[test]
    fn nobody_gives_more_than_they_have() {
        let held =
            [Arc::new(rule(serde_json::json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]})))];
        let same = [rule(
            serde_json::json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"]}),
        )];
        let more =
            [rule(serde_json::json!({"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}))];
        assert!(escalation(&held, &same).is_none());
        assert!(escalation(&held, &more).is_some());
    }
}
