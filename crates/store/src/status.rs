//! Where this member stands, for its other threads and for those who ask.

use crate::MemberId;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Numbers that several threads share; each has one writer.
#[derive(Debug, Default)]
pub(crate) struct Status {
    applied: AtomicU64,
    durable: AtomicU64,
    leader: AtomicU64,
    term: AtomicU64,
    committed: AtomicU64,
    size: AtomicU64,
    log_begins: AtomicU64,
    /// This member is the only one, leads, and has applied everything that was acknowledged.
    alone: AtomicBool,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberStatus {
    /// The cluster.
    pub cluster: u64,
    /// This member.
    pub member: MemberId,
    /// The leader that it knows; 0 if there is none.
    pub leader: MemberId,
    /// Raft's term.
    pub term: u64,
    /// The raft index that is committed.
    pub committed: u64,
    /// The raft index up to which the state has been changed.
    pub applied: u64,
    /// Bytes of the state on disk.
    pub size: u64,
}

macro_rules! number {
    ($get:ident, $set:ident) => {
        pub(crate) fn $get(&self) -> u64 {
            self.$get.load(Ordering::Acquire)
        }

        pub(crate) fn $set(&self, value: u64) {
            self.$get.store(value, Ordering::Release);
        }
    };
}

impl Status {
    number!(applied, set_applied);
    number!(durable, set_durable);
    number!(leader, set_leader);
    number!(term, set_term);
    number!(committed, set_committed);
    number!(size, set_size);
    number!(log_begins, set_log_begins);

    pub(crate) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    pub(crate) fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Release);
    }
}
