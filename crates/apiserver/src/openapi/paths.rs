//! What can be done where: the paths of a kind, each with its operations, named as
//! upstream names them, because generated clients carry these names.

use resources::openapi::{definition_name, definition_of, definition_of_part, reference};
use resources::{Descriptor, Subresource};
use serde_json::{Map, Value, json};

/// Name, type and what of a query parameter.
type Parameter = (&'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string");
const WRITING: [Parameter; 3] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const DELETING: [Parameter; 5] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const LISTING: [Parameter; 11] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("shardSelector", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// How a verb of ours shows in a document: the word in the names of operations, the
/// method, and what upstream's extension calls it.
const VERBS: [(&str, &str, &str, &str); 7] = [
    ("list", "list", "get", "list"),
    ("create", "create", "post", "post"),
    ("deletecollection", "delete", "delete", "deletecollection"),
    ("get", "read", "get", "get"),
    ("update", "replace", "put", "put"),
    ("patch", "patch", "patch", "patch"),
    ("delete", "delete", "delete", "delete"),
];

/// The paths of a kind with their operations.
pub(super) fn of_kind(kind: &Descriptor) -> Vec<(String, Value)> {
    let place = Place::of(kind);
    let (mut of_collection, mut of_object) = (Map::new(), Map::new());
    for (verb, word, method, action) in VERBS.into_iter().filter(|(verb, ..)| kind.allows(verb)) {
        let is_of_all = matches!(verb, "list" | "create" | "deletecollection");
        let name = place.name(word, if verb == "deletecollection" { "Collection" } else { "" }, "");
        let operation = place.operation(&name, action, &place.kind, &Body::of(kind, verb));
        let into = if is_of_all { &mut of_collection } else { &mut of_object };
        into.insert(method.to_owned(), operation);
    }
    let collection = format!("{}/{}", place.scope, kind.resource);
    let object = format!("{collection}/{{name}}");
    let mut paths = Vec::new();
    let mut add = |path: String, mut item: Map<String, Value>, places: &[&str]| {
        if !item.is_empty() {
            let parameters: Vec<Value> = places.iter().map(|name| place_parameter(name)).collect();
            item.insert("parameters".to_owned(), parameters.into());
            paths.push((path, Value::Object(item)));
        }
    };
    let namespace: &[&str] = if kind.namespaced { &["namespace"] } else { &[] };
    let both = [&["name"], namespace].concat();
    add(collection, of_collection, namespace);
    if kind.namespaced && kind.allows("list") {
        let name = format!("list{}{}ForAllNamespaces", place.group_version, kind.kind);
        let operation = place.operation(&name, "list", &place.kind, &Body::of(kind, "list"));
        let item = Map::from_iter([("get".to_owned(), operation)]);
        add(format!("{}/{}", place.root, kind.resource), item, &[]);
    }
    add(object.clone(), of_object, &both);
    for sub in &kind.subresources {
        add(format!("{object}/{}", sub.name), place.subresource(kind, sub), &both);
    }
    paths
}

fn place_parameter(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}})
}

/// Where a kind's paths are, and what its operations are called after.
struct Place {
    root: String,
    scope: String,
    tag: String,
    group_version: String,
    kind: Value,
    /// `NamespacedPod`, or `Node`.
    what: String,
}

impl Place {
    fn of(kind: &Descriptor) -> Self {
        let root = match kind.group.as_str() {
            "" => format!("/api/{}", kind.version),
            group => format!("/apis/{group}/{}", kind.version),
        };
        let scope = if kind.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
        let group = match kind.group.as_str() {
            "" => "core",
            group => group.strip_suffix(".k8s.io").unwrap_or(group),
        };
        let words: String = group.split(['.', '-']).map(capital).collect();
        let scoped = if kind.namespaced { "Namespaced" } else { "" };
        Self {
            root,
            scope,
            tag: format!("{}_{}", small(&words), kind.version),
            group_version: format!("{words}{}", capital(&kind.version)),
            kind: json!({"group": kind.group, "version": kind.version, "kind": kind.kind}),
            what: format!("{scoped}{}", kind.kind),
        }
    }

    fn name(&self, verb: &str, before: &str, after: &str) -> String {
        format!("{verb}{}{before}{}{after}", self.group_version, self.what)
    }

    fn operation(&self, name: &str, action: &str, kind: &Value, body: &Body) -> Value {
        let mut parameters: Vec<Value> = body.query.iter().map(query_parameter).collect();
        parameters.push(query_parameter(&PRETTY));
        let mut operation = json!({
            "operationId": name, "tags": [self.tag], "parameters": parameters,
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind,
            "responses": {
                "200": {"description": "OK", "content": {"application/json": {"schema": body.answer}}},
                "401": {"description": "Unauthorized"},
            },
        });
        if let Some(asked) = &body.asked {
            let media: Vec<&str> = if action == "patch" { PATCHES.to_vec() } else { vec!["*/*"] };
            let content: Map<String, Value> =
                media.into_iter().map(|media| (media.to_owned(), json!({"schema": asked}))).collect();
            operation["requestBody"] = json!({"content": content, "required": body.is_required});
        }
        for code in body.codes {
            operation["responses"][code] = operation["responses"]["200"].clone();
        }
        operation
    }

    /// What can be done with a part of an object.
    fn subresource(&self, kind: &Descriptor, sub: &Subresource) -> Map<String, Value> {
        let part: String = sub.name.split('/').map(capital).collect();
        let is_stream = matches!(sub.name.as_str(), "attach" | "exec" | "portforward" | "proxy");
        let (group, version) =
            sub.group_version.clone().unwrap_or_else(|| (kind.group.clone(), kind.version.clone()));
        let of = json!({"group": group, "version": version, "kind": sub.kind});
        let mut item = Map::new();
        for (verb, word, method, action) in
            VERBS.into_iter().filter(|(verb, ..)| sub.verbs.iter().any(|one| one == verb))
        {
            let operation = if is_stream {
                let name = format!("connect{}{}{}{part}", self.group_version, capital(method), self.what);
                self.operation(&name, "connect", &of, &Body::text())
            } else {
                let name = self.name(word, "", &part);
                let body = if sub.name == "log" { Body::text() } else { Body::of_part(kind, sub, verb) };
                self.operation(&name, action, &of, &body)
            };
            item.insert(method.to_owned(), operation);
        }
        item
    }
}

/// What an operation takes and gives.
struct Body {
    query: &'static [Parameter],
    asked: Option<Value>,
    is_required: bool,
    answer: Value,
    /// Codes beside 200 with the same answer.
    codes: &'static [&'static str],
}

impl Body {
    fn of(kind: &Descriptor, verb: &str) -> Self {
        let definition = definition_of(kind);
        let answer = match verb {
            "list" => reference(&format!("{definition}List")),
            "delete" | "deletecollection" => reference(&definition_name("meta/v1.Status")),
            _ => reference(&definition),
        };
        Self::new(verb, &reference(&definition), answer)
    }

    fn of_part(kind: &Descriptor, sub: &Subresource, verb: &str) -> Self {
        let of = reference(&definition_of_part(kind, sub));
        Self::new(verb, &of, of.clone())
    }

    fn new(verb: &str, object: &Value, answer: Value) -> Self {
        let (query, asked, codes): (&[Parameter], _, &[&str]) = match verb {
            "list" => (&LISTING, None, &[]),
            "create" => (&WRITING, Some(object.clone()), &["201", "202"]),
            "update" => (&WRITING, Some(object.clone()), &["201"]),
            "patch" => (&PATCHING, Some(json!({"type": "object"})), &["201"]),
            "delete" => (&DELETING, Some(reference(&definition_name("meta/v1.DeleteOptions"))), &["202"]),
            "deletecollection" => {
                (&DELETING_ALL, Some(reference(&definition_name("meta/v1.DeleteOptions"))), &[])
            }
            _ => (&[], None, &[]),
        };
        let is_required = matches!(verb, "create" | "update" | "patch");
        Self { query, asked, is_required, answer, codes }
    }

    fn text() -> Self {
        Self { query: &[], asked: None, is_required: false, answer: json!({"type": "string"}), codes: &[] }
    }
}

const PATCHING: [Parameter; 4] = [WRITING[0], WRITING[1], WRITING[2], ("force", "boolean")];
const DELETING_ALL: [Parameter; 12] = [
    LISTING[1],
    LISTING[2],
    LISTING[3],
    LISTING[4],
    LISTING[5],
    LISTING[6],
    LISTING[9],
    DELETING[0],
    DELETING[1],
    DELETING[2],
    DELETING[3],
    DELETING[4],
];

fn query_parameter((name, kind): &Parameter) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn small(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use resources::Catalogue;

    use super::*;

    #[test]
    fn operations_are_named_as_upstream_names_them() {
        let catalogue = Catalogue::built_in();
        let named = |group: &str, resource: &str| {
            let kind = catalogue.iter().find(|one| one.group == group && one.resource == resource);
            let mut names = Vec::new();
            for (path, item) in of_kind(kind.expect("a kind")) {
                for (method, operation) in item.as_object().expect("operations") {
                    if let Some(name) = operation["operationId"].as_str() {
                        names.push(format!("{method} {path} {name}"));
                    }
                }
            }
            names
        };
        let pods = named("", "pods");
        for expected in [
            "get /api/v1/namespaces/{namespace}/pods listCoreV1NamespacedPod",
            "delete /api/v1/namespaces/{namespace}/pods deleteCoreV1CollectionNamespacedPod",
            "get /api/v1/pods listCoreV1PodForAllNamespaces",
            "put /api/v1/namespaces/{namespace}/pods/{name} replaceCoreV1NamespacedPod",
            "patch /api/v1/namespaces/{namespace}/pods/{name}/status patchCoreV1NamespacedPodStatus",
            "get /api/v1/namespaces/{namespace}/pods/{name}/log readCoreV1NamespacedPodLog",
            "post /api/v1/namespaces/{namespace}/pods/{name}/eviction createCoreV1NamespacedPodEviction",
            "get /api/v1/namespaces/{namespace}/pods/{name}/exec connectCoreV1GetNamespacedPodExec",
        ] {
            assert!(pods.iter().any(|name| name == expected), "{expected}: {pods:#?}");
        }
        let roles = named("rbac.authorization.k8s.io", "clusterroles");
        let expected =
            "get /apis/rbac.authorization.k8s.io/v1/clusterroles/{name} readRbacAuthorizationV1ClusterRole";
        assert!(roles.iter().any(|name| name == expected), "{roles:#?}");
    }

    #[test]
    fn bodies() {
        let catalogue = Catalogue::built_in();
        let kind = catalogue.iter().find(|one| one.resource == "deployments").expect("a kind");
        let paths: Map<String, Value> = of_kind(kind).into_iter().collect();
        let object = &paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
        assert_eq!(object["put"]["tags"], json!(["apps_v1"]));
        assert_eq!(
            object["put"]["requestBody"],
            json!({"required": true, "content": {"*/*": {"schema": reference("io.k8s.api.apps.v1.Deployment")}}})
        );
        assert_eq!(object["patch"]["requestBody"]["content"].as_object().map(Map::len), Some(4));
        let places: Vec<_> =
            object["parameters"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
        assert_eq!(places, ["name", "namespace"]);
        let scale = &paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
        assert_eq!(
            scale["responses"]["200"]["content"]["application/json"]["schema"],
            reference("io.k8s.api.autoscaling.v1.Scale")
        );
        assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
    }
}
