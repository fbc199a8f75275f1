//! Other shapes of objects: tables for people, metadata alone for controllers
//! that need no more.

use api::{Object, Status};
use bytes::Bytes;
use jiff::Timestamp;
use resources::Descriptor;
use serde_json::{Value, json};

use crate::stored::Stored;

/// How much of each object a table carries with its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// Makes tables of one kind.
pub(super) struct Tables<'a> {
    /// The kind.
    pub(super) kind: &'a Descriptor,
    /// For ages.
    pub(super) now: Timestamp,
    /// What goes with each row.
    pub(super) include: IncludeObject,
}

impl Tables<'_> {
    /// A table of objects; `headings` are left out in later events of a watch.
    ///
    /// # Errors
    /// An object that cannot be read.
    pub(super) fn table<'o>(
        &self,
        objects: impl IntoIterator<Item = &'o Stored>,
        metadata: Value,
        headings: bool,
    ) -> Result<Bytes, Status> {
        let objects: Vec<Object> = objects
            .into_iter()
            .map(|stored| {
                let mut object = stored.object().map_err(Status::internal)?;
                if self.kind.strategy.converts() {
                    self.kind.strategy.from_stored(&mut object);
                }
                Ok(object)
            })
            .collect::<Result<_, Status>>()?;
        self.table_of(objects, metadata, headings)
    }

    /// The same of objects that are decoded.
    ///
    /// # Errors
    /// A table that cannot be encoded.
    pub(super) fn table_of(
        &self,
        objects: Vec<Object>,
        metadata: Value,
        headings: bool,
    ) -> Result<Bytes, Status> {
        let rows: Vec<Value> = objects.into_iter().map(|object| self.row(object)).collect();
        let columns: Value = if headings {
            let column = |one: &resources::Column| {
                json!({
                    "name": one.name, "type": one.kind, "format": one.format,
                    "description": "", "priority": one.priority,
                })
            };
            self.kind.columns.iter().map(column).collect()
        } else {
            Value::Null
        };
        let table = json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata, "columnDefinitions": columns, "rows": rows,
        });
        serde_json::to_vec(&table).map(Bytes::from).map_err(Status::internal)
    }

    fn row(&self, mut object: Object) -> Value {
        let cells = self.kind.strategy.cells(&object, self.now);
        let mut row = json!({"cells": cells});
        match self.include {
            IncludeObject::None => {}
            IncludeObject::Metadata => row["object"] = metadata_of(&mut object),
            IncludeObject::Object => row["object"] = object.into_value(),
        }
        row
    }
}

fn metadata_of(object: &mut Object) -> Value {
    let metadata = object.remove("metadata").unwrap_or_default();
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// `metav1.PartialObjectMetadata` of an object.
///
/// # Errors
/// An object that cannot be read.
pub(super) fn partial_metadata(stored: &Stored) -> Result<Bytes, Status> {
    partial_metadata_of(&mut stored.object().map_err(Status::internal)?)
}

/// The same of an object that is decoded.
pub(super) fn partial_metadata_of(object: &mut Object) -> Result<Bytes, Status> {
    serde_json::to_vec(&metadata_of(object)).map(Bytes::from).map_err(Status::internal)
}
