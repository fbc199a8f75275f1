//! What a command does to the state.

use super::saver::{SaveBatch, Saved};
use crate::StoreError;
use crate::command::Command;
use crate::engine::Engine;
use crate::lease::LeaseTable;
use crate::mvcc::{Files, Meta, Mvcc};
use crate::types::TxnResponse;
use bytes::Bytes;
use daemon::Clock;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LEASE: u8 = b'l';
const MARK: u8 = b't';

/// What a command came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A transaction's answer.
    Txn(TxnResponse),
    /// It is done.
    Done,
}

/// The parts of the state that others may look at.
pub(crate) struct Shared {
    pub(crate) mvcc: Mvcc,
    pub(crate) leases: Mutex<LeaseTable>,
    pub(crate) marks: Mutex<Marks>,
}

/// Which revision was the newest at which time of day, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Marks(VecDeque<(u64, u64)>);

impl Marks {
    /// The newest mark.
    pub(crate) fn newest(&self) -> Option<(u64, u64)> {
        self.0.back().copied()
    }

    /// The newest revision that is at least as old as `unix_millis`.
    pub(crate) fn revision_at(&self, unix_millis: u64) -> Option<u64> {
        self.0.iter().rev().find(|(time, _)| *time <= unix_millis).map(|(_, revision)| *revision)
    }
}

/// The deterministic state machine.
pub(crate) struct Machine {
    shared: Arc<Shared>,
    engine: Engine,
    clock: Arc<dyn Clock>,
    applied: u64,
}

impl Shared {
    /// Loads the state that the engine holds.
    pub(crate) fn load(
        engine: &Engine,
        meta: Meta,
        recent_limit: usize,
        files: Files,
        now: Instant,
    ) -> Result<Self, StoreError> {
        let (mvcc, leased) = Mvcc::load(engine.clone(), meta, recent_limit, files)?;
        let leases = Mutex::new(load_leases(engine, leased, now)?);
        let marks = Mutex::new(load_marks(engine)?);
        Ok(Self { mvcc, leases, marks })
    }
}

impl Machine {
    pub(crate) fn new(shared: Arc<Shared>, engine: Engine, clock: Arc<dyn Clock>, applied: u64) -> Self {
        Self { shared, engine, clock, applied }
    }

    /// The index of the last entry applied.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// The newest revision.
    pub(crate) fn revision(&self) -> u64 {
        self.shared.mvcc.revision()
    }

    /// The time, for measuring.
    pub(crate) fn now(&self) -> Instant {
        self.clock.monotonic()
    }

    /// Takes over what the engine holds now.
    pub(crate) fn reload(&mut self, meta: Meta) -> Result<(), StoreError> {
        let leased = self.shared.mvcc.reload(meta)?;
        *self.shared.leases.lock() = load_leases(&self.engine, leased, self.clock.monotonic())?;
        *self.shared.marks.lock() = load_marks(&self.engine)?;
        self.applied = meta.applied;
        Ok(())
    }

    /// Applies one entry's commands in order: an outcome for each, and what to save.
    pub(crate) fn apply(
        &mut self,
        index: u64,
        term: u64,
        commands: Vec<Command>,
    ) -> (Vec<Result<Outcome, StoreError>>, SaveBatch) {
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut saved = Vec::with_capacity(commands.len());
        let mut writer = self.shared.mvcc.write();
        let mut leases = self.shared.leases.lock();
        for command in commands {
            let outcome = match command {
                Command::Txn(txn) => {
                    let (response, changes) = writer.txn(&txn, &mut *leases);
                    saved.extend(changes.map(Saved::Changes));
                    response.map(Outcome::Txn)
                }
                Command::Compact { revision } => writer.compact(revision).map(|_| {
                    self.forget_marks(revision, &mut saved);
                    Outcome::Done
                }),
                Command::LeaseGrant { id, seconds } => {
                    // The deadline is this member's own and changes nothing in the state.
                    let now = self.clock.monotonic();
                    if leases.grant(id, Duration::from_secs(seconds), now) {
                        saved.push(Saved::Put(prefixed(LEASE, id), seconds.to_be_bytes().into()));
                        Ok(Outcome::Done)
                    } else {
                        Err(StoreError::Invalid("the lease id is taken"))
                    }
                }
                Command::LeaseRevoke { id } => match leases.revoke(id) {
                    Some(keys) => {
                        let changes = writer.delete_keys(keys.into_iter(), &mut *leases);
                        saved.extend(changes.map(Saved::Changes));
                        saved.push(Saved::Delete(prefixed(LEASE, id)));
                        Ok(Outcome::Done)
                    }
                    None => Err(StoreError::LeaseNotFound(id)),
                },
                Command::Mark { unix_millis } => {
                    self.mark(unix_millis, writer.revision(), &mut saved);
                    Ok(Outcome::Done)
                }
            };
            outcomes.push(outcome);
        }
        self.applied = index;
        let meta = Meta {
            applied: index,
            term,
            revision: writer.revision(),
            compacted: writer.compacted(),
            scrubbed: 0,
        };
        (outcomes, SaveBatch::new(saved, meta))
    }

    fn mark(&self, unix_millis: u64, revision: u64, saved: &mut Vec<Saved>) {
        let mut marks = self.shared.marks.lock();
        // A clock that went back must not make the past look younger or older than it is.
        if marks.newest().is_none_or(|(time, _)| time < unix_millis) {
            marks.0.push_back((unix_millis, revision));
            saved.push(Saved::Put(prefixed(MARK, unix_millis), revision.to_be_bytes().into()));
        }
    }

    fn forget_marks(&self, compacted: u64, saved: &mut Vec<Saved>) {
        let mut marks = self.shared.marks.lock();
        while marks.0.len() > 1 && marks.0[0].1 <= compacted {
            if let Some((time, _)) = marks.0.pop_front() {
                saved.push(Saved::Delete(prefixed(MARK, time)));
            }
        }
    }
}

fn prefixed(prefix: u8, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(prefix);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn load_leases(engine: &Engine, leased: Vec<(u64, Bytes)>, now: Instant) -> Result<LeaseTable, StoreError> {
    let mut leases = LeaseTable::default();
    for item in numbers(engine, LEASE) {
        let (id, seconds) = item?;
        leases.grant(id, Duration::from_secs(seconds), now);
    }
    for (id, key) in leased {
        leases.attach(id, key);
    }
    Ok(leases)
}

fn load_marks(engine: &Engine) -> Result<Marks, StoreError> {
    numbers(engine, MARK).collect::<Result<_, _>>().map(Marks)
}

fn numbers(engine: &Engine, prefix: u8) -> impl Iterator<Item = Result<(u64, u64), StoreError>> + use<> {
    engine.scan(&[prefix], &[prefix + 1]).map(|item| {
        let (key, value) = item?;
        let number = |bytes: Option<&[u8]>| {
            bytes
                .and_then(|bytes| bytes.try_into().ok())
                .map(u64::from_be_bytes)
                .ok_or_else(|| StoreError::corrupt("the state", "a record has the wrong length"))
        };
        Ok((number(key.get(1..))?, number(Some(&value))?))
    })
}
