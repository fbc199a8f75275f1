//! What the driver does besides proposals: time, leadership, reads, cutting the log, closing.

use super::{Driver, Read, ReadBatch};
use crate::StoreError;
use crate::apply::{Proposal, Work};
use crate::command::Command;
use std::time::{Duration, Instant};

/// How long a read's confirmation may take before it is asked for again, in ticks.
const READ_RETRY_TICKS: u32 = 3;
/// How often leases are looked at, time is marked and the log is cut, in ticks.
const HOUSEKEEPING_TICKS: u32 = 5;
/// How finely the age of history is known: this part of the window.
const MARKS_PER_WINDOW: u32 = 60;
/// How long closing waits for what was submitted and for another leader.
const CLOSING: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), StoreError> {
        while now >= self.next_tick {
            self.next_tick += self.config.tick;
            self.raw.tick();
            // After a long stall, one tick: elections must not start because this thread slept.
            if now >= self.next_tick + self.config.tick * 5 {
                self.next_tick = now + self.config.tick;
            }
        }
        let timeout = self.config.request_timeout;
        self.proposals.expire(now, timeout, &self.metrics);
        self.retry_reads(now);
        self.advance_applied();
        self.notice_alone();
        if now >= self.next_housekeeping {
            self.next_housekeeping = now + self.config.tick * HOUSEKEEPING_TICKS;
            self.cut_log()?;
            if self.is_leader() {
                self.end_leases(now);
                self.cut_history();
            }
        }
        Ok(())
    }

    /// Notices a new leader or term: what was on its way may be lost.
    pub(super) fn notice_leader(&mut self) {
        let view = (self.raw.raft.term, self.raw.raft.leader_id);
        if view == self.view {
            return;
        }
        self.view = view;
        self.status.set_term(view.0);
        self.status.set_leader(view.1);
        self.status.set_alone(false);
        self.metrics.leader_changes.inc();
        self.proposals.lose_underway(&self.metrics);
        tracing::info!(term = view.0, leader = view.1, "the store's leader changed");
        if self.is_leader() {
            self.own_term_from = self.raw.raft.raft_log.last_index();
            let now = self.clock.monotonic();
            self.leases().renew_all(now);
        }
    }

    /// A lone leader that has applied the first entry of its term has applied everything that was
    /// ever acknowledged, and nobody else can acknowledge anything: reads need no confirmation.
    fn notice_alone(&self) {
        let is_alone =
            self.is_leader() && self.config.peers.is_empty() && self.status.applied() >= self.own_term_from;
        self.status.set_alone(is_alone);
    }

    /// Asks raft to confirm that this is still the latest; all that wait share it.
    pub(super) fn ask_to_read(&mut self, now: Instant) {
        if self.reads.is_empty() || !self.knows_leader() {
            return;
        }
        let number = self.next_read;
        self.next_read += 1;
        let reads = std::mem::take(&mut self.reads);
        self.reads_underway.push(ReadBatch { number, issued: now, reads });
        // Unlike that of any other member or earlier life, whose late answer would be stale here.
        let mut context = self.life.to_be_bytes().to_vec();
        context.extend_from_slice(&number.to_be_bytes());
        self.raw.read_index(context);
    }

    pub(super) fn confirm_read(&mut self, context: &[u8], index: u64) -> Result<(), StoreError> {
        let Some(number) = context.strip_prefix(&self.life.to_be_bytes()) else { return Ok(()) };
        let Some(number) = number.try_into().ok().map(u64::from_be_bytes) else { return Ok(()) };
        // A confirmation holds for everything that was asked before it.
        let mut replies = Vec::new();
        self.reads_underway.retain_mut(|batch| {
            let is_confirmed = batch.number <= number;
            if is_confirmed {
                replies.extend(batch.reads.drain(..).map(|read| read.reply));
            }
            !is_confirmed
        });
        self.give(Work::Read { index, replies })
    }

    /// Raft drops reads silently when it has no leader, or a new one: ask again.
    fn retry_reads(&mut self, now: Instant) {
        let patience = self.config.tick * READ_RETRY_TICKS;
        let reads = &mut self.reads;
        self.reads_underway.retain_mut(|batch| {
            let is_lost = now.saturating_duration_since(batch.issued) >= patience;
            if is_lost {
                reads.append(&mut batch.reads);
            }
            !is_lost
        });
        let timeout = self.config.request_timeout;
        let (old, young): (Vec<Read>, Vec<Read>) =
            reads.drain(..).partition(|read| now.saturating_duration_since(read.since) >= timeout);
        *reads = young;
        for read in old {
            // Whoever asked may have stopped waiting.
            let _ = read.reply.send(Err(StoreError::NoLeader));
        }
    }

    /// Drops log that a checkpoint made superfluous, keeping some for members that lag.
    fn cut_log(&mut self) -> Result<(), StoreError> {
        let mut behind = self.status.durable();
        if !self.config.peers.is_empty() {
            behind = behind.saturating_sub(self.config.kept_entries);
            if let Some(pinned) = self.snapshots.pinned() {
                behind = behind.min(pinned);
                let is_needed = self
                    .raw
                    .raft
                    .prs()
                    .iter()
                    .any(|(id, progress)| *id != self.config.member && progress.matched < pinned);
                if !is_needed || !self.is_leader() {
                    self.snapshots.release();
                }
            }
        }
        self.raw.mut_store().compact(behind)?;
        self.status.set_log_begins(self.raw.store().begins());
        Ok(())
    }

    fn end_leases(&mut self, now: Instant) {
        let expired = self.leases().expire(now);
        for id in expired {
            self.propose_own(Command::LeaseRevoke { id }, now);
        }
    }

    /// Marks the time, and compacts what is older than the window.
    fn cut_history(&mut self) {
        if self.config.history.is_zero() {
            return;
        }
        let now = self.clock.now().as_millisecond().max(0).unsigned_abs();
        let window = self.config.history.as_millis() as u64;
        let revision = self.shared.mvcc.revision();
        let compacted = self.shared.mvcc.compacted();
        let (newest, old) = {
            let marks = self.shared.marks.lock();
            (marks.newest(), marks.revision_at(now.saturating_sub(window)))
        };
        let monotonic = self.clock.monotonic();
        let step = window / u64::from(MARKS_PER_WINDOW);
        let is_due =
            newest.is_none_or(|(time, marked)| marked < revision && time.saturating_add(step) <= now);
        if is_due {
            self.propose_own(Command::Mark { unix_millis: now }, monotonic);
        }
        if let Some(revision) = old.filter(|revision| *revision > compacted) {
            self.propose_own(Command::Compact { revision }, monotonic);
        }
    }

    fn propose_own(&mut self, command: Command, now: Instant) {
        let size = command.size();
        self.proposals.add(Proposal { command, size, since: now, reply: None });
    }

    /// Whether closing has come to its end: nothing underway, and the leadership in other hands.
    pub(super) fn is_closed(&mut self, now: Instant) -> bool {
        let Some(since) = self.closing else { return false };
        if now.saturating_duration_since(since) >= CLOSING {
            return true;
        }
        if !self.proposals.is_empty() && self.knows_leader() {
            return false;
        }
        if !self.is_leader() || self.config.peers.is_empty() {
            return true;
        }
        if self.raw.raft.lead_transferee.is_none() {
            let best = self
                .raw
                .raft
                .prs()
                .iter()
                .filter(|(id, progress)| **id != self.config.member && progress.recent_active);
            match best.max_by_key(|(_, progress)| progress.matched).map(|(id, _)| *id) {
                Some(member) => self.raw.transfer_leader(member),
                None => return true,
            }
        }
        false
    }
}

/// Raft's own log lines, as ours.
pub(super) fn logger(member: u64) -> slog::Logger {
    slog::Logger::root(ToTracing, slog::o!("member" => member))
}

struct ToTracing;

impl slog::Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _values: &slog::OwnedKVList) -> Result<Self::Ok, Self::Err> {
        match record.level() {
            slog::Level::Critical | slog::Level::Error => {
                tracing::error!(target: "store::raft", "{}", record.msg());
            }
            slog::Level::Warning => tracing::warn!(target: "store::raft", "{}", record.msg()),
            _ => tracing::trace!(target: "store::raft", "{}", record.msg()),
        }
        Ok(())
    }
}
