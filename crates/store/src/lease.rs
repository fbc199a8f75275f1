//! Leases: which exist, which keys they hold, and, on the leader, when they run out.
//!
//! What exists and what is attached is replicated state, changed by applied commands alone. The
//! deadlines are this member's own: only the leader looks at them, and it ends a lease by
//! proposing that, never by itself. A new leader gives every lease its full time again.

use crate::mvcc::Leases;
use crate::{LeaseId, LeaseStatus, StoreError};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// After this time without effect, the end of a lease is proposed again.
const END_AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Lease {
    granted: Duration,
    keys: BTreeSet<Bytes>,
    deadline: Instant,
    /// When its end was proposed, if it was.
    ending: Option<Instant>,
}

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    leases: BTreeMap<LeaseId, Lease>,
}

impl LeaseTable {
    /// Adds a lease; false if its id is taken.
    pub(crate) fn grant(&mut self, id: LeaseId, granted: Duration, now: Instant) -> bool {
        if self.leases.contains_key(&id) {
            return false;
        }
        let lease = Lease { granted, keys: BTreeSet::new(), deadline: now + granted, ending: None };
        self.leases.insert(id, lease);
        true
    }

    /// Removes a lease; gives the keys that were attached to it, ascending.
    pub(crate) fn revoke(&mut self, id: LeaseId) -> Option<BTreeSet<Bytes>> {
        self.leases.remove(&id).map(|lease| lease.keys)
    }

    /// Attaches a key that was loaded.
    pub(crate) fn attach(&mut self, id: LeaseId, key: Bytes) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key);
        }
    }

    /// Gives a lease its full time again.
    pub(crate) fn renew(&mut self, id: LeaseId, now: Instant) -> Result<LeaseStatus, StoreError> {
        let lease = self.leases.get_mut(&id).ok_or(StoreError::LeaseNotFound(id))?;
        if lease.ending.is_some() {
            return Err(StoreError::LeaseNotFound(id));
        }
        lease.deadline = now + lease.granted;
        Ok(LeaseStatus { id, granted: lease.granted, remaining: lease.granted, keys: Vec::new() })
    }

    /// Gives every lease its full time again, and takes back ends that were proposed.
    pub(crate) fn renew_all(&mut self, now: Instant) {
        for lease in self.leases.values_mut() {
            lease.deadline = now + lease.granted;
            lease.ending = None;
        }
    }

    /// What remains of a lease, and its keys.
    pub(crate) fn status(&self, id: LeaseId, now: Instant) -> Result<LeaseStatus, StoreError> {
        let lease = self.leases.get(&id).ok_or(StoreError::LeaseNotFound(id))?;
        Ok(LeaseStatus {
            id,
            granted: lease.granted,
            remaining: lease.deadline.saturating_duration_since(now),
            keys: lease.keys.iter().cloned().collect(),
        })
    }

    /// Leases that ran out and whose end was not proposed lately; now it counts as proposed.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<LeaseId> {
        let mut expired = Vec::new();
        for (id, lease) in &mut self.leases {
            let is_ending = lease.ending.is_some_and(|since| now < since + END_AGAIN);
            if lease.deadline <= now && !is_ending {
                lease.ending = Some(now);
                expired.push(*id);
            }
        }
        expired
    }
}

impl Leases for LeaseTable {
    fn exists(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    fn moved(&mut self, key: &Bytes, from: LeaseId, to: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&to) {
            lease.keys.insert(Bytes::copy_from_slice(key));
        }
    }
}
