//! Answers in the Kubernetes protobuf encoding (`application/vnd.kubernetes.protobuf`).
//!
//! The encoding of a stored object is made once and kept beside its JSON, shared by
//! all who read or watch it.

use api::protobuf::{encode, put_event, put_head, seal, seal_head};
use api::{Object, Status};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::registry::{Registry, View};
use crate::stored::{Sealed, Stored};

/// The media type of answers.
pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of watches.
pub(super) const STREAM: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// An object in its envelope, from its JSON.
///
/// # Errors
/// An object of a kind that has no such encoding.
pub(super) fn sealed(json: &[u8]) -> Result<Sealed, Status> {
    let object = Object::from_slice(json).map_err(Status::internal)?;
    let (api_version, kind) = (object.api_version(), object.kind());
    let message = message(api_version, kind, &object)?;
    let bytes = Bytes::from(seal(api_version, kind, &message));
    let message = bytes.slice(bytes.len() - message.len()..);
    Ok(Sealed { bytes, message })
}

fn message(api_version: &str, kind: &str, object: &Object) -> Result<Vec<u8>, Status> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let unable =
        |why: &str| Status::internal(format!("a {kind} of {api_version} has no protobuf encoding: {why}"));
    let schema = resources::schema();
    let in_meta = || schema.find(&format!("meta/v1.{kind}"));
    let found = schema.find(&format!("{}.{kind}", resources::package(group, version))).or_else(in_meta);
    let id = found.ok_or_else(|| unable("it is not known"))?;
    encode(&schema, id, object.as_map()).map_err(|error| unable(&error.to_string()))
}

/// A stored object as a client sees it.
///
/// # Errors
/// One that cannot be read or encoded.
pub(super) fn of_stored(view: &mut View, registry: &Registry, stored: &Stored) -> Result<Sealed, Status> {
    if view.is_plain() {
        return stored.sealed(sealed).cloned();
    }
    sealed(&view.object(registry, stored)?)
}

/// A list as the pieces of its bytes.
///
/// # Errors
/// Metadata that cannot be encoded.
pub(super) fn list(
    (kind, api_version): (&str, &str),
    metadata: &Value,
    items: &[Sealed],
) -> Result<Vec<Bytes>, Status> {
    let list = Object::from_value(json!({"metadata": metadata})).map_err(Status::internal)?;
    let head = message("meta/v1", "PartialObjectMetadataList", &list)?;
    let heads: Vec<Vec<u8>> = items
        .iter()
        .map(|item| {
            let mut head = Vec::with_capacity(6);
            put_head(&mut head, 2, item.message.len());
            head
        })
        .collect();
    let inside: usize = items.iter().zip(&heads).map(|(item, head)| item.message.len() + head.len()).sum();
    let mut pieces = vec![Bytes::from(seal_head(api_version, kind, head.len() + inside)), Bytes::from(head)];
    for (item, head) in items.iter().zip(heads) {
        pieces.extend([Bytes::from(head), item.message.clone()]);
    }
    Ok(pieces)
}

/// Adds an event to a stream.
pub(super) fn put_frame(out: &mut Vec<u8>, kind: &str, object: &Sealed) {
    put_event(out, kind, &object.bytes);
}
