//! Which requests a webhook or a policy wants to see.

use api::selector::Labels;
use api::{LabelSelector, metav1};
use resources::Descriptor;
use serde_json::{Map, Value};

use super::equivalents::Seen;
use super::{Operation, Request};
use crate::cache::WatchCache;
use crate::registry::Kinds;

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

/// Rules, any of which may fit.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    all: Vec<Rule>,
    /// Whether they mean the versions that they name only, not others of the same kind.
    is_exact: bool,
}

impl Rules {
    /// Reads a list of rules and the `matchPolicy` beside it.
    pub(super) fn read(list: &Value, policy: &Value) -> Self {
        let all = list.as_array().into_iter().flatten().map(Rule::read).collect();
        Self { all, is_exact: policy == "Exact" }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// As which version of its kind a request fits; its own comes first.
    pub(super) fn fit(&self, request: &Request<'_>, kinds: &Kinds) -> Option<Seen> {
        let fits = |kind: &Descriptor| self.all.iter().any(|rule| rule.fits(request, kind));
        if fits(request.kind) {
            return Some(Seen::Own);
        }
        if self.is_exact {
            return None;
        }
        let has_part = |kind: &Descriptor| {
            request.subresource.is_empty() || kind.subresource(request.subresource).is_some()
        };
        let mut others = kinds.other_versions(request.kind).into_iter();
        others.find(|kind| has_part(kind) && fits(kind)).map(Seen::Other)
    }
}

impl Rule {
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

    /// Whether it fits a request, were it about this version of its kind.
    fn fits(&self, request: &Request<'_>, kind: &Descriptor) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|one| one == "*" || one == wanted);
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
