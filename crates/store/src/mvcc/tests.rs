//! The multi-version state against a model that keeps a full copy of every revision.

use super::*;
use crate::engine::Batch;
use crate::{Operation, RangeRequest, Txn};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

struct NoLeases;

impl Leases for NoLeases {
    fn exists(&self, _lease: LeaseId) -> bool {
        false
    }

    fn moved(&mut self, _key: &Bytes, _from: LeaseId, _to: LeaseId) {}
}

#[derive(Clone, Debug, PartialEq)]
struct ModelKey {
    value: Vec<u8>,
    create: u64,
    modified: u64,
    version: u64,
}

type ModelState = BTreeMap<Vec<u8>, ModelKey>;

/// Every revision's whole state, from 1 on.
struct Model {
    states: Vec<ModelState>,
    compacted: u64,
}

impl Model {
    fn revision(&self) -> u64 {
        self.states.len() as u64
    }

    fn at(&self, revision: u64) -> &ModelState {
        &self.states[revision as usize - 1]
    }

    fn change(&mut self, steps: &[Step]) {
        let revision = self.revision() + 1;
        let mut state = self.at(revision - 1).clone();
        let mut is_changed = false;
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    let old = state.get(key);
                    let (create, version) = old.map_or((revision, 1), |o| (o.create, o.version + 1));
                    let value = value.clone();
                    state.insert(key.clone(), ModelKey { value, create, modified: revision, version });
                    is_changed = true;
                }
                Step::Delete(key) => is_changed |= state.remove(key).is_some(),
            }
        }
        if is_changed {
            self.states.push(state);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Action {
    Txn(Vec<Step>),
    /// Compact to this part of what is left, in percent.
    Compact(u64),
    /// The engine catches up.
    Save,
    /// The index is written; it is there at the next start.
    WriteIndex,
    /// Start again from what the engine holds.
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let key = prop::collection::vec(b'a'..=b'c', 1..3);
    let value = prop::collection::vec(any::<u8>(), 0..40);
    let step = prop_oneof![
        3 => (key.clone(), value).prop_map(|(key, value)| Step::Put(key, value)),
        1 => key.prop_map(Step::Delete),
    ];
    prop_oneof![
        12 => prop::collection::vec(step, 1..4).prop_map(Action::Txn),
        1 => (0u64..=100).prop_map(Action::Compact),
        2 => Just(Action::Save),
        1 => Just(Action::WriteIndex),
        1 => Just(Action::Restart),
    ]
}

/// The state under test with a simple saver.
struct Subject {
    dir: tempfile::TempDir,
    engine: Engine,
    mvcc: Mvcc,
    unsaved: Vec<Changes>,
    scrubbed: u64,
}

impl Subject {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(&dir.path().join("state"), 8 << 20).unwrap();
        let mvcc = load(&engine, &dir.path().join("index"), 1, 0);
        Self { dir, engine, mvcc, unsaved: Vec::new(), scrubbed: 0 }
    }

    fn txn(&mut self, steps: &[Step]) {
        let operations = steps
            .iter()
            .map(|step| match step {
                Step::Put(key, value) => Operation::put(key.clone(), value.clone()),
                Step::Delete(key) => Operation::delete(key.clone()),
            })
            .collect();
        let (result, changes) = self.mvcc.write().txn(&Txn::always(operations), &mut NoLeases);
        result.unwrap();
        self.unsaved.extend(changes);
    }

    fn save(&mut self) {
        let mut batch = Batch::default();
        for changes in self.unsaved.drain(..) {
            for (sub, change) in changes.iter().enumerate() {
                let at = Pointer { revision: change.kv.mod_revision, sub: sub as u32 };
                batch.put(&at.engine_key(), change.encode());
            }
        }
        self.engine.apply(batch).unwrap();
        self.mvcc.saved(self.mvcc.revision());
        self.scrub();
    }

    /// What the saver does after a compaction, in one step.
    fn scrub(&mut self) {
        let to = self.mvcc.compacted();
        let mut batch = Batch::default();
        let start = Pointer::first_of(self.scrubbed).engine_key();
        let end = Pointer::first_of(to + 1).engine_key();
        for item in self.engine.scan(&start, &end) {
            let (key, value) = item.unwrap();
            let at = Pointer::from_engine_key(&key).unwrap();
            let change = Change::decode(at, value, std::path::Path::new("state")).unwrap();
            if let Some(previous) = change.previous {
                batch.delete_whole(&self.engine, &previous.engine_key()).unwrap();
            }
            if change.is_delete() && at.revision < to {
                batch.delete(&key);
            }
        }
        self.engine.apply(batch).unwrap();
        self.scrubbed = to;
    }

    fn restart(&mut self) {
        self.save();
        let index = self.dir.path().join("index");
        self.mvcc = load(&self.engine, &index, self.mvcc.revision(), self.mvcc.compacted());
    }
}

fn load(engine: &Engine, index: &std::path::Path, revision: u64, compacted: u64) -> Mvcc {
    let meta = Meta { revision, compacted, ..Meta::default() };
    // Little memory, so that most reads go to the engine once it has the changes.
    let files = Files { engine: "state".into(), index: index.to_owned() };
    Mvcc::load(engine.clone(), meta, 2000, files).unwrap().0
}

fn check(subject: &Subject, model: &Model) {
    assert_eq!(subject.mvcc.revision(), model.revision());
    assert_eq!(subject.mvcc.live_keys(), model.at(model.revision()).len() as u64);
    for revision in model.compacted.max(1)..=model.revision() {
        let request = RangeRequest { revision, ..RangeRequest::prefix("") };
        let found = subject.mvcc.range(&request).unwrap();
        let shown: ModelState = found
            .kvs
            .into_iter()
            .map(|kv| {
                let key = ModelKey {
                    value: kv.value.to_vec(),
                    create: kv.create_revision,
                    modified: kv.mod_revision,
                    version: kv.version,
                };
                (kv.key.to_vec(), key)
            })
            .collect();
        assert_eq!(&shown, model.at(revision), "at revision {revision}");
    }
    check_events(subject, model);
}

/// Replaying events from any retained revision gives the newest state.
fn check_events(subject: &Subject, model: &Model) {
    let from = model.compacted.max(1) + 1;
    let mut state = model.at(from - 1).clone();
    let mut next = from;
    let mut revisions = BTreeSet::new();
    while next <= model.revision() {
        let step = subject.mvcc.events(b"", b"", next, true).unwrap();
        for event in step.events {
            let (key, revision) = (event.kv.key.to_vec(), event.kv.mod_revision);
            revisions.insert(revision);
            if let Some(previous) = event.previous {
                assert_eq!(state.get(&key).map(|old| old.modified), Some(previous.mod_revision));
            }
            match event.kind {
                crate::EventKind::Delete => assert!(state.remove(&key).is_some()),
                crate::EventKind::Put => {
                    let (value, version) = (event.kv.value.to_vec(), event.kv.version);
                    let create = event.kv.create_revision;
                    state.insert(key, ModelKey { value, create, modified: revision, version });
                }
            }
        }
        next = step.revision + 1;
    }
    assert_eq!(&state, model.at(model.revision()));
    assert_eq!(revisions, (from..=model.revision()).collect(), "each revision once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_copy_of_every_revision(actions in prop::collection::vec(action(), 1..60)) {
        let mut subject = Subject::new();
        let mut model = Model { states: vec![ModelState::new()], compacted: 0 };
        for action in actions {
            match action {
                Action::Txn(steps) => {
                    let mut keys = BTreeSet::new();
                    let steps: Vec<Step> = steps
                        .into_iter()
                        .filter(|step| match step {
                            Step::Put(key, _) | Step::Delete(key) => keys.insert(key.clone()),
                        })
                        .collect();
                    subject.txn(&steps);
                    model.change(&steps);
                }
                Action::Compact(percent) => {
                    let left = model.revision() - model.compacted;
                    let to = model.compacted + left * percent / 100;
                    if to > model.compacted {
                        subject.save();
                        subject.mvcc.write().compact(to).unwrap();
                        model.compacted = to;
                    }
                }
                Action::Save => subject.save(),
                Action::WriteIndex => {
                    let index = subject.dir.path().join("index");
                    subject.mvcc.write_index(&index).unwrap().publish().unwrap();
                }
                Action::Restart => subject.restart(),
            }
        }
        check(&subject, &model);
        subject.restart();
        check(&subject, &model);
        let kept = subject.engine.scan(b"r", b"s").count();
        let live = model.at(model.revision()).len();
        if model.compacted == model.revision() {
            prop_assert!(kept <= live + 3, "compaction leaves only what is needed: {kept} of {live}");
        }
    }
}

#[test]
fn large_values_come_back_whole_and_leave_nothing() {
    let mut subject = Subject::new();
    let large: Vec<u8> = (0..1_500_000u32).map(|number| number as u8).collect();
    subject.txn(&[Step::Put(b"k".to_vec(), large.clone())]);
    subject.save();
    subject.txn(&[Step::Put(b"k".to_vec(), b"small".to_vec())]);
    subject.restart();
    let request = RangeRequest { revision: 2, ..RangeRequest::key("k") };
    assert!(subject.mvcc.range(&request).unwrap().kvs[0].value == large);
    subject.mvcc.write().compact(3).unwrap();
    subject.save();
    assert_eq!(subject.engine.scan_raw(&[], &[0xff]).count(), 1);
    assert!(matches!(subject.mvcc.range(&request), Err(StoreError::Compacted { .. })));
}
