//! Messages between members.
//!
//! Raft copes with messages that are lost, doubled or late, so sending never waits and never
//! fails; what it needs to hear is that a member cannot be reached and whether a snapshot
//! arrived. [`GrpcTransport`] is the real thing, [`Network`] connects members in one process.

mod grpc;
mod network;

use crate::MemberId;
use crate::driver::Input;
use crate::inbox::Inbox;
use bytes::Bytes;
pub use grpc::{Connect, GrpcTransport, RaftService, connect_plain};
pub use network::Network;
use prost011::Message as _;
use std::sync::{Arc, OnceLock};

/// A raft message on its way to another member.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The receiver.
    pub to: MemberId,
    /// Whether it carries a snapshot, whose fate raft must be told.
    pub is_snapshot: bool,
    /// The encoded message.
    pub message: Bytes,
}

/// Sends raft messages.
pub trait Transport: Send + Sync + 'static {
    /// Sends, or drops, without waiting.
    fn send(&self, message: Outgoing);

    /// Learns where to deliver what arrives and what could not be sent. Called once, at start.
    fn attach(&self, inbound: Inbound);
}

/// The transport of a store with one member: there is nobody to send to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Transport for Alone {
    fn send(&self, _message: Outgoing) {}

    fn attach(&self, _inbound: Inbound) {}
}

/// Where a transport delivers.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub(crate) member: MemberId,
    pub(crate) cluster: u64,
    pub(crate) inbox: Arc<Inbox<Input>>,
}

impl Inbound {
    /// The member that this delivers to.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Its cluster; messages of others must not be delivered.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// Delivers an encoded raft message; false if it is none, or the store is closed.
    pub fn deliver(&self, message: &[u8]) -> bool {
        match raft::eraftpb::Message::decode(message) {
            Ok(decoded) if decoded.to == self.member => {
                let (message, weight) = (Box::new(decoded), message.len());
                self.inbox.push(Input::Message { message, weight }, weight).is_ok()
            }
            _ => false,
        }
    }

    /// A member cannot be reached.
    pub fn unreachable(&self, member: MemberId) {
        // A closed store does not care.
        let _ = self.inbox.push(Input::Unreachable(member), 0);
    }

    /// A snapshot was sent, or could not be.
    pub fn snapshot_sent(&self, member: MemberId, succeeded: bool) {
        // A closed store does not care.
        let _ = self.inbox.push(Input::SnapshotSent { member, succeeded }, 0);
    }
}

/// An inbound that is attached later than its holder is made.
pub(crate) type LateInbound = Arc<OnceLock<Inbound>>;
