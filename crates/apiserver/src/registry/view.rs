//! How a client sees objects of one kind: as they are, as rows of a table, or by
//! their metadata alone.

use std::sync::Arc;

use api::{Object, Status};
use bytes::Bytes;
use resources::Descriptor;
use serde_json::{Value, json};

use super::table::{IncludeObject, Tables, partial_metadata, partial_metadata_of};
use super::{Listed, Registry};
use crate::stored::Stored;

/// The shape of what is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// The object as it is.
    #[default]
    Object,
    /// `meta.k8s.io` `Table`, with so much of each object.
    Table(IncludeObject),
    /// `meta.k8s.io` `PartialObjectMetadata`, or the list of it.
    Metadata,
}

/// One client's view of one kind.
pub struct View {
    kind: Arc<Descriptor>,
    shape: Shape,
    /// Whether the next table needs its headings: in a watch, only the first does.
    headings: bool,
}

impl View {
    /// A view that has shown nothing yet.
    #[must_use]
    pub const fn new(kind: Arc<Descriptor>, shape: Shape) -> Self {
        Self { kind, shape, headings: true }
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> &Arc<Descriptor> {
        &self.kind
    }

    fn tables(&self, registry: &Registry, include: IncludeObject) -> Tables<'_> {
        Tables { kind: &self.kind, now: registry.clock().now(), include }
    }

    /// A stored object.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn object(&mut self, registry: &Registry, stored: &Stored) -> Result<Bytes, Status> {
        match self.shape {
            Shape::Object => registry.present(&self.kind, stored),
            Shape::Metadata => partial_metadata(stored),
            Shape::Table(include) => {
                let metadata = json!({"resourceVersion": stored.revision.to_string()});
                let headings = std::mem::take(&mut self.headings);
                self.tables(registry, include).table([stored], metadata, headings)
            }
        }
    }

    /// An object that was just written, from its JSON.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn written(&self, registry: &Registry, json: &Bytes) -> Result<Bytes, Status> {
        if self.shape == Shape::Object {
            return Ok(json.clone());
        }
        let mut object = Object::from_slice(json).map_err(Status::internal)?;
        match self.shape {
            Shape::Object => Ok(json.clone()),
            Shape::Metadata => partial_metadata_of(&mut object),
            Shape::Table(include) => {
                let metadata = json!({"resourceVersion": object.resource_version()});
                self.tables(registry, include).table_of(vec![object], metadata, true)
            }
        }
    }

    /// A list as one table; `None` in any other shape.
    ///
    /// # Errors
    /// An object that cannot be read.
    pub fn table(
        &self,
        registry: &Registry,
        listed: &Listed,
        metadata: Value,
    ) -> Option<Result<Bytes, Status>> {
        let Shape::Table(include) = self.shape else { return None };
        let objects = listed.objects.iter().map(|object| &**object);
        Some(self.tables(registry, include).table(objects, metadata, true))
    }

    /// `kind` and `apiVersion` of a list.
    #[must_use]
    pub fn list_kind(&self) -> (String, String) {
        match self.shape {
            Shape::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
            _ => (format!("{}List", self.kind.kind), self.kind.api_version()),
        }
    }

    /// Whether objects are shown by the very bytes that the cache has.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.shape == Shape::Object && !self.kind.strategy.converts()
    }

    /// A bookmark: everything up to a revision was shown.
    #[must_use]
    pub fn bookmark(&self, revision: u64, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let partial = |metadata: Value| json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
        let bookmark = match self.shape {
            Shape::Table(_) => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": null,
                "metadata": {"resourceVersion": revision.to_string()},
                "rows": [{"cells": [], "object": partial(metadata)}],
            }),
            Shape::Metadata => partial(metadata),
            Shape::Object => {
                json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata})
            }
        };
        bookmark.to_string().into()
    }
}
