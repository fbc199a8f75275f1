//! Claims, volumes, and what says how they come together; with the changes that
//! a decision has made and the caches do not show yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::types::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};

/// The older way to name a class.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// What is known of storage.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    claims: HashMap<ObjectKey, Arc<PersistentVolumeClaim>>,
    volumes: HashMap<String, Arc<PersistentVolume>>,
    by_class: HashMap<String, BTreeSet<String>>,
    classes: HashMap<String, Arc<StorageClass>>,
    nodes: HashMap<String, Arc<CSINode>>,
    drivers: HashMap<String, Arc<CSIDriver>>,
    capacities: BTreeMap<ObjectKeyed, Arc<CSIStorageCapacity>>,
    /// Attacher and volume of attachments, by node and name.
    attachments: HashMap<String, HashMap<String, (String, String)>>,
    /// Claims and volumes as decided, until the caches show newer ones.
    assumed_claims: HashMap<ObjectKey, Arc<PersistentVolumeClaim>>,
    assumed_volumes: HashMap<String, Arc<PersistentVolume>>,
    /// How many pods on nodes use a claim.
    users: HashMap<ObjectKey, usize>,
}

type ObjectKeyed = (String, String);

impl Volumes {
    /// Takes a claim; `None`: it is gone.
    pub fn set_claim(&mut self, key: &ObjectKey, claim: Option<Arc<PersistentVolumeClaim>>) {
        self.assumed_claims.remove(key);
        set(&mut self.claims, key.clone(), claim);
    }

    /// Takes a volume; `None`: it is gone.
    pub fn set_volume(&mut self, name: &str, volume: Option<Arc<PersistentVolume>>) {
        self.assumed_volumes.remove(name);
        if let Some(old) = self.volumes.get(name)
            && let Some(names) = self.by_class.get_mut(&class_of_volume(old))
        {
            names.remove(name);
        }
        if let Some(new) = &volume {
            self.by_class.entry(class_of_volume(new)).or_default().insert(name.to_owned());
        }
        set(&mut self.volumes, name.to_owned(), volume);
    }

    /// Takes a class; `None`: it is gone.
    pub fn set_class(&mut self, name: &str, class: Option<Arc<StorageClass>>) {
        set(&mut self.classes, name.to_owned(), class);
    }

    /// Takes what a node says of its drivers; `None`: it is gone.
    pub fn set_node(&mut self, name: &str, node: Option<Arc<CSINode>>) {
        set(&mut self.nodes, name.to_owned(), node);
    }

    /// Takes a driver; `None`: it is gone.
    pub fn set_driver(&mut self, name: &str, driver: Option<Arc<CSIDriver>>) {
        set(&mut self.drivers, name.to_owned(), driver);
    }

    /// Takes a capacity; `None`: it is gone.
    pub fn set_capacity(&mut self, key: &ObjectKey, capacity: Option<Arc<CSIStorageCapacity>>) {
        let key = (key.namespace.clone(), key.name.clone());
        match capacity {
            Some(capacity) => self.capacities.insert(key, capacity),
            None => self.capacities.remove(&key),
        };
    }

    /// Takes an attachment; `None`: it is gone.
    pub fn set_attachment(&mut self, name: &str, attachment: Option<&VolumeAttachment>) {
        for attached in self.attachments.values_mut() {
            attached.remove(name);
        }
        let Some(attachment) = attachment else { return };
        let spec = &attachment.spec;
        if let Some(volume) = &spec.source.persistent_volume_name {
            let attached = self.attachments.entry(spec.node_name.clone()).or_default();
            attached.insert(name.to_owned(), (spec.attacher.clone(), volume.clone()));
        }
    }

    /// Counts the claims of a pod on a node in or out.
    pub fn count_users<'a>(&mut self, namespace: &str, claims: impl Iterator<Item = &'a str>, comes: bool) {
        for claim in claims {
            let key = ObjectKey::new(namespace, claim);
            if comes {
                *self.users.entry(key).or_default() += 1;
            } else if let Some(count) = self.users.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.users.remove(&key);
                }
            }
        }
    }

    /// Takes a claim as it was decided.
    pub fn assume_claim(&mut self, claim: Arc<PersistentVolumeClaim>) {
        self.assumed_claims.insert(ObjectKey::of(&*claim), claim);
    }

    /// Takes a volume as it was decided.
    pub fn assume_volume(&mut self, volume: Arc<PersistentVolume>) {
        self.assumed_volumes.insert(volume.metadata.name.clone().unwrap_or_default(), volume);
    }

    /// Forgets what was decided about a claim and is not to be.
    pub fn forget_claim(&mut self, key: &ObjectKey) {
        self.assumed_claims.remove(key);
    }

    /// Forgets what was decided about a volume and is not to be.
    pub fn forget_volume(&mut self, name: &str) {
        self.assumed_volumes.remove(name);
    }

    /// A claim, as decided or as it is.
    #[must_use]
    pub fn claim(&self, key: &ObjectKey) -> Option<&Arc<PersistentVolumeClaim>> {
        self.assumed_claims.get(key).or_else(|| self.claims.get(key))
    }

    /// A volume, as decided or as it is.
    #[must_use]
    pub fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.assumed_volumes.get(name).or_else(|| self.volumes.get(name))
    }

    /// The volumes of a class.
    pub fn of_class(&self, class: &str) -> impl Iterator<Item = &Arc<PersistentVolume>> {
        self.by_class.get(class).into_iter().flatten().filter_map(|name| self.volume(name))
    }

    /// A class.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&Arc<StorageClass>> {
        self.classes.get(name)
    }

    /// What a node says of its drivers.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&CSINode> {
        self.nodes.get(name).map(Arc::as_ref)
    }

    /// Whether a driver tells how much room it has.
    #[must_use]
    pub fn tells_capacity(&self, driver: &str) -> bool {
        self.drivers.get(driver).is_some_and(|driver| driver.spec.storage_capacity == Some(true))
    }

    /// What is told of the room for volumes of a class.
    pub fn capacities<'a>(&'a self, class: &'a str) -> impl Iterator<Item = &'a Arc<CSIStorageCapacity>> {
        self.capacities.values().filter(move |capacity| capacity.storage_class_name == class)
    }

    /// Attachers and volumes of what is attached to a node.
    pub fn attached(&self, node: &str) -> impl Iterator<Item = &(String, String)> {
        self.attachments.get(node).into_iter().flat_map(HashMap::values)
    }

    /// Whether a pod on a node uses a claim.
    #[must_use]
    pub fn is_used(&self, key: &ObjectKey) -> bool {
        self.users.contains_key(key)
    }
}

fn set<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// The class that a claim asks for; empty: none.
#[must_use]
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> String {
    let annotated = claim.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
    let named = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    annotated.or(named).cloned().unwrap_or_default()
}

/// The class of a volume; empty: none.
#[must_use]
pub fn class_of_volume(volume: &PersistentVolume) -> String {
    let annotated = volume.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
    let named = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    annotated.or(named).cloned().unwrap_or_default()
}
