//! What can go wrong, as callers can act on it.

use std::path::PathBuf;
use std::sync::Arc;

/// Why a call on the store did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The revision asked for is no longer kept: list again and start from there.
    #[error("required revision {requested} has been compacted, the oldest kept is {compacted}")]
    Compacted {
        /// The revision asked for.
        requested: u64,
        /// The revision of the last compaction.
        compacted: u64,
    },
    /// The revision asked for does not exist yet.
    #[error("required revision {requested} is a future revision, the newest is {current}")]
    FutureRevision {
        /// The revision asked for.
        requested: u64,
        /// The newest revision.
        current: u64,
    },
    /// Only the leader can do this, and it is another member.
    #[error("this member is not the leader, member {leader} is")]
    NotLeader {
        /// The leader's member id.
        leader: u64,
    },
    /// The members have no leader at the moment: try again.
    #[error("the store has no leader")]
    NoLeader,
    /// The call did not get through in time and has not changed anything: try again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The change was submitted but its fate is unknown; it may have happened, or happen later.
    #[error("the outcome of the change is unknown")]
    OutcomeUnknown,
    /// The request is larger than is accepted.
    #[error("the request has {size} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The request breaks a rule of the interface.
    #[error("the request is not valid: {0}")]
    Invalid(&'static str),
    /// A transaction puts the same key twice.
    #[error("the transaction changes a key twice")]
    DuplicateKey,
    /// The disk is full; changes are refused until there is room again.
    #[error("the disk that holds {path} is full")]
    DiskFull {
        /// The data directory.
        path: PathBuf,
    },
    /// A file does not hold what was written to it.
    #[error("{file} is damaged: {what}")]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A value is not what whoever wrapped it can unwrap.
    #[error("the value of {key} cannot be read: {why}")]
    Unreadable {
        /// The key.
        key: String,
        /// Why not.
        why: String,
    },
    /// Another process uses the data directory.
    #[error("the data directory {path} is in use by another process")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// Reading or writing a file failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// No such lease: it expired, was revoked, or never existed.
    #[error("lease {0:x} is not known")]
    LeaseNotFound(u64),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Names what was tried on which file; a full disk gets its own variant.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let path = path.into();
        if source.kind() == std::io::ErrorKind::StorageFull {
            return Self::DiskFull { path };
        }
        Self::Io { action, path, source: Arc::new(source) }
    }

    /// Names a damaged file and what is wrong with it.
    pub(crate) fn corrupt(file: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.into(), what: what.into() }
    }
}
