//! What is known about a kind, as data.

use std::sync::{Arc, LazyLock};

use api::Object;
use api::schema::{Conformed, Schema, StructId, TypeMismatch};
use serde_json::Value;

use crate::Strategy;

/// A struct of a schema, made when it is first asked for.
pub type Shape = LazyLock<(Arc<Schema>, StructId), Box<dyn FnOnce() -> (Arc<Schema>, StructId) + Send>>;

/// One resource of one version of one group.
#[derive(Clone)]
pub struct Descriptor {
    /// Empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural name in paths.
    pub resource: String,
    /// The kind.
    pub kind: String,
    /// The singular name.
    pub singular: String,
    /// Abbreviations that kubectl takes.
    pub short_names: Vec<String>,
    /// Groups of kinds such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// The verbs of the main resource, in alphabetical order.
    pub verbs: Vec<String>,
    /// The subresources.
    pub subresources: Vec<Subresource>,
    /// The columns of the kind's table.
    pub columns: Vec<Column>,
    /// The shape: a struct of the schema. That of a custom resource is made when it is
    /// first asked for.
    pub shape: Arc<Shape>,
    /// Group and resource under which objects are stored; several versions, and
    /// several groups, may share one.
    pub storage: (String, String),
    /// The `apiVersion` of the stored form.
    pub stored_version: String,
    /// Who converts objects between versions, where it is not this server: the
    /// `webhook` of a definition's conversion.
    pub conversion: Option<Arc<Value>>,
    /// The behaviour.
    pub strategy: Arc<dyn Strategy>,
}

/// A part of a resource with a path of its own.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// The last element of the path: `status`, `scale`.
    pub name: String,
    /// The kind of its body.
    pub kind: String,
    /// The group and version of that kind, where they differ from the resource's.
    pub group_version: Option<(String, String)>,
    /// The verbs, in alphabetical order.
    pub verbs: Vec<String>,
    /// Where a `scale` finds its numbers.
    pub scale: Option<ScalePaths>,
}

/// The fields behind a `scale` subresource, as paths from the object's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// Desired replicas.
    pub spec_replicas: Vec<String>,
    /// Observed replicas.
    pub status_replicas: Vec<String>,
    /// The label selector: an API object, a map, or text.
    pub selector: Vec<String>,
}

/// A column of a kind's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// The OpenAPI type: `string`, `integer`, `date`.
    pub kind: String,
    /// The OpenAPI format: `name` marks the object's name.
    pub format: String,
    /// 0 is always shown, higher ones in wide output.
    pub priority: i32,
}

impl Descriptor {
    /// `apiVersion` of the kind's objects: `apps/v1`, `v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `deployments.apps`, as messages name the resource.
    #[must_use]
    pub fn qualified_resource(&self) -> String {
        api::status::qualified(&self.group, &self.resource)
    }

    /// Brings an object into the kind's shape.
    ///
    /// # Errors
    /// A value of the wrong type.
    pub fn conform(&self, object: &mut Object) -> Result<Conformed, TypeMismatch> {
        self.strategy.conform(&self.shape.0, self.shape.1, object.as_map_mut())
    }

    /// A subresource by name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|one| one.name == name)
    }

    /// Whether the resource knows the verb.
    #[must_use]
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }

    /// Whether objects are stored; reviews and bindings are only answered.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.allows("watch")
    }
}

impl std::fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.resource)
    }
}
