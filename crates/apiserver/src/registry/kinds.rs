//! The kinds that this server serves now, found by path.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use resources::{Catalogue, Descriptor};

type Path = (String, String, String);

/// The kinds, built in and added at run time.
pub struct Kinds {
    built_in: Vec<Arc<Descriptor>>,
    index: ArcSwap<Index>,
}

struct Index {
    in_order: Vec<Arc<Descriptor>>,
    by_path: HashMap<Path, Arc<Descriptor>>,
    /// The versions of the same objects.
    by_storage: HashMap<(String, String), Vec<Arc<Descriptor>>>,
}

impl Index {
    fn new(in_order: Vec<Arc<Descriptor>>) -> Self {
        let path = |kind: &Arc<Descriptor>| (kind.group.clone(), kind.version.clone(), kind.resource.clone());
        let by_path = in_order.iter().map(|kind| (path(kind), Arc::clone(kind))).collect();
        let mut by_storage = HashMap::<_, Vec<_>>::new();
        for kind in &in_order {
            by_storage.entry(kind.storage.clone()).or_default().push(Arc::clone(kind));
        }
        Self { in_order, by_path, by_storage }
    }
}

impl Kinds {
    /// The built-in kinds.
    #[must_use]
    pub fn new(catalogue: &Catalogue) -> Self {
        let built_in: Vec<_> = catalogue.iter().cloned().collect();
        let index = ArcSwap::from_pointee(Index::new(built_in.clone()));
        Self { built_in, index }
    }

    /// Replaces the kinds that were added at run time.
    pub fn set_custom(&self, custom: Vec<Arc<Descriptor>>) {
        let mut all = self.built_in.clone();
        all.extend(custom);
        self.index.store(Arc::new(Index::new(all)));
    }

    /// A kind by its path.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Descriptor>> {
        self.index.load().by_path.get(&(group.to_owned(), version.to_owned(), resource.to_owned())).cloned()
    }

    /// The other versions of a kind's objects.
    #[must_use]
    pub fn other_versions(&self, kind: &Descriptor) -> Vec<Arc<Descriptor>> {
        let index = self.index.load();
        let all = index.by_storage.get(&kind.storage).into_iter().flatten();
        all.filter(|other| (&other.group, &other.version) != (&kind.group, &kind.version)).cloned().collect()
    }

    /// All kinds, in discovery order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Descriptor>> {
        self.index.load().in_order.clone()
    }

    /// Whether anything is served under a group and version.
    #[must_use]
    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.index.load().in_order.iter().any(|kind| kind.group == group && kind.version == version)
    }
}
