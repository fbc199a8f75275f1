//! Ties a reconciler to the caches that it reads: which change wakes which key,
//! and which caches must show a write before the key runs again.

use std::collections::HashMap;
use std::sync::Arc;

use api::metav1::ObjectMeta;
use api::{ObjectKey, metav1};
use client::cached::Cached;
use client::{Cache, Change};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::queue::Queue;
use crate::{Moment, Plan, Reconciler};

/// Group and plural name of a resource.
pub type ResourceName = (String, String);

/// A reconciler with its kind of observation erased.
pub(crate) trait Decide: Send + Sync {
    fn decide(&self, key: &ObjectKey, moment: &Moment) -> Option<Plan>;
}

impl<R: Reconciler> Decide for R {
    fn decide(&self, key: &ObjectKey, moment: &Moment) -> Option<Plan> {
        self.observe(key).map(|observed| self.plan(&observed, moment))
    }
}

/// A cache whose progress can be waited for.
pub(crate) trait Followed: Send + Sync {
    fn reached(&self, revision: u64) -> BoxFuture<'_, ()>;
    fn revision(&self) -> u64;
}

impl<K: Cached> Followed for Cache<K> {
    fn reached(&self, revision: u64) -> BoxFuture<'_, ()> {
        Box::pin(Self::reached(self, revision))
    }

    fn revision(&self) -> u64 {
        Self::revision(self)
    }
}

/// The queue that triggers add to and the loop takes from.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) queue: Mutex<Queue>,
    pub(crate) news: Notify,
}

/// Wakes keys of one loop. Clones wake the same loop.
#[derive(Clone)]
pub struct Waker(pub(crate) Arc<Shared>);

impl Waker {
    /// Wants a run of the key.
    pub fn wake(&self, key: ObjectKey) {
        if self.0.queue.lock().add(key) {
            self.0.news.notify_one();
        }
    }
}

/// A reconciler with its triggers, ready to run.
pub struct Loop {
    pub(crate) name: &'static str,
    pub(crate) decide: Arc<dyn Decide>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) caches: HashMap<ResourceName, Arc<dyn Followed>>,
    pub(crate) workers: usize,
}

impl Loop {
    /// A loop that makes at most `workers` runs at a time, each of another key.
    pub fn new<R: Reconciler>(reconciler: R, workers: usize) -> Self {
        Self {
            name: R::NAME,
            decide: Arc::new(reconciler),
            shared: Arc::default(),
            caches: HashMap::new(),
            workers: workers.max(1),
        }
    }

    /// The loop's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Something to wake keys with that no cache knows about.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared))
    }

    /// Waits for this cache before the first run, and for its progress after a
    /// write of its kind. The triggers imply it.
    #[must_use]
    pub fn reads<K: Cached>(mut self, cache: &Arc<Cache<K>>) -> Self {
        let name = (K::GROUP.to_owned(), K::URL_PATH_SEGMENT.to_owned());
        self.caches.insert(name, Arc::clone(cache) as Arc<dyn Followed>);
        self
    }

    /// Wakes an object's own key at each of its changes.
    #[must_use]
    pub fn own<K: Cached>(self, cache: &Arc<Cache<K>>) -> Self {
        self.mapped(cache, |change| vec![change.key.clone()])
    }

    /// Wakes the controllers, of one kind, of the objects that change.
    #[must_use]
    pub fn owned<K: Cached>(self, cache: &Arc<Cache<K>>, kind: &'static str) -> Self {
        self.mapped(cache, move |change| {
            let owners = [change.old, change.new].into_iter().flatten();
            let mut keys: Vec<ObjectKey> = owners
                .filter_map(|object| controller_of(object.metadata()))
                .filter(|owner| owner.kind == kind)
                .map(|owner| ObjectKey::new(change.key.namespace.clone(), owner.name.clone()))
                .collect();
            keys.dedup();
            keys
        })
    }

    /// Wakes the keys that a function names at each change.
    #[must_use]
    pub fn mapped<K: Cached>(
        self,
        cache: &Arc<Cache<K>>,
        keys: impl Fn(&Change<'_, K>) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> Self {
        let waker = self.waker();
        cache.subscribe(move |change| {
            for key in keys(change) {
                waker.wake(key);
            }
        });
        self.reads(cache)
    }
}

/// The owner that controls an object.
#[must_use]
pub fn controller_of(metadata: &ObjectMeta) -> Option<&metav1::OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}
