//! Proposals from their arrival until raft has committed them.

use super::{Driver, MOST_UNAPPLIED};
use crate::apply::Proposal;
use crate::command::{BatchId, encode_batch};
use crate::metrics::Metrics;
use crate::{MemberId, StoreError};
use raft::eraftpb::{Entry, Message, MessageType};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// The size of an entry that is not exceeded if it can be avoided.
const ENTRY: usize = 512 << 10;
/// How much one turn proposes.
const TURN: usize = 4 << 20;

/// Proposals that wait, and those on their way through raft.
pub(crate) struct Proposals {
    origin: MemberId,
    next_number: u64,
    waiting: VecDeque<Proposal>,
    underway: HashMap<u64, Vec<Proposal>>,
}

impl Proposals {
    /// Numbers batches from `first_number`, which no earlier life of this member may have used.
    pub(crate) fn new(origin: MemberId, first_number: u64) -> Self {
        Self { origin, next_number: first_number, waiting: VecDeque::new(), underway: HashMap::new() }
    }

    pub(crate) fn add(&mut self, proposal: Proposal) {
        self.waiting.push_back(proposal);
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.underway.is_empty()
    }

    /// The proposals of a batch of this member, if it still has them.
    pub(crate) fn take(&mut self, id: BatchId) -> Option<Vec<Proposal>> {
        (id.origin == self.origin).then(|| self.underway.remove(&id.number)).flatten()
    }

    /// Those on their way: raft may or may not have them.
    pub(crate) fn lose_underway(&mut self, metrics: &Metrics) {
        for proposal in self.underway.drain().flat_map(|(_, proposals)| proposals) {
            metrics.proposals_failed.inc();
            fail(proposal, StoreError::OutcomeUnknown);
        }
    }

    /// Fails those that wait with `reason`, and those on their way with an unknown outcome.
    pub(crate) fn fail_all(&mut self, reason: &StoreError, metrics: &Metrics) {
        self.lose_underway(metrics);
        self.fail_waiting(reason, metrics);
    }

    pub(crate) fn fail_waiting(&mut self, reason: &StoreError, metrics: &Metrics) {
        for proposal in self.waiting.drain(..) {
            metrics.proposals_failed.inc();
            fail(proposal, reason.clone());
        }
    }

    /// Fails what is older than `timeout`.
    pub(crate) fn expire(&mut self, now: Instant, timeout: Duration, metrics: &Metrics) {
        let is_old = |proposal: &Proposal| now.saturating_duration_since(proposal.since) >= timeout;
        while self.waiting.front().is_some_and(is_old) {
            if let Some(proposal) = self.waiting.pop_front() {
                metrics.proposals_failed.inc();
                fail(proposal, StoreError::NoLeader);
            }
        }
        self.underway.retain(|_, proposals| {
            if !proposals.first().is_none_or(is_old) {
                return true;
            }
            for proposal in proposals.drain(..) {
                metrics.proposals_failed.inc();
                fail(proposal, StoreError::OutcomeUnknown);
            }
            false
        });
    }

    /// The next batch, as an entry and its number.
    fn next_batch(&mut self) -> Option<(Entry, u64)> {
        let mut size = 0;
        let mut taken = 0;
        for proposal in &self.waiting {
            if taken > 0 && size + proposal.size > ENTRY {
                break;
            }
            size += proposal.size;
            taken += 1;
        }
        if taken == 0 {
            return None;
        }
        let proposals: Vec<Proposal> = self.waiting.drain(..taken).collect();
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let id = BatchId { origin: self.origin, number };
        let data = encode_batch(id, size, proposals.iter().map(|proposal| &proposal.command));
        self.underway.insert(number, proposals);
        Some((Entry { data, ..Entry::default() }, number))
    }

    /// Raft did not take these batches: their proposals wait again, in their order.
    fn take_back(&mut self, numbers: &[u64]) {
        for number in numbers.iter().rev() {
            for proposal in self.underway.remove(number).into_iter().flatten().rev() {
                self.waiting.push_front(proposal);
            }
        }
    }
}

/// Tells whoever waits.
pub(crate) fn fail(proposal: Proposal, reason: StoreError) {
    if let Some(reply) = proposal.reply {
        // Whoever asked may have stopped waiting.
        let _ = reply.send(Err(reason));
    }
}

impl Driver {
    /// Gives raft what waits, as few entries in one message.
    pub(super) fn propose(&mut self) {
        if !self.proposals.is_waiting() || !self.knows_leader() {
            return;
        }
        if self.apply.weight() >= MOST_UNAPPLIED {
            return;
        }
        let mut entries = Vec::new();
        let mut numbers = Vec::new();
        let mut size = 0;
        while size < TURN
            && let Some((entry, number)) = self.proposals.next_batch()
        {
            size += entry.data.len() + 64;
            entries.push(entry);
            numbers.push(number);
        }
        if self.is_leader()
            && let Err(error) = self.raw.mut_store().reserve(size)
        {
            self.proposals.take_back(&numbers);
            self.proposals.fail_waiting(&error, &self.metrics);
            return;
        }
        self.metrics.batches.inc_by(entries.len() as u64);
        let mut message = Message { from: self.config.member, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.entries = entries;
        if let Err(error) = self.raw.raft.step(message) {
            tracing::debug!(%error, "raft did not take the proposals");
            self.proposals.take_back(&numbers);
        }
    }
}
