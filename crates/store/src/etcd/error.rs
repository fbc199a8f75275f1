//! Errors in etcd's words.

use crate::StoreError;
use tonic::{Code, Status};

/// The gRPC status that etcd gives for the same failure.
pub(super) fn status_of(error: StoreError) -> Status {
    let (code, message) = match &error {
        StoreError::Compacted { .. } => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
        }
        StoreError::FutureRevision { .. } => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
        }
        StoreError::NotLeader { .. } => (Code::FailedPrecondition, "etcdserver: not leader"),
        StoreError::NoLeader => (Code::Unavailable, "etcdserver: no leader"),
        StoreError::OutcomeUnknown => (Code::Unavailable, "etcdserver: request timed out"),
        StoreError::Unavailable(_) => (Code::ResourceExhausted, "etcdserver: too many requests"),
        StoreError::TooLarge { .. } => (Code::InvalidArgument, "etcdserver: request is too large"),
        StoreError::DuplicateKey => (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
        StoreError::DiskFull { .. } => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        StoreError::Corrupt { .. } => (Code::DataLoss, "etcdserver: corrupt cluster"),
        StoreError::LeaseNotFound(_) => (Code::NotFound, "etcdserver: requested lease not found"),
        StoreError::Closed => (Code::Unavailable, "etcdserver: server stopped"),
        StoreError::Invalid(what) => (Code::InvalidArgument, *what),
        StoreError::InUse { .. } | StoreError::Io { .. } | StoreError::Unreadable { .. } => {
            return Status::new(Code::Internal, error.to_string());
        }
    };
    Status::new(code, message)
}

/// An empty key.
pub(super) fn no_key() -> Status {
    Status::invalid_argument("etcdserver: key is not provided")
}

/// Something of etcd's that is not served.
pub(super) fn unsupported(what: &str) -> Status {
    Status::unimplemented(format!("{what} is not supported"))
}
