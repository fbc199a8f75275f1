//! The metadata of every object of every kind that the server has, custom ones
//! included: who owns whom, and what is in a namespace. Events are left out, as
//! upstream's garbage collector does.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::Object;
use api::metav1::OwnerReference;
use client::watch::{Step, Watched, follow};
use client::{Client, Target};
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;

/// How often the server is asked for new kinds.
const DISCOVERY: Duration = Duration::from_secs(30);

/// A resource that the server has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Group, empty for the core.
    pub group: String,
    /// The version in which we speak of it.
    pub version: String,
    /// Plural name.
    pub resource: String,
    /// Kind.
    pub kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// What can be done with it.
    pub verbs: Vec<String>,
}

impl Kind {
    /// Where an object of the kind is.
    #[must_use]
    pub fn target(&self, namespace: &str, name: &str) -> Target {
        Target {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.resource.clone(),
            subresource: String::new(),
            namespace: if self.namespaced { namespace.to_owned() } else { String::new() },
            name: name.to_owned(),
        }
    }

    /// Whether something can be done with it.
    #[must_use]
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }

    fn is_followed(&self) -> bool {
        self.resource != "events" && ["list", "watch", "delete"].iter().all(|verb| self.can(verb))
    }
}

/// An object's metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its kind.
    pub kind: Arc<Kind>,
    /// Empty for cluster-scoped ones.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// As last seen.
    pub resource_version: String,
    /// Who owns it.
    pub owners: Vec<OwnerReference>,
    /// Who must agree to its end.
    pub finalizers: Vec<String>,
    /// Whether its deletion was asked for.
    pub deleting: bool,
}

impl Entry {
    /// Where it is.
    #[must_use]
    pub fn target(&self) -> Target {
        self.kind.target(&self.namespace, &self.name)
    }

    /// Whether it has a finalizer.
    #[must_use]
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|one| one == name)
    }

    /// Whether it waits for its dependents to go first.
    #[must_use]
    pub fn awaits_dependents(&self) -> bool {
        self.deleting && self.has_finalizer("foregroundDeletion")
    }
}

/// What of an object's JSON is read.
#[derive(Deserialize)]
struct Partial {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    owner_references: Vec<OwnerReference>,
    #[serde(default)]
    finalizers: Vec<String>,
    deletion_timestamp: Option<String>,
}

fn read(kind: &Arc<Kind>, json: &[u8]) -> Option<Entry> {
    let Partial { metadata } = match serde_json::from_slice(json) {
        Ok(partial) => partial,
        Err(error) => {
            tracing::error!(resource = kind.resource, %error, "an object's metadata cannot be read");
            return None;
        }
    };
    Some(Entry {
        kind: Arc::clone(kind),
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        owners: metadata.owner_references,
        finalizers: metadata.finalizers,
        deleting: metadata.deletion_timestamp.is_some(),
    })
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Arc<Entry>>,
    /// Uids by the uid of an owner.
    dependents: HashMap<String, BTreeSet<String>>,
    by_namespace: HashMap<String, BTreeSet<String>>,
    /// Every resource, and of those followed whether they were listed.
    kinds: Vec<Arc<Kind>>,
    listed: HashMap<Arc<Kind>, bool>,
    /// Up to which revision what is known of a kind is complete.
    revisions: HashMap<Arc<Kind>, u64>,
}

/// Told of each change: as it was, as it is.
type Subscriber = Box<dyn Fn(Option<&Arc<Entry>>, Option<&Arc<Entry>>) + Send + Sync>;

/// The inventory.
#[derive(Default)]
pub struct Inventory {
    state: RwLock<State>,
    subscribers: Mutex<Vec<Subscriber>>,
}

impl Inventory {
    /// An inventory that follows a server for as long as somebody holds it.
    #[must_use]
    pub fn following(client: &Client) -> Arc<Self> {
        let inventory = Arc::new(Self::default());
        let weak = Arc::downgrade(&inventory);
        daemon::tasks::spawn("inventory", discover_forever(weak, client.clone()));
        inventory
    }

    /// Calls `subscriber` at each change; what is there already is reported as new first.
    pub fn subscribe(
        &self,
        subscriber: impl Fn(Option<&Arc<Entry>>, Option<&Arc<Entry>>) + Send + Sync + 'static,
    ) {
        let mut subscribers = self.subscribers.lock();
        let present: Vec<Arc<Entry>> = self.state.read().entries.values().cloned().collect();
        for entry in &present {
            subscriber(None, Some(entry));
        }
        subscribers.push(Box::new(subscriber));
    }

    /// Whether every kind was listed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let state = self.state.read();
        !state.kinds.is_empty() && state.listed.values().all(|listed| *listed)
    }

    /// Whether the server was asked which resources it has.
    #[must_use]
    pub fn knows_kinds(&self) -> bool {
        !self.state.read().kinds.is_empty()
    }

    /// Every resource that the server has.
    #[must_use]
    pub fn kinds(&self) -> Vec<Arc<Kind>> {
        self.state.read().kinds.clone()
    }

    /// The revision up to which the objects of a kind are known, once they were listed.
    #[must_use]
    pub fn revision(&self, kind: &Arc<Kind>) -> Option<u64> {
        self.state.read().revisions.get(kind).copied()
    }

    /// The resource of an owner reference.
    #[must_use]
    pub fn kind_of(&self, owner: &OwnerReference) -> Option<Arc<Kind>> {
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let state = self.state.read();
        state.kinds.iter().find(|kind| kind.group == group && kind.kind == owner.kind).cloned()
    }

    /// An object.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<Arc<Entry>> {
        self.state.read().entries.get(uid).cloned()
    }

    /// The objects that name an owner.
    #[must_use]
    pub fn dependents(&self, owner: &str) -> Vec<Arc<Entry>> {
        let state = self.state.read();
        let uids = state.dependents.get(owner).into_iter().flatten();
        uids.filter_map(|uid| state.entries.get(uid).cloned()).collect()
    }

    /// The objects in a namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Entry>> {
        let state = self.state.read();
        let uids = state.by_namespace.get(namespace).into_iter().flatten();
        uids.filter_map(|uid| state.entries.get(uid).cloned()).collect()
    }

    /// Takes an object as it is now.
    pub fn insert(&self, entry: Entry) {
        let uid = entry.uid.clone();
        self.change(&uid, Some(Arc::new(entry)));
    }

    /// Takes an object's end.
    pub fn remove(&self, uid: &str) {
        self.change(uid, None);
    }

    /// Takes the resources that the server has.
    pub fn set_kinds(&self, kinds: Vec<Arc<Kind>>) {
        self.state.write().kinds = kinds;
    }

    fn change(&self, uid: &str, new: Option<Arc<Entry>>) {
        let subscribers = self.subscribers.lock();
        let old = self.state.write().change(uid, new.clone());
        if old.is_some() || new.is_some() {
            for subscriber in subscribers.iter() {
                subscriber(old.as_ref(), new.as_ref());
            }
        }
    }

    fn replace(&self, kind: &Arc<Kind>, entries: Vec<Entry>) {
        let keep: HashSet<&str> = entries.iter().map(|entry| entry.uid.as_str()).collect();
        let is_gone = |entry: &&Arc<Entry>| entry.kind == *kind && !keep.contains(entry.uid.as_str());
        let gone: Vec<String> =
            self.state.read().entries.values().filter(is_gone).map(|entry| entry.uid.clone()).collect();
        gone.iter().for_each(|uid| self.remove(uid));
        entries.into_iter().for_each(|entry| self.insert(entry));
        if let Some(listed) = self.state.write().listed.get_mut(kind) {
            *listed = true;
        }
    }

    fn take(&self, kind: &Arc<Kind>, step: Step) -> bool {
        let (Step::Listed { revision, .. }
        | Step::Applied { revision, .. }
        | Step::Deleted { revision, .. }
        | Step::Progress { revision }) = step;
        match step {
            Step::Listed { items, .. } => {
                self.replace(kind, items.iter().filter_map(|json| read(kind, json)).collect());
            }
            Step::Applied { json, .. } => read(kind, &json).into_iter().for_each(|entry| self.insert(entry)),
            Step::Deleted { json, .. } => {
                read(kind, &json).into_iter().for_each(|entry| self.remove(&entry.uid))
            }
            Step::Progress { .. } => {}
        }
        let mut state = self.state.write();
        let is_followed = state.listed.contains_key(kind);
        if is_followed {
            state.revisions.insert(Arc::clone(kind), revision);
        }
        is_followed
    }
}

impl State {
    fn change(&mut self, uid: &str, new: Option<Arc<Entry>>) -> Option<Arc<Entry>> {
        let old = match &new {
            Some(entry) => self.entries.insert(uid.to_owned(), Arc::clone(entry)),
            None => self.entries.remove(uid),
        };
        if let Some(old) = &old {
            for owner in &old.owners {
                unlink(&mut self.dependents, &owner.uid, uid);
            }
            unlink(&mut self.by_namespace, &old.namespace, uid);
        }
        if let Some(new) = &new {
            for owner in &new.owners {
                self.dependents.entry(owner.uid.clone()).or_default().insert(uid.to_owned());
            }
            if !new.namespace.is_empty() {
                self.by_namespace.entry(new.namespace.clone()).or_default().insert(uid.to_owned());
            }
        }
        old
    }
}

fn unlink(index: &mut HashMap<String, BTreeSet<String>>, term: &str, uid: &str) {
    if let Some(uids) = index.get_mut(term) {
        uids.remove(uid);
        if uids.is_empty() {
            index.remove(term);
        }
    }
}

async fn discover_forever(inventory: Weak<Inventory>, client: Client) {
    loop {
        let pause = match client.discover().await {
            Ok(document) => {
                let Some(inventory) = inventory.upgrade() else { return };
                take_kinds(&inventory, kinds_in(&document), &client);
                DISCOVERY
            }
            Err(status) => {
                tracing::warn!(error = %status, "cannot ask which kinds there are");
                Duration::from_secs(2)
            }
        };
        tokio::time::sleep(pause).await;
        if inventory.strong_count() == 0 {
            return;
        }
    }
}

fn take_kinds(inventory: &Arc<Inventory>, kinds: Vec<Arc<Kind>>, client: &Client) {
    let gone: Vec<Arc<Kind>> = {
        let mut state = inventory.state.write();
        let gone = state.listed.keys().filter(|kind| !kinds.contains(kind)).cloned().collect();
        state.listed.retain(|kind, _| kinds.contains(kind));
        state.revisions.retain(|kind, _| kinds.contains(kind));
        gone
    };
    for kind in gone {
        inventory.replace(&kind, Vec::new());
    }
    for kind in kinds.iter().filter(|kind| kind.is_followed()) {
        let news = !inventory.state.read().listed.contains_key(kind);
        if news {
            inventory.state.write().listed.insert(Arc::clone(kind), false);
            daemon::tasks::spawn(
                "inventory-kind",
                follow_kind(Arc::downgrade(inventory), Arc::clone(kind), client.clone()),
            );
        }
    }
    inventory.set_kinds(kinds);
}

async fn follow_kind(inventory: Weak<Inventory>, kind: Arc<Kind>, client: Client) {
    let watched = Watched { target: kind.target("", ""), labels: String::new(), fields: String::new() };
    follow(&client, &watched, |step| {
        inventory.upgrade().is_some_and(|inventory| inventory.take(&kind, step))
    })
    .await;
}

/// The resources in a discovery document (`apidiscovery.k8s.io/v2`), each in
/// its group's preferred version.
fn kinds_in(document: &Object) -> Vec<Arc<Kind>> {
    let mut seen = HashSet::new();
    let mut kinds = Vec::new();
    let list = |value: Option<&serde_json::Value>| {
        value.and_then(serde_json::Value::as_array).cloned().unwrap_or_default()
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    for group in list(document.get("items")) {
        let group_name = text(&group["metadata"]["name"]);
        for version in list(group.get("versions")) {
            for resource in list(version.get("resources")) {
                let name = text(&resource["resource"]);
                if !seen.insert((group_name.clone(), name.clone())) {
                    continue;
                }
                kinds.push(Arc::new(Kind {
                    group: group_name.clone(),
                    version: text(&version["version"]),
                    resource: name,
                    kind: text(&resource["responseKind"]["kind"]),
                    namespaced: resource["scope"] == "Namespaced",
                    verbs: list(resource.get("verbs")).iter().map(text).collect(),
                }));
            }
        }
    }
    kinds
}
