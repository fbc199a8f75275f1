//! Which requests a webhook or a policy wants to see.

use api::selector::Labels;
use api::{LabelSelector, metav1};
use serde_json::{Map, Value};

use super::{Operation, Request};
use crate::cache::WatchCache;

/// What a request does, as rules and reviews name it.
pub(super) const fn verb(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// Which requests.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    groups: Vec<String>,
    versions: Vec<String>,
    /// With their subresources: `pods`, `pods/status`, `*`, `*/scale`, `pods/*`, `*/*`.
    resources: Vec<String>,
    operations: Vec<String>,
    scope: String,
    /// Empty: all.
    names: Vec<String>,
}

impl Rule {
    /// Reads a list of rules.
    pub(super) fn read_all(list: &Value) -> Vec<Self> {
        list.as_array().into_iter().flatten().map(Self::read).collect()
    }

    fn read(of: &Value) -> Self {
        let list = |field: &str| {
            let texts = of[field].as_array().into_iter().flatten();
            texts.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            groups: list("apiGroups"),
            versions: list("apiVersions"),
            resources: list("resources"),
            operations: list("operations"),
            scope: of["scope"].as_str().unwrap_or("*").to_owned(),
            names: list("resourceNames"),
        }
    }

    pub(super) fn fits(&self, request: &Request<'_>) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|one| one == "*" || one == wanted);
        let kind = request.kind;
        let is_namespace = kind.group.is_empty() && kind.resource == "namespaces";
        let in_scope = match self.scope.as_str() {
            "Namespaced" => kind.namespaced && !is_namespace,
            "Cluster" => !kind.namespaced || is_namespace,
            _ => true,
        };
        in_scope
            && has(&self.operations, verb(request.operation))
            && has(&self.groups, &kind.group)
            && has(&self.versions, &kind.version)
            && (self.names.is_empty() || self.names.iter().any(|name| name == request.name))
            && self.resources.iter().any(|pattern| {
                let (resource, part) = pattern.split_once('/').unwrap_or((pattern, ""));
                (resource == "*" || resource == kind.resource) && (part == "*" || part == request.subresource)
            })
    }
}

struct LabelMap<'m>(Option<&'m Map<String, Value>>);

impl Labels for LabelMap<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.0?.get(key)?.as_str()
    }
}

/// Which namespaces and objects, by their labels.
#[derive(Clone, Debug, Default)]
pub(super) struct Selectors {
    namespaces: LabelSelector,
    objects: LabelSelector,
}

impl Selectors {
    /// Reads `namespaceSelector` and `objectSelector`; what is not given selects all.
    pub(super) fn read(of: &Value) -> Result<Self, String> {
        Ok(Self { namespaces: selector(of, "namespaceSelector")?, objects: selector(of, "objectSelector")? })
    }

    /// Whether they select a request. Without labels, it is in no namespace.
    pub(super) fn select(&self, request: &Request<'_>, namespace: Option<&Map<String, Value>>) -> bool {
        (namespace.is_none() || self.namespaces.matches(&LabelMap(namespace)))
            && (self.objects.is_everything()
                || [&request.object, &request.old]
                    .into_iter()
                    .flatten()
                    .any(|object| self.objects.matches(&LabelMap(object.labels()))))
    }
}

/// A label selector; one that is not given selects all.
pub(super) fn selector(of: &Value, field: &str) -> Result<LabelSelector, String> {
    let selector: Option<metav1::LabelSelector> =
        serde_json::from_value(of[field].clone()).map_err(|error| format!("{field}: {error}"))?;
    LabelSelector::from_api(Some(&selector.unwrap_or_default())).map_err(|error| format!("{field}: {error}"))
}

/// The labels of the request's namespace; a namespace is in itself.
pub(super) fn namespace_labels(cache: &WatchCache, request: &Request<'_>) -> Option<Map<String, Value>> {
    if request.kind.group.is_empty() && request.kind.resource == "namespaces" {
        let object = request.object.as_ref().or(request.old.as_ref())?;
        return Some(object.labels().cloned().unwrap_or_default());
    }
    if request.namespace.is_empty() {
        return None;
    }
    let found = cache.resource("", "namespaces").get("", request.namespace);
    let object = found.and_then(|stored| stored.object().ok());
    Some(object.and_then(|object| object.labels().cloned()).unwrap_or_default())
}
