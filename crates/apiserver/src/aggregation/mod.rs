//! Aggregated API servers: group versions that an `APIService` gives to a service
//! are answered by that service, following `k8s.io/kube-aggregator`.
//!
//! Start reading in [`Aggregation::remote`]. [`proxy`] passes requests on,
//! [`availability`] keeps the conditions of API services and what their servers
//! say of themselves, [`local`] registers what this server serves.

mod availability;
mod local;
mod proxy;

use std::collections::HashMap;
use std::sync::Arc;

use api::Object;
use client::kubeconfig::Material;
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};

use crate::cache::{Selected, WatchCache};
use crate::connect::{Destination, Outward, Trust};

pub(crate) use availability::start;

/// The headers that say who asks.
pub(crate) const USER: &str = "X-Remote-User";
pub(crate) const UID: &str = "X-Remote-Uid";
pub(crate) const GROUPS: &str = "X-Remote-Group";
/// What the names of headers with further facts begin with.
pub(crate) const EXTRA: &str = "X-Remote-Extra-";

const GROUP: &str = "apiregistration.k8s.io";
const RESOURCE: &str = "apiservices";

/// The API services that are somebody else's.
pub(crate) struct Aggregation {
    cache: Arc<WatchCache>,
    outward: Arc<Outward>,
    /// With what this server proves to others that it may speak for its users.
    identity: Option<(Material, Material)>,
    /// The revision of the last change that was read, and what it gave.
    known: Mutex<(u64, Arc<Vec<Arc<Remote>>>)>,
    /// What servers said last, by name of their API service.
    said: RwLock<HashMap<String, Said>>,
}

/// What a server says of a group version.
#[derive(Default)]
struct Said {
    /// The list of its resources.
    resources: Arc<Value>,
    /// Its OpenAPI v2 document, where it has one.
    document: Option<Arc<Value>>,
}

/// A group version that another server answers.
#[derive(Debug)]
pub(crate) struct Remote {
    /// The API service's name.
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    /// Where it is, or why that cannot be read.
    to: Result<Destination, String>,
    trust: Trust,
    /// Higher ones come first.
    priorities: (i64, i64),
    pub(crate) is_available: bool,
}

impl Remote {
    fn read(service: &Object) -> Option<Self> {
        let spec = service.get("spec")?;
        if !spec["service"].is_object() {
            return None;
        }
        let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
        let config = json!({"service": spec["service"], "caBundle": spec["caBundle"]});
        let conditions = service.at(&["status", "conditions"]).and_then(Value::as_array);
        let is_available =
            conditions.into_iter().flatten().any(|one| one["type"] == "Available" && one["status"] == "True");
        Some(Self {
            name: service.name().to_owned(),
            group: text("group"),
            version: text("version"),
            to: Destination::read(&config, ""),
            trust: if spec["insecureSkipTLSVerify"] == true { Trust::Anybody } else { Trust::Verified },
            priorities: (
                spec["groupPriorityMinimum"].as_i64().unwrap_or_default(),
                spec["versionPriority"].as_i64().unwrap_or_default(),
            ),
            is_available,
        })
    }
}

impl Aggregation {
    pub(crate) fn new(
        cache: Arc<WatchCache>,
        outward: Arc<Outward>,
        identity: Option<(Material, Material)>,
    ) -> Self {
        Self { cache, outward, identity, known: Mutex::default(), said: RwLock::default() }
    }

    /// The group versions of others, the most important first.
    pub(crate) fn remotes(&self) -> Arc<Vec<Arc<Remote>>> {
        let resource = self.cache.resource(GROUP, RESOURCE);
        let last = resource.last_change();
        let mut known = self.known.lock();
        if known.0 != last {
            let (found, _) = resource.list(&Selected::default(), 0, None);
            let objects = found.iter().filter_map(|stored| stored.object().ok());
            let mut all: Vec<_> = objects.filter_map(|one| Remote::read(&one)).map(Arc::new).collect();
            all.sort_by_key(|remote| std::cmp::Reverse(remote.priorities));
            *known = (last, Arc::new(all));
        }
        Arc::clone(&known.1)
    }

    /// Whoever answers a path, if it is somebody else.
    pub(crate) fn remote(&self, path: &str) -> Option<Arc<Remote>> {
        let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
        let mut parts = path.strip_prefix("/apis/")?.split('/');
        self.serving(parts.next()?, parts.next()?)
    }

    /// Whoever answers a group version, if it is somebody else.
    pub(crate) fn serving(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes();
        remotes.iter().find(|remote| remote.group == group && remote.version == version).cloned()
    }

    /// The resources of a group version, as its server told them last.
    pub(crate) fn resources(&self, remote: &Remote) -> Option<Arc<Value>> {
        self.said.read().get(&remote.name).map(|said| Arc::clone(&said.resources))
    }

    /// The OpenAPI v2 documents of servers that can be used.
    pub(crate) fn documents(&self) -> Vec<(Arc<Remote>, Arc<Value>)> {
        let (remotes, said) = (self.remotes(), self.said.read());
        let document = |remote: &Arc<Remote>| {
            let document = said.get(&remote.name)?.document.as_ref()?;
            remote.is_available.then(|| (Arc::clone(remote), Arc::clone(document)))
        };
        remotes.iter().filter_map(document).collect()
    }
}

/// `apidiscovery.k8s.io/v2` `APIVersionDiscovery` of a group version, from its
/// `APIResourceList`.
pub(crate) fn discovery(remote: &Remote, list: Option<&Value>) -> Value {
    let scope = |one: &Value| if one["namespaced"] == true { "Namespaced" } else { "Cluster" };
    let kind = |one: &Value| {
        let or = |field: &str, default: &str| match one[field].as_str().unwrap_or_default() {
            "" => default.to_owned(),
            given => given.to_owned(),
        };
        json!({"group": or("group", &remote.group), "version": or("version", &remote.version), "kind": one["kind"]})
    };
    let all = list.and_then(|list| list["resources"].as_array()).map(Vec::as_slice).unwrap_or_default();
    let mut resources: Vec<Value> = Vec::new();
    for one in all {
        let name = one["name"].as_str().unwrap_or_default();
        let Some((parent, part)) = name.split_once('/') else {
            let mut resource = json!({
                "resource": name, "responseKind": kind(one), "scope": scope(one),
                "singularResource": one["singularName"], "verbs": one["verbs"],
            });
            for field in ["shortNames", "categories"] {
                if one[field].is_array() {
                    resource[field] = one[field].clone();
                }
            }
            resources.push(resource);
            continue;
        };
        if let Some(parent) = resources.iter_mut().find(|resource| resource["resource"] == parent) {
            let part = json!({"subresource": part, "responseKind": kind(one), "verbs": one["verbs"]});
            match parent["subresources"].as_array_mut() {
                Some(parts) => parts.push(part),
                None => parent["subresources"] = json!([part]),
            }
        }
    }
    let freshness = if remote.is_available && list.is_some() { "Current" } else { "Stale" };
    json!({"version": remote.version, "freshness": freshness, "resources": resources})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_told_in_the_newer_form() {
        let service = Object::from_value(json!({
            "metadata": {"name": "v1.x.io"},
            "spec": {"group": "x.io", "version": "v1", "service": {"namespace": "n", "name": "s"}},
            "status": {"conditions": [{"type": "Available", "status": "True"}]},
        }))
        .expect("an object");
        let remote = Remote::read(&service).expect("another server's");
        let list = json!({"resources": [
            {"name": "as", "singularName": "a", "namespaced": true, "kind": "A", "verbs": ["get"], "shortNames": ["x"]},
            {"name": "as/status", "namespaced": true, "kind": "A", "verbs": ["update"]},
        ]});
        assert_eq!(
            discovery(&remote, Some(&list)),
            json!({"version": "v1", "freshness": "Current", "resources": [{
                "resource": "as", "singularResource": "a", "scope": "Namespaced", "verbs": ["get"], "shortNames": ["x"],
                "responseKind": {"group": "x.io", "version": "v1", "kind": "A"},
                "subresources": [{
                    "subresource": "status", "verbs": ["update"],
                    "responseKind": {"group": "x.io", "version": "v1", "kind": "A"},
                }],
            }]})
        );
        assert_eq!(discovery(&remote, None)["freshness"], "Stale");
        let own = json!({"metadata": {"name": "v1.apps"}, "spec": {"group": "apps", "version": "v1"}});
        assert!(Remote::read(&Object::from_value(own).expect("an object")).is_none());
    }
}
