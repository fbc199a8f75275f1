//! The objects of one resource and its recent changes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use api::{FieldSelector, LabelSelector};
use parking_lot::RwLock;
use resources::Descriptor;
use tokio::sync::watch as latest;

use crate::stored::Stored;

/// Changes remembered for watchers that come late or read slowly; a watcher
/// further behind has to list again.
const REMEMBERED: usize = 16_384;
/// Bytes of JSON that those may hold together.
const REMEMBERED_BYTES: usize = 64 << 20;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change, shared by all who watch.
#[derive(Debug)]
struct Change {
    /// After the change; for a deletion, the last state at the deletion's revision.
    object: Arc<Stored>,
    /// Before the change.
    previous: Option<Arc<Stored>>,
    deleted: bool,
}

/// A change as a watcher with a selection sees it.
#[derive(Clone, Debug)]
pub struct Transition {
    /// What it looks like from inside the selection.
    pub kind: ChangeKind,
    /// The object to show.
    pub object: Arc<Stored>,
}

/// Which objects a request is about.
#[derive(Clone, Debug, Default)]
pub struct Selected {
    /// Empty: all namespaces.
    pub namespace: String,
    /// By labels.
    pub labels: LabelSelector,
    /// By selectable fields.
    pub fields: FieldSelector,
    /// The kind whose fields they are, where objects may have been stored before it
    /// had them.
    pub kind: Option<Arc<Descriptor>>,
}

impl Selected {
    /// Whether an object is among them.
    #[must_use]
    pub fn includes(&self, object: &Stored) -> bool {
        (self.namespace.is_empty() || self.namespace == object.namespace())
            && self.labels.matches(object)
            && (self.fields.matches(|field| object.field(field)) || self.includes_by_value(object))
    }

    /// The same by what the object itself says, of fields that were not stored with it.
    fn includes_by_value(&self, object: &Stored) -> bool {
        let Some(kind) = &self.kind else { return false };
        if self.fields.terms().iter().all(|term| object.field(&term.field).is_some()) {
            return false;
        }
        let Ok(decoded) = object.object() else { return false };
        if kind.conversion.is_some() && decoded.api_version() != kind.api_version() {
            return false;
        }
        let values = kind.strategy.selectable(&decoded);
        let value =
            |field: &str| values.iter().find(|(name, _)| *name == field).map(|(_, value)| value.as_str());
        self.fields.matches(|field| object.field(field).or_else(|| value(field)))
    }

    /// The only name that can match, if there is one.
    fn name(&self) -> Option<&str> {
        self.fields.required("metadata.name")
    }
}

struct State {
    /// By `namespace/name`, or `name` for cluster-scoped objects.
    objects: BTreeMap<Box<str>, Arc<Stored>>,
    /// Bytes of JSON of all of them.
    held: usize,
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Every change after this revision is in `changes`.
    complete_after: u64,
}

/// The objects of one resource.
pub struct Resource {
    state: RwLock<State>,
    /// The revision of the last change.
    changed: latest::Sender<u64>,
}

impl Resource {
    pub(super) fn new(complete_after: u64) -> Self {
        let state =
            State { objects: BTreeMap::new(), held: 0, changes: VecDeque::new(), bytes: 0, complete_after };
        Self { state: RwLock::new(state), changed: latest::Sender::new(0) }
    }

    /// An object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        let state = self.state.read();
        if namespace.is_empty() {
            state.objects.get(name).cloned()
        } else {
            state.objects.get(&*format!("{namespace}/{name}")).cloned()
        }
    }

    /// The objects selected, by key, at most `limit` of them (0: all), from
    /// behind `after`; and how many more there are, when that is cheap to know.
    #[must_use]
    pub fn list(
        &self,
        selected: &Selected,
        limit: usize,
        after: Option<&str>,
    ) -> (Vec<Arc<Stored>>, Option<usize>) {
        let state = self.state.read();
        if let (Some(name), None) = (selected.name(), after)
            && !selected.namespace.is_empty()
        {
            let key = format!("{}/{name}", selected.namespace);
            let found = state.objects.get(&*key).filter(|object| selected.includes(object));
            return (found.cloned().into_iter().collect(), Some(0));
        }
        let scope =
            if selected.namespace.is_empty() { String::new() } else { format!("{}/", selected.namespace) };
        let start = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(scope.as_str()),
        };
        let everything = selected.labels.is_everything() && selected.fields.is_everything();
        let mut found = Vec::with_capacity(if limit > 0 {
            limit
        } else if scope.is_empty() {
            state.objects.len()
        } else {
            16
        });
        let mut rest = state
            .objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&scope))
            .map(|(_, object)| object)
            .filter(|object| selected.includes(object));
        while limit == 0 || found.len() < limit {
            match rest.next() {
                Some(object) => found.push(Arc::clone(object)),
                None => return (found, Some(0)),
            }
        }
        let remaining = if everything { Some(rest.count()) } else { rest.next().is_none().then_some(0) };
        (found, remaining)
    }

    /// All objects, in the order of their keys.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Stored>> {
        self.state.read().objects.values().cloned().collect()
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// How many objects there are, and the bytes of their JSON.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        let state = self.state.read();
        (state.objects.len(), state.held)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The revision of the last change; to be waited on.
    #[must_use]
    pub fn changed(&self) -> latest::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The revision of the last change.
    #[must_use]
    pub fn last_change(&self) -> u64 {
        *self.changed.borrow()
    }

    /// The changes after a revision that concern the selection, at most `most`
    /// looked at; and the revision of the last one looked at.
    ///
    /// # Errors
    /// The oldest revision from which the past is still complete, if `revision`
    /// is older.
    pub fn since(
        &self,
        revision: u64,
        selected: &Selected,
        most: usize,
    ) -> Result<(Vec<Transition>, u64), u64> {
        let state = self.state.read();
        if revision < state.complete_after {
            return Err(state.complete_after);
        }
        let from = state.changes.partition_point(|change| change.object.revision <= revision);
        let mut seen = revision;
        let mut found = Vec::new();
        for change in state.changes.range(from..).take(most) {
            // Changes of one revision stay together, or a resumed watch would lose some.
            seen = change.object.revision;
            found.extend(change.seen_by(selected));
        }
        if state.changes.len() - from > most {
            let cut = seen;
            for change in
                state.changes.range(from + most..).take_while(|change| change.object.revision == cut)
            {
                found.extend(change.seen_by(selected));
            }
        }
        Ok((found, seen))
    }

    pub(super) fn put(&self, rest: &str, object: Arc<Stored>) {
        let mut state = self.state.write();
        let previous = state.insert(rest, &object);
        state.remember(Change { object, previous, deleted: false });
    }

    pub(super) fn delete(&self, rest: &str, revision: u64) {
        let mut state = self.state.write();
        if let Some(last) = state.objects.remove(rest) {
            state.held -= last.json.len();
            let object = last.at_revision(revision);
            state.remember(Change { object, previous: Some(last), deleted: true });
        }
    }

    /// Puts an object that was there before the remembered past.
    pub(super) fn load(&self, rest: &str, object: Arc<Stored>) {
        self.state.write().insert(rest, &object);
    }

    pub(super) fn notify(&self, revision: u64) {
        self.changed.send_replace(revision);
    }
}

impl State {
    fn insert(&mut self, rest: &str, object: &Arc<Stored>) -> Option<Arc<Stored>> {
        self.held += object.json.len();
        let previous = self.objects.insert(rest.into(), Arc::clone(object));
        self.held -= previous.as_ref().map_or(0, |previous| previous.json.len());
        previous
    }

    fn remember(&mut self, change: Change) {
        self.bytes += change.object.json.len();
        self.changes.push_back(Arc::new(change));
        while self.changes.len() > REMEMBERED || (self.bytes > REMEMBERED_BYTES && self.changes.len() > 1) {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= oldest.object.json.len();
            self.complete_after = oldest.object.revision;
        }
    }
}

impl Change {
    /// An object that enters the selection is added, one that leaves it is
    /// deleted, whatever happened to it as a whole.
    fn seen_by(&self, selected: &Selected) -> Option<Transition> {
        let now = !self.deleted && selected.includes(&self.object);
        let before = self.previous.as_ref().is_some_and(|previous| selected.includes(previous));
        let (kind, object) = match (before, now) {
            (false, true) => (ChangeKind::Added, Arc::clone(&self.object)),
            (true, true) => (ChangeKind::Modified, Arc::clone(&self.object)),
            (true, false) if self.deleted => (ChangeKind::Deleted, Arc::clone(&self.object)),
            (true, false) => {
                let previous = self.previous.as_ref()?;
                (ChangeKind::Deleted, previous.at_revision(self.object.revision))
            }
            (false, false) => return None,
        };
        Some(Transition { kind, object })
    }
}

#[cfg(test)]
mod tests {
    use api::Object;
    use serde_json::json;

    use super::*;
    use crate::stored::encode;

    fn stored(name: &str, label: &str, revision: u64) -> Arc<Stored> {
        let object =
            Object::from_value(json!({"metadata": {"name": name, "namespace": "n", "labels": {"l": label}}}));
        Stored::read(b"k", &encode(&object.expect("object"), &[]), revision).expect("reads")
    }

    fn kinds(resource: &Resource, selected: &Selected, revision: u64) -> Vec<(ChangeKind, u64)> {
        let (changes, _) = resource.since(revision, selected, 100).expect("in the past");
        changes.into_iter().map(|change| (change.kind, change.object.revision)).collect()
    }

    #[test]
    fn leaving_and_entering_a_selection() {
        let resource = Resource::new(0);
        resource.put("n/a", stored("a", "x", 2));
        resource.put("n/a", stored("a", "y", 3));
        resource.put("n/a", stored("a", "x", 4));
        resource.delete("n/a", 5);
        let selected =
            Selected { labels: LabelSelector::parse("l=x").expect("valid"), ..Selected::default() };
        use ChangeKind::{Added, Deleted, Modified};
        assert_eq!(kinds(&resource, &selected, 0), [(Added, 2), (Deleted, 3), (Added, 4), (Deleted, 5)]);
        assert_eq!(kinds(&resource, &Selected::default(), 2), [(Modified, 3), (Modified, 4), (Deleted, 5)]);
        let other = Selected { namespace: "other".into(), ..Selected::default() };
        assert!(kinds(&resource, &other, 0).is_empty());
    }

    #[test]
    fn the_past_is_bounded_and_says_so() {
        let resource = Resource::new(0);
        for revision in 1..=(REMEMBERED as u64 + 10) {
            resource.put("n/a", stored("a", "x", revision));
        }
        assert_eq!(resource.since(9, &Selected::default(), 10).err(), Some(10));
        let (changes, seen) = resource.since(10, &Selected::default(), 10).expect("still there");
        assert_eq!((changes.len(), seen), (10, 20));
    }

    #[test]
    fn pages() {
        let resource = Resource::new(0);
        for name in ["a", "b", "c"] {
            resource.load(&format!("n/{name}"), stored(name, "x", 1));
        }
        let names =
            |found: Vec<Arc<Stored>>| found.iter().map(|object| object.name().to_owned()).collect::<Vec<_>>();
        let everything = Selected::default();
        let (page, remaining) = resource.list(&everything, 2, None);
        assert_eq!((names(page), remaining), (vec!["a".to_owned(), "b".to_owned()], Some(1)));
        let (page, remaining) = resource.list(&everything, 2, Some("n/b"));
        assert_eq!((names(page), remaining), (vec!["c".to_owned()], Some(0)));
        let one = Selected {
            namespace: "n".into(),
            fields: FieldSelector::parse("metadata.name=b").expect("valid"),
            ..Selected::default()
        };
        assert_eq!(names(resource.list(&one, 0, None).0), ["b"]);
    }
}
