//! The watch cache: every object that the server has, and the recent past, in
//! memory. All reads and watches are served from it.
//!
//! One task follows the store's log and is the only writer. It puts a change
//! into its resource first and moves the cache's revision after, so that
//! whoever sees a revision also sees every change up to it.

mod follow;
mod resource;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use store::{Store, StoreError};
use tokio::sync::watch as latest;

pub use follow::start;
pub use resource::{ChangeKind, Resource, Selected, Transition};

/// All keys of API objects begin with this.
pub const ROOT: &str = "/registry/";

/// The cache. Shared by all requests.
pub struct WatchCache {
    store: Arc<dyn Store>,
    resources: RwLock<HashMap<String, Arc<Resource>>>,
    revision: latest::Sender<u64>,
}

impl WatchCache {
    fn new(store: Arc<dyn Store>) -> Self {
        Self { store, resources: RwLock::default(), revision: latest::Sender::new(0) }
    }

    /// The objects of a stored resource, by its group and plural name.
    #[must_use]
    pub fn resource(&self, group: &str, resource: &str) -> Arc<Resource> {
        self.by_prefix(&prefix(group, resource))
    }

    /// The same, if anything was ever asked or stored of that resource: what a client
    /// makes up takes no memory.
    #[must_use]
    pub fn resource_if_known(&self, group: &str, resource: &str) -> Option<Arc<Resource>> {
        self.resources.read().get(&prefix(group, resource)).cloned()
    }

    fn by_prefix(&self, prefix: &str) -> Arc<Resource> {
        if let Some(found) = self.resources.read().get(prefix) {
            return Arc::clone(found);
        }
        let mut resources = self.resources.write();
        Arc::clone(
            resources.entry(prefix.to_owned()).or_insert_with(|| Arc::new(Resource::new(self.revision()))),
        )
    }

    /// The revision up to which the cache is complete.
    #[must_use]
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Waits until the cache has every change up to a revision.
    pub async fn reached(&self, revision: u64) {
        if self.revision() >= revision {
            return;
        }
        let mut follower = self.revision.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        drop(follower.wait_for(|now| *now >= revision).await);
    }

    /// Waits until the cache shows every change acknowledged before the call,
    /// and returns its revision.
    ///
    /// # Errors
    /// The store cannot confirm its revision.
    pub async fn refreshed(&self) -> Result<u64, StoreError> {
        let revision = self.store.read_revision().await?;
        self.reached(revision).await;
        Ok(revision)
    }
}

/// The prefix of a resource's keys.
#[must_use]
pub fn prefix(group: &str, resource: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{ROOT}{group}/{resource}/")
}

/// The key of an object in the store.
#[must_use]
pub fn key(group: &str, resource: &str, namespace: &str, name: &str) -> String {
    let prefix = prefix(group, resource);
    if namespace.is_empty() { format!("{prefix}{name}") } else { format!("{prefix}{namespace}/{name}") }
}

/// Group and plural name of the resource that a key belongs to.
#[must_use]
pub fn resource_of(key: &str) -> Option<(&str, &str)> {
    let (prefix, _) = split(key)?;
    let (group, resource) = prefix.strip_prefix(ROOT)?.trim_end_matches('/').split_once('/')?;
    Some((if group == "core" { "" } else { group }, resource))
}

/// Splits a key into its resource's prefix and the rest.
fn split(key: &str) -> Option<(&str, &str)> {
    let after_root = key.strip_prefix(ROOT)?;
    let group_end = after_root.find('/')?;
    let resource_end = after_root[group_end + 1..].find('/')?;
    let at = ROOT.len() + group_end + 1 + resource_end + 1;
    Some(key.split_at(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_split_where_they_were_joined() {
        assert_eq!(split(&key("", "pods", "n", "p")), Some(("/registry/core/pods/", "n/p")));
        assert_eq!(
            split(&key("apps", "deployments", "n", "d")),
            Some(("/registry/apps/deployments/", "n/d"))
        );
        assert_eq!(split(&key("", "nodes", "", "w")), Some(("/registry/core/nodes/", "w")));
        assert_eq!(split("/other/x"), None);
    }
}
