//! A local, always current copy of the objects of one kind: what control loops
//! read instead of asking the server.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use api::openapi::{Metadata, Resource};
use api::{ObjectKey, metav1};
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use tokio::sync::watch as latest;

use crate::verbs::{Client, target};
use crate::watch::{Step, Watched, follow};

/// Kinds that can be cached.
pub trait Cached:
    Resource + Metadata<Ty = metav1::ObjectMeta> + DeserializeOwned + Send + Sync + 'static
{
}

impl<K: Resource + Metadata<Ty = metav1::ObjectMeta> + DeserializeOwned + Send + Sync + 'static> Cached
    for K
{
}

/// Which objects a cache holds.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Empty: all namespaces.
    pub namespace: String,
    /// Query syntax; empty: all.
    pub labels: String,
    /// Query syntax; empty: all.
    pub fields: String,
}

/// A change of one object, as its subscribers see it.
#[derive(Debug)]
pub struct Change<'a, K> {
    /// The object's key.
    pub key: &'a ObjectKey,
    /// As it was; `None`: it is new here.
    pub old: Option<&'a Arc<K>>,
    /// As it is; `None`: it is gone.
    pub new: Option<&'a Arc<K>>,
}

type Subscriber<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

/// The terms under which an object is found in an index.
pub type IndexTerms<K> = fn(&K) -> Vec<String>;

struct Index<K> {
    name: &'static str,
    terms: IndexTerms<K>,
    keys: HashMap<String, BTreeSet<ObjectKey>>,
}

struct State<K> {
    objects: HashMap<ObjectKey, Arc<K>>,
    indexes: Vec<Index<K>>,
}

/// The copy. It follows the server for as long as somebody holds it.
pub struct Cache<K> {
    state: RwLock<State<K>>,
    subscribers: Mutex<Vec<Subscriber<K>>>,
    /// The revision up to which the copy is complete; 0 before the first list.
    revision: latest::Sender<u64>,
}

impl<K: Cached> Cache<K> {
    /// A cache of all objects of the kind.
    #[must_use]
    pub fn start(client: &Client, scope: Scope) -> Arc<Self> {
        Self::start_indexed(client, scope, Vec::new())
    }

    /// A cache whose objects can also be found by terms.
    #[must_use]
    pub fn start_indexed(
        client: &Client,
        scope: Scope,
        indexes: Vec<(&'static str, IndexTerms<K>)>,
    ) -> Arc<Self> {
        let cache = Arc::new(Self::empty(indexes));
        let watched =
            Watched { target: target::<K>(&scope.namespace, ""), labels: scope.labels, fields: scope.fields };
        let weak = Arc::downgrade(&cache);
        let client = client.clone();
        crate::spawn_task(async move {
            follow(&client, &watched, |step| apply(&weak, step)).await;
        });
        cache
    }

    /// A cache that nobody fills but its caller, for tests and simulations.
    #[must_use]
    pub fn empty(indexes: Vec<(&'static str, IndexTerms<K>)>) -> Self {
        let indexes =
            indexes.into_iter().map(|(name, terms)| Index { name, terms, keys: HashMap::new() }).collect();
        Self {
            state: RwLock::new(State { objects: HashMap::new(), indexes }),
            subscribers: Mutex::new(Vec::new()),
            revision: latest::Sender::new(0),
        }
    }

    /// An object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get_key(&ObjectKey::new(namespace, name))
    }

    /// An object by key.
    #[must_use]
    pub fn get_key(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.state.read().objects.get(key).cloned()
    }

    /// All objects, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.state.read().objects.values().cloned().collect()
    }

    /// The objects of one namespace, in no order.
    #[must_use]
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        state
            .objects
            .iter()
            .filter(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The objects with a term in an index, by key.
    #[must_use]
    pub fn indexed(&self, index: &str, term: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        let Some(index) = state.indexes.iter().find(|one| one.name == index) else { return Vec::new() };
        let keys = index.keys.get(term).into_iter().flatten();
        keys.filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `subscriber` at each change, in order, under no lock of the
    /// objects; it must be quick. Objects that are there already are reported
    /// as new first.
    pub fn subscribe(&self, subscriber: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        // Holding the subscribers' lock keeps changes from slipping in between.
        let mut subscribers = self.subscribers.lock();
        let present: Vec<(ObjectKey, Arc<K>)> =
            self.state.read().objects.iter().map(|(key, object)| (key.clone(), object.clone())).collect();
        for (key, object) in &present {
            subscriber(&Change { key, old: None, new: Some(object) });
        }
        subscribers.push(Box::new(subscriber));
    }

    /// The revision up to which the copy is complete.
    #[must_use]
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Whether the first list has arrived.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.revision() > 0
    }

    /// Waits for the first list.
    pub async fn synced(&self) {
        self.reached(1).await;
    }

    /// Waits until the copy has every change up to a revision.
    pub async fn reached(&self, revision: u64) {
        let mut follower = self.revision.subscribe();
        // An error means that the cache is gone, and this borrow says it is not.
        if follower.wait_for(|now| *now >= revision).await.is_err() {
            std::future::pending().await
        }
    }

    /// Takes the complete state at a revision.
    pub fn replace(&self, objects: Vec<K>, revision: u64) {
        let keep: std::collections::HashSet<ObjectKey> = objects.iter().map(ObjectKey::of).collect();
        let gone: Vec<ObjectKey> =
            self.state.read().objects.keys().filter(|key| !keep.contains(*key)).cloned().collect();
        for key in gone {
            self.remove(&key);
        }
        for object in objects {
            let key = ObjectKey::of(&object);
            let same = self.get_key(&key).is_some_and(|old| {
                old.metadata().resource_version == object.metadata().resource_version
                    && old.metadata().uid == object.metadata().uid
            });
            if !same {
                self.insert(object);
            }
        }
        self.advance(revision);
    }

    /// Takes one object, new or changed.
    pub fn insert(&self, object: K) {
        let key = ObjectKey::of(&object);
        let object = Arc::new(object);
        self.change(&key, Some(object));
    }

    /// Takes an object's end.
    pub fn remove(&self, key: &ObjectKey) {
        self.change(key, None);
    }

    /// Says that every change up to a revision was taken.
    pub fn advance(&self, revision: u64) {
        self.revision.send_if_modified(|now| {
            let newer = revision > *now;
            *now = revision.max(*now);
            newer
        });
    }

    fn change(&self, key: &ObjectKey, new: Option<Arc<K>>) {
        let subscribers = self.subscribers.lock();
        let old = {
            let mut state = self.state.write();
            let old = match &new {
                Some(object) => state.objects.insert(key.clone(), object.clone()),
                None => state.objects.remove(key),
            };
            for index in &mut state.indexes {
                index.update(key, old.as_deref(), new.as_deref());
            }
            old
        };
        if old.is_none() && new.is_none() {
            return;
        }
        for subscriber in subscribers.iter() {
            subscriber(&Change { key, old: old.as_ref(), new: new.as_ref() });
        }
    }
}

impl<K> Index<K> {
    fn update(&mut self, key: &ObjectKey, old: Option<&K>, new: Option<&K>) {
        for term in old.map(self.terms).into_iter().flatten() {
            if let Some(keys) = self.keys.get_mut(&term) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&term);
                }
            }
        }
        for term in new.map(self.terms).into_iter().flatten() {
            self.keys.entry(term).or_default().insert(key.clone());
        }
    }
}

fn apply<K: Cached>(cache: &Weak<Cache<K>>, step: Step) -> bool {
    let Some(cache) = cache.upgrade() else { return false };
    match step {
        Step::Listed { items, revision } => {
            cache.replace(items.iter().filter_map(|json| decode(json)).collect(), revision);
        }
        Step::Applied { json, revision } => {
            if let Some(object) = decode(&json) {
                cache.insert(object);
            }
            cache.advance(revision);
        }
        Step::Deleted { json, revision } => {
            if let Some(object) = decode::<K>(&json) {
                cache.remove(&ObjectKey::of(&object));
            }
            cache.advance(revision);
        }
        Step::Progress { revision } => cache.advance(revision),
    }
    true
}

fn decode<K: Cached>(json: &[u8]) -> Option<K> {
    match serde_json::from_slice(json) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(kind = K::KIND, %error, "the server sent an object that cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use api::types::core::v1::ConfigMap;

    use super::*;

    fn config_map(name: &str, version: &str, label: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object.metadata.resource_version = Some(version.into());
        object.metadata.labels = Some([("l".to_owned(), label.to_owned())].into());
        object
    }

    fn by_label(object: &ConfigMap) -> Vec<String> {
        object.metadata.labels.iter().flatten().map(|(_, value)| value.clone()).collect()
    }

    #[test]
    fn subscribers_see_each_change_once_and_indexes_follow() {
        let cache = Cache::<ConfigMap>::empty(vec![("label", by_label)]);
        cache.insert(config_map("a", "1", "x"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        cache.subscribe(move |change| {
            log.lock().push((change.key.name.clone(), change.old.is_some(), change.new.is_some()));
        });
        cache.replace(vec![config_map("a", "1", "x"), config_map("b", "2", "x")], 5);
        cache.insert(config_map("a", "6", "y"));
        cache.remove(&ObjectKey::new("", "b"));
        cache.remove(&ObjectKey::new("", "b"));
        let expected = [("a", false, true), ("b", false, true), ("a", true, true), ("b", true, false)]
            .map(|(name, old, new)| (name.to_owned(), old, new));
        assert_eq!(*seen.lock(), expected);
        assert_eq!((cache.indexed("label", "x").len(), cache.indexed("label", "y").len()), (0, 1));
        assert_eq!(cache.revision(), 5);
    }
}
