//! What is served: discovery documents (legacy and aggregated), OpenAPI, the
//! issuer's keys, the version.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Status;
use http::{HeaderValue, Response, header};
use parking_lot::Mutex;
use resources::Descriptor;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Asked;
use super::answer::{Answer, encoded, json as json_answer};
use super::negotiate::{Accept, Form};
use crate::aggregation::{self, Aggregation, Remote};
use crate::gate::Gate;
use crate::openapi::{self, wire};
use crate::registry::MediaType;

/// The level of the API.
pub(super) const MAJOR: &str = "1";
/// The level of the API.
pub(super) const MINOR: &str = "36";

/// `version.Info`.
#[must_use]
pub fn version() -> Value {
    json!({
        "major": MAJOR, "minor": MINOR,
        "gitVersion": format!("v{MAJOR}.{MINOR}.0+corten-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "go0.0.0", "compiler": "rustc", "platform": format!("linux/{}", go_arch()),
        "emulationMajor": MAJOR, "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR, "minCompatibilityMinor": "35",
    })
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Documents that are made once and kept, as long as their kinds stay.
#[derive(Default)]
pub struct Documents {
    openapi: Mutex<BTreeMap<String, Document>>,
}

/// A document, and what it is about.
struct Document {
    of: Vec<Arc<Descriptor>>,
    /// What other servers say that is in it.
    others: Vec<Arc<Value>>,
    /// Its hash and its bytes.
    shown: (String, bytes::Bytes),
}

impl Document {
    /// Whether it is about exactly these kinds, as they are now.
    fn is_of(&self, kinds: &[Arc<Descriptor>]) -> bool {
        self.of.len() == kinds.len() && self.of.iter().zip(kinds).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

impl Documents {
    /// Answers a discovery or document path.
    ///
    /// # Errors
    /// Nothing is served there.
    pub(crate) fn answer(
        &self,
        gate: &Gate,
        others: &Aggregation,
        asked: &Asked,
        path: &str,
    ) -> Result<Response<Answer>, Status> {
        let kinds = gate.registry().kinds().all();
        let remotes = others.remotes();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let aggregated = asked.accept.form == Form::Discovery;
        match parts.as_slice() {
            [] => Ok(json_answer(200, &json!({"paths": paths(&kinds, &remotes)}))),
            ["api"] if aggregated => Ok(aggregated_answer(&aggregated_groups(&kinds, true))),
            ["apis"] if aggregated => {
                let mut document = aggregated_groups(&kinds, false);
                add_remotes(&mut document, others, &remotes);
                Ok(aggregated_answer(&document))
            }
            ["api"] => Ok(json_answer(
                200,
                &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
            )),
            ["apis"] => {
                let groups: Vec<Value> = all_group_versions(&kinds, &remotes)
                    .into_iter()
                    .filter(|(group, _)| !group.is_empty())
                    .map(|(group, versions)| api_group(&group, &versions))
                    .collect();
                Ok(json_answer(200, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})))
            }
            ["apis", group] => all_group_versions(&kinds, &remotes)
                .into_iter()
                .find(|(name, _)| name == group)
                .map(|(group, versions)| {
                    let mut document = api_group(&group, &versions);
                    document["kind"] = "APIGroup".into();
                    document["apiVersion"] = "v1".into();
                    json_answer(200, &document)
                })
                .ok_or_else(Status::no_such_resource),
            ["api", version] => resource_list(&kinds, "", version),
            ["apis", group, version] => resource_list(&kinds, group, version),
            ["openapi", "v2"] => self.second(&kinds, others, asked),
            ["openapi", "v3"] => Ok(json_answer(200, &self.openapi_index(&kinds, &remotes))),
            ["openapi", "v3", rest @ ..] => self.openapi_document(&kinds, asked, rest),
            _ => Err(Status::no_such_resource()),
        }
    }

    fn openapi_index(&self, kinds: &[Arc<Descriptor>], remotes: &[Arc<Remote>]) -> Value {
        let mut index = serde_json::Map::new();
        for (group, versions) in group_versions(kinds) {
            for version in versions {
                let path = if group.is_empty() {
                    format!("api/{version}")
                } else {
                    format!("apis/{group}/{version}")
                };
                let (hash, _) = self.document(kinds, &path, &group, &version);
                let url = format!("/openapi/v3/{path}?hash={hash}");
                index.insert(path, json!({"serverRelativeURL": url}));
            }
        }
        for remote in remotes {
            let path = format!("apis/{}/{}", remote.group, remote.version);
            index.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}")}));
        }
        json!({"paths": index})
    }

    fn openapi_document(
        &self,
        kinds: &[Arc<Descriptor>],
        asked: &Asked,
        parts: &[&str],
    ) -> Result<Response<Answer>, Status> {
        let (group, version) = match parts {
            ["api", version] => ("", *version),
            ["apis", group, version] => (*group, *version),
            _ => return Err(Status::no_such_resource()),
        };
        if !kinds.iter().any(|kind| kind.group == group && kind.version == version) {
            return Err(Status::no_such_resource());
        }
        let (_, bytes) = self.document(kinds, &parts.join("/"), group, version);
        if asked.accept.media == MediaType::Protobuf {
            let document: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
            let mut response = encoded(200, &Accept::default(), wire::encode(&document).into());
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::MEDIA_TYPE));
            return Ok(response);
        }
        Ok(encoded(200, &asked.accept, bytes))
    }

    /// The one document of all kinds in the second version of OpenAPI.
    fn second(
        &self,
        kinds: &[Arc<Descriptor>],
        others: &Aggregation,
        asked: &Asked,
    ) -> Result<Response<Answer>, Status> {
        const PATH: &str = "v2";
        let said = others.documents();
        let documents: Vec<Arc<Value>> = said.iter().map(|(_, document)| Arc::clone(document)).collect();
        let is_same = |found: &&Document| {
            let mut pairs = found.others.iter().zip(&documents);
            found.is_of(kinds)
                && found.others.len() == documents.len()
                && pairs.all(|(one, other)| Arc::ptr_eq(one, other))
        };
        let known = self.openapi.lock().get(PATH).filter(is_same).map(|found| found.shown.clone());
        let (_, bytes) = known.unwrap_or_else(|| {
            let mut document = openapi::v2::document(kinds);
            for (remote, said) in &said {
                openapi::v2::add(&mut document, said, &remote.group, &remote.version);
            }
            let shown = (String::new(), bytes::Bytes::from(document.to_string()));
            let made = Document { of: kinds.to_vec(), others: documents, shown: shown.clone() };
            self.openapi.lock().insert(PATH.to_owned(), made);
            shown
        });
        if asked.accept.media == MediaType::Protobuf {
            let document: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
            let mut response = encoded(200, &Accept::default(), wire::v2::encode(&document).into());
            let media = HeaderValue::from_static(wire::v2::MEDIA_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, media);
            return Ok(response);
        }
        Ok(encoded(200, &asked.accept, bytes))
    }

    /// The OpenAPI document of a group version, and its hash.
    pub fn document(
        &self,
        kinds: &[Arc<Descriptor>],
        path: &str,
        group: &str,
        version: &str,
    ) -> (String, bytes::Bytes) {
        let is_own = |kind: &&Arc<Descriptor>| kind.group == group && kind.version == version;
        let own: Vec<_> = kinds.iter().filter(is_own).cloned().collect();
        if let Some(found) = self.openapi.lock().get(path).filter(|found| found.is_of(&own)) {
            return found.shown.clone();
        }
        let document = openapi::document(kinds, group, version).to_string();
        let hash: String =
            Sha256::digest(document.as_bytes()).iter().map(|byte| format!("{byte:02X}")).collect();
        let shown = (hash, bytes::Bytes::from(document));
        self.openapi
            .lock()
            .insert(path.to_owned(), Document { of: own, others: Vec::new(), shown: shown.clone() });
        shown
    }
}

fn paths(kinds: &[Arc<Descriptor>], remotes: &[Arc<Remote>]) -> Vec<String> {
    let mut paths = vec!["/api".to_owned(), "/apis".to_owned()];
    for (group, versions) in all_group_versions(kinds, remotes) {
        if group.is_empty() {
            paths.push("/api/v1".to_owned());
            continue;
        }
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.extend(["/healthz", "/livez", "/metrics", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    paths
}

/// The groups in discovery order, each with its versions, the preferred first.
fn group_versions(kinds: &[Arc<Descriptor>]) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for kind in kinds {
        match groups.iter_mut().find(|(group, _)| *group == kind.group) {
            Some((_, versions)) if versions.contains(&kind.version) => {}
            Some((_, versions)) => versions.push(kind.version.clone()),
            None => groups.push((kind.group.clone(), vec![kind.version.clone()])),
        }
    }
    groups
}

/// The same, with those that other servers answer; their groups come last.
fn all_group_versions(kinds: &[Arc<Descriptor>], remotes: &[Arc<Remote>]) -> Vec<(String, Vec<String>)> {
    let mut groups = group_versions(kinds);
    for remote in remotes {
        match groups.iter_mut().find(|(group, _)| *group == remote.group) {
            Some((_, versions)) if versions.contains(&remote.version) => {}
            Some((_, versions)) => versions.push(remote.version.clone()),
            None => groups.push((remote.group.clone(), vec![remote.version.clone()])),
        }
    }
    groups
}

/// Adds what other servers answer to the aggregated discovery document.
pub(crate) fn add_remotes(document: &mut Value, others: &Aggregation, remotes: &[Arc<Remote>]) {
    let Some(items) = document["items"].as_array_mut() else { return };
    for remote in remotes {
        let list = others.resources(remote);
        let version = aggregation::discovery(remote, list.as_deref());
        let known = items.iter_mut().find(|item| item["metadata"]["name"] == remote.group.as_str());
        match known.and_then(|item| item["versions"].as_array_mut()) {
            Some(versions) if versions.iter().any(|one| one["version"] == remote.version.as_str()) => {}
            Some(versions) => versions.push(version),
            None => items.push(json!({"metadata": {"name": remote.group}, "versions": [version]})),
        }
    }
}

fn api_group(group: &str, versions: &[String]) -> Value {
    let version =
        |version: &String| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": group, "preferredVersion": all.first(), "versions": all})
}

fn storage_hash(kind: &Descriptor) -> String {
    use base64::Engine as _;
    let digest = Sha256::digest(format!("{}/{}/{}", kind.group, kind.stored_version, kind.kind).as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

fn resource_list(kinds: &[Arc<Descriptor>], group: &str, version: &str) -> Result<Response<Answer>, Status> {
    let mut resources = Vec::new();
    let mut group_version = String::new();
    for kind in kinds.iter().filter(|kind| kind.group == group && kind.version == version) {
        group_version = kind.api_version();
        let mut entry = json!({
            "name": kind.resource, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": kind.verbs,
        });
        if !kind.short_names.is_empty() {
            entry["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            entry["categories"] = json!(kind.categories);
        }
        if kind.is_stored() {
            entry["storageVersionHash"] = storage_hash(kind).into();
        }
        resources.push(entry);
        for sub in &kind.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", kind.resource, sub.name), "singularName": "",
                "namespaced": kind.namespaced, "kind": sub.kind, "verbs": sub.verbs,
            });
            if let Some((group, version)) = &sub.group_version {
                entry["group"] = group.as_str().into();
                entry["version"] = version.as_str().into();
            }
            resources.push(entry);
        }
    }
    if resources.is_empty() {
        return Err(Status::no_such_resource());
    }
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    });
    Ok(json_answer(200, &list))
}

/// `apidiscovery.k8s.io/v2` `APIGroupDiscoveryList`; the legacy group alone, or all others.
#[must_use]
pub fn aggregated_groups(kinds: &[Arc<Descriptor>], legacy: bool) -> Value {
    let items: Vec<Value> = group_versions(kinds)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == legacy)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = kinds
                        .iter()
                        .filter(|kind| kind.group == group && kind.version == *version)
                        .map(|kind| aggregated_resource(kind))
                        .collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(kind: &Descriptor) -> Value {
    let response_kind =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut entry = json!({
        "resource": kind.resource,
        "responseKind": response_kind(&kind.group, &kind.version, &kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular, "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        entry["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        entry["categories"] = json!(kind.categories);
    }
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            let (group, version) =
                sub.group_version.clone().unwrap_or((kind.group.clone(), kind.version.clone()));
            json!({
                "subresource": sub.name, "verbs": sub.verbs,
                "responseKind": response_kind(&group, &version, &sub.kind),
            })
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}

fn aggregated_answer(document: &Value) -> Response<Answer> {
    let mut response = json_answer(200, document);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
    );
    response
}
