//! The state machine on its own thread: takes what raft committed, changes the state in memory,
//! answers those who wait, and hands the changes to [`saver`], which brings them into the engine.
//!
//! An answer is sent after the change is visible to reads, and everything that gets here is
//! already durable in the raft log; that the engine has it too is nobody's business but the log's,
//! which may be cut only behind a checkpoint.

mod machine;
pub(crate) mod saver;

use crate::StoreError;
use crate::command::{Command, decode_batch};
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::status::Status;
use bytes::Bytes;
pub(crate) use machine::{Machine, Outcome, Shared};
use parking_lot::Mutex;
use saver::Save;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;
use tokio::sync::oneshot;

/// How much may wait for the engine before applying waits too.
const MOST_UNSAVED: usize = 64 << 20;

/// Where an answer goes.
pub(crate) type ReplyTo<T> = oneshot::Sender<Result<T, StoreError>>;

/// A command and who waits for it.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) command: Command,
    pub(crate) size: usize,
    pub(crate) since: Instant,
    pub(crate) reply: Option<ReplyTo<Outcome>>,
}

/// Where the commands of a committed entry come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// This member proposed them and still has them.
    Local(Vec<Proposal>),
    /// They are in the entry; none in an empty one.
    Encoded(Vec<u8>),
}

/// What the apply thread works on, in this order.
#[derive(Debug)]
pub(crate) enum Work {
    /// A committed entry.
    Entry { index: u64, term: u64, source: Source, weight: usize },
    /// Answer with the revision once this index is applied.
    Read { index: u64, replies: Vec<ReplyTo<u64>> },
    /// Replace everything with the snapshot in this file.
    Restore { file: PathBuf, index: u64 },
}

/// Applies; the apply thread's own, but for entries so small that the driver does it at once.
pub(crate) struct Applier {
    pub(crate) machine: Machine,
    pub(crate) saver: Arc<Inbox<Save>>,
    pub(crate) status: Arc<Status>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) reads: BTreeMap<u64, Vec<ReplyTo<u64>>>,
}

/// Works until the inbox is closed and empty.
pub(crate) fn run(applier: &Mutex<Applier>, inbox: &Inbox<Work>) -> Result<(), StoreError> {
    let mut items = Vec::new();
    let result = loop {
        if !inbox.take(&mut items, None) {
            break Ok(());
        }
        let mut applier = applier.lock();
        let worked = items.drain(..).try_for_each(|work| {
            let weight = work.weight();
            applier.work(work)?;
            inbox.finished(weight);
            Ok(())
        });
        if let Err(error) = worked {
            break Err(error);
        }
    };
    inbox.close();
    applier.lock().saver.close();
    result
}

impl Work {
    /// What it counts for in the inbox; never nothing, so that an idle inbox means that all is
    /// done.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Entry { weight, .. } => *weight,
            Self::Read { .. } | Self::Restore { .. } => 1,
        }
    }
}

impl Applier {
    /// Does one piece of work.
    pub(crate) fn work(&mut self, work: Work) -> Result<(), StoreError> {
        match work {
            Work::Entry { index, term, source, .. } => self.entry(index, term, source)?,
            Work::Read { index, replies } => {
                if index <= self.machine.applied() {
                    self.answer_reads(replies);
                } else {
                    self.reads.entry(index).or_default().extend(replies);
                }
            }
            Work::Restore { file, index } => self.restore(file, index)?,
        }
        Ok(())
    }

    fn entry(&mut self, index: u64, term: u64, source: Source) -> Result<(), StoreError> {
        self.saver.wait_below(MOST_UNSAVED);
        let (commands, replies) = match source {
            Source::Local(proposals) => proposals
                .into_iter()
                .map(|proposal| (proposal.command, proposal.reply.map(|to| (to, proposal.since))))
                .unzip(),
            Source::Encoded(data) if data.is_empty() => (Vec::new(), Vec::new()),
            Source::Encoded(data) => {
                let commands = decode_batch(Bytes::from(data)).ok_or_else(|| {
                    let what = format!("entry {index} holds no commands of a known form");
                    StoreError::corrupt("the raft log", what)
                })?;
                (commands, Vec::new())
            }
        };
        let (outcomes, batch) = self.machine.apply(index, term, commands);
        self.status.set_applied(index);
        let now = self.machine.now();
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            let Some((reply, since)) = reply else { continue };
            self.metrics.commit_seconds.observe((now - since).as_secs_f64());
            // Whoever asked may have stopped waiting.
            let _ = reply.send(outcome);
        }
        let weight = batch.weight();
        // A closed saver has failed; its own error is what is reported.
        let _ = self.saver.push(Save::Batch(batch), weight.max(1));
        self.answer_due_reads();
        Ok(())
    }

    fn answer_due_reads(&mut self) {
        while let Some(due) = self.reads.first_entry() {
            if *due.key() > self.machine.applied() {
                return;
            }
            let replies = due.remove();
            self.answer_reads(replies);
        }
    }

    fn answer_reads(&self, replies: Vec<ReplyTo<u64>>) {
        let revision = self.machine.revision();
        for reply in replies {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(Ok(revision));
        }
    }

    fn restore(&mut self, file: PathBuf, index: u64) -> Result<(), StoreError> {
        let (done, result) = mpsc::channel();
        if self.saver.push(Save::Restore { file, done }, 0).is_err() {
            return Err(StoreError::Closed);
        }
        let meta = result.recv().map_err(|_| StoreError::Closed)??;
        self.machine.reload(meta)?;
        debug_assert_eq!(meta.applied, index);
        self.status.set_applied(index);
        self.answer_due_reads();
        Ok(())
    }
}
