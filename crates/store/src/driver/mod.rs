//! The raft loop, on its own thread: the only one that touches raft and its log.
//!
//! A turn of the loop, always in this order:
//!
//! 1. take everything that waits: proposals, reads, messages of other members, ticks;
//! 2. give raft all of it; the proposals become a few entries in one message;
//! 3. while raft has something to do ([`Driver::turn`], fixed order):
//!    a. send the messages that may leave before anything is persisted (a leader's);
//!    b. hand over what was committed before;
//!    c. store a received snapshot;
//!    d. write entries and hard state: one write, one sync;
//!    e. send the messages that promise what was just persisted;
//!    f. tell raft, and hand over what this committed;
//!    g. tell raft what has really been applied by now;
//!    h. hand over reads that raft confirmed.
//!
//! Nothing is acknowledged here: the applier answers, after the change is visible (on its own
//! thread; on this one for an entry so small that waking the other would take longer). When the
//! leader or the term changes, whoever waits for a proposal is told that its outcome is unknown.

mod housekeeping;
mod proposals;

use crate::apply::{Applier, Proposal, ReplyTo, Shared, Source, Work};
use crate::command::batch_id;
use crate::inbox::Inbox;
use crate::lease::LeaseTable;
use crate::log::{Log, fresh_salt};
use crate::metrics::Metrics;
use crate::snapshot::{self, SnapshotMaker};
use crate::status::Status;
use crate::transport::{Outgoing, Transport};
use crate::{Config, MemberId, StoreError};
use daemon::Clock;
use parking_lot::Mutex;
pub(crate) use proposals::Proposals;
use prost011::Message as _;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{RawNode, Ready, SnapshotStatus, StateRole};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much may be committed and not applied before nothing new is proposed.
const MOST_UNAPPLIED: usize = 32 << 20;
/// What is applied on the driver's thread if the apply thread is idle.
const SMALL_COMMANDS: usize = 4;
const SMALL_BYTES: usize = 64 << 10;
/// The pause after which a full disk is tried again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(100);

/// What the driver is asked or told.
#[derive(Debug)]
pub(crate) enum Input {
    /// Change something.
    Propose(Proposal),
    /// Confirm the current revision.
    Read(ReplyTo<u64>),
    /// Another member's message.
    Message { message: Box<Message>, weight: usize },
    /// A member cannot be reached.
    Unreachable(MemberId),
    /// A snapshot was sent, or could not be.
    SnapshotSent { member: MemberId, succeeded: bool },
    /// Finish what was submitted, hand leadership over, stop.
    Close,
}

/// A read that waits for raft's confirmation.
#[derive(Debug)]
struct Read {
    reply: ReplyTo<u64>,
    since: Instant,
}

#[derive(Debug)]
struct ReadBatch {
    number: u64,
    issued: Instant,
    reads: Vec<Read>,
}

/// The raft thread's own.
pub(crate) struct Driver {
    raw: RawNode<Log>,
    config: Config,
    clock: Arc<dyn Clock>,
    inbox: Arc<Inbox<Input>>,
    apply: Arc<Inbox<Work>>,
    applier: Arc<Mutex<Applier>>,
    shared: Arc<Shared>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    transport: Arc<dyn Transport>,
    snapshots: Arc<SnapshotMaker>,
    proposals: Proposals,
    reads: Vec<Read>,
    reads_underway: Vec<ReadBatch>,
    next_read: u64,
    /// Tells this run of this member from all others.
    life: u64,
    /// Term and leader when proposals were last known to be on their way.
    view: (u64, MemberId),
    /// The first entry of this member's own term as leader.
    own_term_from: u64,
    next_tick: Instant,
    next_housekeeping: Instant,
    closing: Option<Instant>,
}

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) inbox: Arc<Inbox<Input>>,
    pub(crate) apply: Arc<Inbox<Work>>,
    pub(crate) applier: Arc<Mutex<Applier>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) status: Arc<Status>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) snapshots: Arc<SnapshotMaker>,
}

impl Driver {
    /// Starts raft on a log whose state machine has applied `applied`.
    pub(crate) fn new(mut log: Log, applied: u64, parts: Parts) -> Result<Self, StoreError> {
        log.raise_commit(applied);
        log.set_snapshot_source(parts.snapshots.clone());
        let raft_config = raft::Config {
            id: parts.config.member,
            election_tick: 10,
            heartbeat_tick: 1,
            applied,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: 64 << 20,
            max_committed_size_per_ready: 16 << 20,
            ..raft::Config::default()
        };
        let logger = housekeeping::logger(parts.config.member);
        let is_alone = log.members().voters == [parts.config.member];
        let mut raw = RawNode::new(&raft_config, log, &logger)
            .map_err(|error| StoreError::Unavailable(format!("raft cannot start: {error}")))?;
        if is_alone {
            raw.campaign().map_err(|error| StoreError::Unavailable(format!("raft cannot start: {error}")))?;
        }
        let now = parts.clock.monotonic();
        Ok(Self {
            raw,
            proposals: Proposals::new(parts.config.member, fresh_salt()),
            reads: Vec::new(),
            reads_underway: Vec::new(),
            next_read: 1,
            life: fresh_salt(),
            view: (0, 0),
            own_term_from: 0,
            next_tick: now + parts.config.tick,
            next_housekeeping: now,
            closing: None,
            config: parts.config,
            clock: parts.clock,
            inbox: parts.inbox,
            apply: parts.apply,
            applier: parts.applier,
            shared: parts.shared,
            status: parts.status,
            metrics: parts.metrics,
            transport: parts.transport,
            snapshots: parts.snapshots,
        })
    }

    /// Runs until closed, or until the disk fails.
    pub(crate) fn run(mut self) -> Result<(), StoreError> {
        let result = self.run_until_closed();
        self.inbox.close();
        self.apply.close();
        let reason = result.clone().err().unwrap_or(StoreError::Closed);
        self.proposals.fail_all(&reason, &self.metrics);
        let mut left = Vec::new();
        self.inbox.take(&mut left, Some(Duration::ZERO));
        for input in left {
            match input {
                Input::Propose(proposal) => proposals::fail(proposal, reason.clone()),
                Input::Read(reply) => drop(reply.send(Err(reason.clone()))),
                _ => {}
            }
        }
        for read in self.reads.drain(..).chain(self.reads_underway.drain(..).flat_map(|b| b.reads)) {
            // Whoever asked may have stopped waiting.
            let _ = read.reply.send(Err(reason.clone()));
        }
        result
    }

    fn run_until_closed(&mut self) -> Result<(), StoreError> {
        let mut inputs = Vec::new();
        self.turns()?;
        loop {
            let timeout = self.time_to_wait();
            if !self.inbox.take(&mut inputs, Some(timeout)) {
                return Ok(());
            }
            let now = self.clock.monotonic();
            for input in inputs.drain(..) {
                self.take(input, now);
            }
            if now >= self.next_tick {
                self.tick(now)?;
            }
            self.propose();
            self.ask_to_read(now);
            self.turns()?;
            if self.is_closed(now) {
                return Ok(());
            }
        }
    }

    fn time_to_wait(&self) -> Duration {
        let until_tick = self.next_tick.saturating_duration_since(self.clock.monotonic());
        if self.proposals.is_waiting() && self.knows_leader() {
            // The apply thread is behind: look again soon.
            return until_tick.min(Duration::from_millis(1));
        }
        until_tick
    }

    fn take(&mut self, input: Input, now: Instant) {
        match input {
            Input::Propose(proposal) => {
                self.inbox.finished(proposal.size);
                self.metrics.proposals.inc();
                self.proposals.add(proposal);
            }
            Input::Read(reply) => self.reads.push(Read { reply, since: now }),
            Input::Message { message, weight } => self.step(*message, weight),
            Input::Unreachable(member) => self.raw.report_unreachable(member),
            Input::SnapshotSent { member, succeeded } => {
                let status = match succeeded {
                    true => SnapshotStatus::Finish,
                    false => SnapshotStatus::Failure,
                };
                self.raw.report_snapshot(member, status);
            }
            Input::Close => {
                self.closing.get_or_insert(now);
            }
        }
    }

    fn step(&mut self, message: Message, size: usize) {
        self.inbox.finished(size);
        let is_proposal = message.get_msg_type() == MessageType::MsgPropose;
        if is_proposal && self.is_leader() && self.raw.mut_store().reserve(size).is_err() {
            // The disk is full; the member that forwarded it reports an unknown outcome in time.
            return;
        }
        if let Err(error) = self.raw.step(message) {
            tracing::debug!(%error, "raft did not take a message");
        }
    }

    fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    fn knows_leader(&self) -> bool {
        self.raw.raft.leader_id != 0
    }

    fn turns(&mut self) -> Result<(), StoreError> {
        while self.raw.has_ready() {
            self.turn()?;
        }
        Ok(())
    }

    /// Does what raft wants done, in the order that the module documentation gives.
    fn turn(&mut self) -> Result<(), StoreError> {
        let mut ready = self.raw.ready();
        self.notice_leader();
        self.send(ready.take_messages());
        self.hand_over(ready.take_committed_entries())?;
        self.persist(&mut ready)?;
        self.send(ready.take_persisted_messages());
        let read_states = ready.take_read_states();
        let mut light = self.raw.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.raw.mut_store().note_commit(commit);
        }
        self.send(light.take_messages());
        self.hand_over(light.take_committed_entries())?;
        self.advance_applied();
        for state in read_states {
            self.confirm_read(&state.request_ctx, state.index)?;
        }
        Ok(())
    }

    fn persist(&mut self, ready: &mut Ready) -> Result<(), StoreError> {
        let hard = ready.hs().cloned();
        if !ready.snapshot().is_empty() {
            let snapshot = ready.snapshot();
            let metadata = snapshot.get_metadata().clone();
            let index = metadata.index;
            let file = snapshot::write(&self.config.data_dir, index, &snapshot.data)?;
            let log = self.raw.mut_store();
            let hard = hard.clone().unwrap_or_else(|| log.hard_state().clone());
            log.install(metadata, hard)?;
            self.give(Work::Restore { file, index })?;
        }
        let mut entries = ready.take_entries();
        if entries.is_empty() && !ready.must_sync() {
            if let Some(hard) = hard {
                self.raw.mut_store().note_hard_state(hard);
            }
            return Ok(());
        }
        let start = self.clock.monotonic();
        loop {
            match self.raw.mut_store().append(&mut entries, hard.as_ref()) {
                Ok(()) => break,
                Err(StoreError::DiskFull { path }) => {
                    tracing::error!(path = %path.display(), "the disk is full, waiting for room");
                    std::thread::sleep(FULL_DISK_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        self.metrics.flush_seconds.observe((self.clock.monotonic() - start).as_secs_f64());
        Ok(())
    }

    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            let to = message.to;
            self.transport.send(Outgoing { to, is_snapshot, message: message.encode_to_vec().into() });
        }
    }

    fn hand_over(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        for entry in entries {
            let weight = entry.data.len() + 64;
            self.status.set_committed(entry.index);
            if entry.entry_type != 0 {
                // Membership is fixed by configuration; nobody here proposes to change it.
                tracing::error!(index = entry.index, "ignored a membership change");
            }
            let local = batch_id(&entry.data).and_then(|id| self.proposals.take(id));
            let source = match local {
                Some(proposals) => Source::Local(proposals),
                None => Source::Encoded(entry.data),
            };
            self.give(Work::Entry { index: entry.index, term: entry.term, source, weight })?;
        }
        Ok(())
    }

    /// Gives work to the apply thread; what is small is done here if that thread is idle, since
    /// waking it would take longer.
    pub(super) fn give(&mut self, work: Work) -> Result<(), StoreError> {
        let is_small = match &work {
            Work::Entry { source: Source::Local(proposals), weight, .. } => {
                proposals.len() <= SMALL_COMMANDS && *weight <= SMALL_BYTES
            }
            Work::Read { .. } => true,
            _ => false,
        };
        if is_small && self.apply.is_idle() {
            return self.applier.lock().work(work);
        }
        let weight = work.weight();
        match self.apply.push(work, weight) {
            Err(Work::Entry { source: Source::Local(proposals), .. }) => {
                // The apply thread failed: it will not happen here, but it is in the log.
                for proposal in proposals {
                    proposals::fail(proposal, StoreError::OutcomeUnknown);
                }
            }
            Err(Work::Read { replies, .. }) => {
                for reply in replies {
                    // Whoever asked may have stopped waiting.
                    let _ = reply.send(Err(StoreError::Closed));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn advance_applied(&mut self) {
        let applied = self.status.applied();
        if applied > self.raw.raft.raft_log.applied() {
            self.raw.advance_apply_to(applied);
        }
    }

    /// The leader's table of leases, renewed when leadership begins.
    fn leases(&self) -> parking_lot::MutexGuard<'_, LeaseTable> {
        self.shared.leases.lock()
    }
}
