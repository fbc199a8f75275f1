//! The replicated multi-version key-value store.
//!
//! It stores bytes under keys, gives every change the next revision of one cluster-wide counter,
//! and keeps the past of every key for a configurable window. It knows nothing about Kubernetes:
//! no kind, no label, no object.
//!
//! # Where to start reading
//!
//! [`Store`] is the whole interface; [`Embedded`] is the implementation that runs in this process.
//! A write travels through the modules in this order, and no module reaches around its neighbour:
//!
//! | module | owns |
//! |---|---|
//! | `driver` | the raft loop: batches proposals, persists, sends, hands over what is committed |
//! | `log` | the raft log and hard state, in append-only segment files: the durable truth |
//! | `transport` | messages between members |
//! | `apply` | the deterministic state machine step, on its own thread, and `apply::saver`, the only writer of the engine |
//! | `mvcc` | keys, revisions, the index in memory, reads at a revision |
//! | `watch` | events from any retained revision, pulled by their reader |
//! | `lease` | leases, their keys and their deadlines |
//! | `engine` | the small interface to sled: get, scan, atomic batch, checkpoint |
//! | `snapshot` | the whole state as a stream of chunks, for a member that fell behind |
//! | `etcd` | the outer face: etcd's v3 gRPC services over a [`Store`] |

mod apply;
mod codec;
mod command;
mod config;
mod driver;
mod embedded;
mod engine;
mod error;
pub mod etcd;
mod inbox;
mod lease;
mod log;
mod metrics;
mod mvcc;
mod snapshot;
mod status;
pub mod transport;
mod types;
mod watch;

pub use config::{Config, FreeSpace, MemberId, Peer};
pub use embedded::Embedded;
pub use error::StoreError;
pub use status::MemberStatus;
pub use types::{
    Compare, Event, EventKind, KeyValue, LeaseId, LeaseStatus, Operation, OperationResult, RangeRequest,
    RangeResponse, Relation, Target, Txn, TxnResponse, WatchBatch, WatchRequest, WatchStream, prefix_end,
};

use futures::future::BoxFuture;
use std::time::Duration;

/// What a call on a [`Store`] returns: a future that does not borrow its arguments.
pub type Reply<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A replicated multi-version key-value store.
///
/// All methods may be called from any task at any time. A future that is dropped abandons the
/// wait, not the change: a transaction that was submitted may still take effect.
pub trait Store: Send + Sync + 'static {
    /// Reads keys at one revision. With revision 0 the read is linearizable: it sees every change
    /// that was acknowledged before the call.
    fn range(&self, request: RangeRequest) -> Reply<'_, RangeResponse>;

    /// Compares and changes atomically. When this returns, the change is durable and every later
    /// read sees it. A transaction that changes something takes exactly one revision.
    fn txn(&self, txn: Txn) -> Reply<'_, TxnResponse>;

    /// Streams changes from a revision on, without gap or repeat, until the stream is dropped.
    ///
    /// The stream holds no queue: a slow reader is served from history later, and gets
    /// [`StoreError::Compacted`] only when compaction has overtaken it.
    fn watch(&self, request: WatchRequest) -> Reply<'_, WatchStream>;

    /// The current revision, linearizable: at least that of every change acknowledged before the
    /// call. All callers that wait at the same time share one confirmation.
    fn read_revision(&self) -> Reply<'_, u64>;

    /// Forgets what was overwritten or deleted at or before `revision`. Reads below it fail with
    /// [`StoreError::Compacted`] from then on; the space is given back in the background.
    fn compact(&self, revision: u64) -> Reply<'_, ()>;

    /// The revision of the last compaction; 0 if there was none.
    fn compacted_revision(&self) -> u64;

    /// Creates a lease that lives for `ttl` (whole seconds, at least one) after its last renewal.
    fn lease_grant(&self, ttl: Duration) -> Reply<'_, LeaseStatus>;

    /// Renews a lease for its full time to live.
    fn lease_keep_alive(&self, lease: LeaseId) -> Reply<'_, LeaseStatus>;

    /// Ends a lease now and deletes the keys attached to it.
    fn lease_revoke(&self, lease: LeaseId) -> Reply<'_, ()>;

    /// What remains of a lease, and its keys.
    fn lease_time_to_live(&self, lease: LeaseId) -> Reply<'_, LeaseStatus>;

    /// Stops gracefully: refuses new work, finishes what was submitted, hands leadership over,
    /// writes a checkpoint. Every call afterwards gets [`StoreError::Closed`].
    fn close(&self) -> Reply<'_, ()>;
}
