//! All kinds that a server knows, found by group, version and name.

use std::sync::Arc;

use crate::Descriptor;

/// The kinds that are built in.
pub struct Catalogue {
    descriptors: Vec<Arc<Descriptor>>,
}

impl Catalogue {
    /// Every built-in kind, in the order of the API tables.
    #[must_use]
    pub fn built_in() -> Self {
        Self { descriptors: crate::tables::descriptors() }
    }

    /// All descriptors, in discovery order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Descriptor>> {
        self.descriptors.iter()
    }

    /// A resource by its path.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Descriptor>> {
        self.iter().find(|one| one.resource == resource && one.group == group && one.version == version)
    }

    /// A resource by the kind of its objects.
    #[must_use]
    pub fn find_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Descriptor>> {
        self.iter().find(|one| one.kind == kind && one.group == group && one.version == version)
    }
}
