//! What was converted a moment ago, so that the watchers of a change share one call.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::stored::Stored;

/// Bytes of JSON in one generation; two are kept.
const MOST: usize = 16 << 20;

/// An object at one revision, in one version: uid, revision, `apiVersion`.
pub(super) type Key = (String, u64, String);

/// Converted objects, the oldest forgotten first.
#[derive(Default)]
pub(super) struct Remembered(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<Key, Arc<Stored>>,
    old: HashMap<Key, Arc<Stored>>,
    /// Bytes of the young.
    size: usize,
}

impl Remembered {
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        let generations = self.0.lock();
        generations.young.get(key).or_else(|| generations.old.get(key)).cloned()
    }

    pub(super) fn put(&self, key: Key, object: Arc<Stored>) {
        let mut generations = self.0.lock();
        generations.size += object.json.len();
        generations.young.insert(key, object);
        if generations.size > MOST {
            generations.old = std::mem::take(&mut generations.young);
            generations.size = 0;
        }
    }
}
