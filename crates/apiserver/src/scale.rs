//! The `scale` subresource: a view of any kind that has replicas.

use api::patch::{json_patch, merge_patch};
use api::{Object, Status};
use resources::descriptor::ScalePaths;
use serde_json::{Value, json};

use crate::registry::{Address, PatchKind};

fn at<'a>(object: &'a Object, path: &[String]) -> Option<&'a Value> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    object.at(&path)
}

/// `autoscaling/v1` `Scale` of an object.
#[must_use]
pub(crate) fn of(object: &Object, paths: &ScalePaths) -> Object {
    let number = |path: &[String]| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let selector = match at(object, &paths.selector) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(map))
            if !map.contains_key("matchLabels") && !map.contains_key("matchExpressions") =>
        {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect();
            pairs.join(",")
        }
        Some(value) => serde_json::from_value(value.clone())
            .ok()
            .and_then(|selector| api::LabelSelector::from_api(Some(&selector)).ok())
            .map(|selector| selector.to_string())
            .unwrap_or_default(),
        None => String::new(),
    };
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at(&["metadata", field]) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    let mut scale = Object::default();
    scale.set("apiVersion", "autoscaling/v1");
    scale.set("kind", "Scale");
    scale.set("metadata", metadata);
    scale.set("spec", json!({"replicas": number(&paths.spec_replicas)}));
    scale.set("status", status);
    scale
}

/// What applying a scale applies to the object itself.
///
/// # Errors
/// A configuration that is no scale, or of another object.
pub(crate) fn config(address: &Address, scale: &[u8], paths: &ScalePaths) -> Result<Object, Status> {
    let bad = |error: String| Status::bad_request(format!("error decoding YAML: {error}"));
    let text = std::str::from_utf8(scale).map_err(|error| bad(error.to_string()))?;
    let value = api::yaml::parse(text).map_err(|error| bad(error.to_string()))?;
    let scale = Object::from_value(value).map_err(|error| bad(error.to_string()))?;
    if (scale.api_version(), scale.kind()) != ("autoscaling/v1", "Scale") {
        return Err(Status::bad_request(format!(
            "invalid object type: {}, Kind={}: the request is for autoscaling/v1, Kind=Scale",
            scale.api_version(),
            scale.kind()
        )));
    }
    let mut config = Object::default();
    config.set("apiVersion", address.kind.api_version());
    config.set("kind", address.kind.kind.as_str());
    config.set("metadata", json!({"name": address.name}));
    for field in ["name", "resourceVersion", "uid"] {
        if let Some(value) = scale.at(&["metadata", field]) {
            config.set_at(&["metadata", field], value.clone());
        }
    }
    if let Some(replicas) = scale.at(&["spec", "replicas"]) {
        let path: Vec<&str> = paths.spec_replicas.iter().map(String::as_str).collect();
        config.set_at(&path, replicas.clone());
    }
    Ok(config)
}

/// The object with the replicas that a scale wants.
///
/// # Errors
/// A negative number, or a stale resource version.
pub(crate) fn apply(
    address: &Address,
    object: &Object,
    wanted: &Object,
    paths: &ScalePaths,
) -> Result<Object, Status> {
    let version = wanted.resource_version();
    if !version.is_empty() && version != object.resource_version() {
        return Err(address.conflict(Status::MODIFIED));
    }
    let replicas = wanted.integer(&["spec", "replicas"]).unwrap_or(0);
    if replicas < 0 {
        let spec = api::Path::new("spec");
        let error =
            api::FieldError::invalid(&spec.child("replicas"), replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", &address.name, &[error]));
    }
    let mut object = object.clone();
    let path: Vec<&str> = paths.spec_replicas.iter().map(String::as_str).collect();
    object.set_at(&path, replicas);
    Ok(object)
}

/// A scale after a patch.
///
/// # Errors
/// A patch that does not apply.
pub(crate) fn patched(scale: &Object, kind: PatchKind, patch: &[u8]) -> Result<Object, Status> {
    let mut value = scale.clone().into_value();
    let bad = |error: String| Status::bad_request(error);
    match kind {
        PatchKind::Apply { .. } => return Err(Status::internal("an apply is no patch of the scale's text")),
        PatchKind::Json => json_patch(&mut value, patch).map_err(|error| bad(error.to_string()))?,
        // A scale has no lists: strategic and plain merge are the same.
        PatchKind::Merge | PatchKind::Strategic => {
            merge_patch(&mut value, serde_json::from_slice(patch).map_err(|error| bad(error.to_string()))?);
        }
    }
    Object::from_value(value).map_err(|error| bad(error.to_string()))
}
