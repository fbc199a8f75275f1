//! Messages and service traits generated from the contracts in `proto/`.
//!
//! This crate holds no logic. Start reading in `proto/corten/objects/v1/objects.proto`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated code; the contracts in proto/ hold the documentation"
)]

/// The object service: every verb on every resource.
pub mod objects {
    tonic::include_proto!("corten.objects.v1");
}

/// What a node serves about its pods.
pub mod node {
    tonic::include_proto!("corten.node.v1");
}

/// Raft messages between members of the store.
pub mod raft {
    tonic::include_proto!("corten.raft.v1");
}

/// The part of etcd's v3 API that the store's outer face serves.
pub mod etcd {
    /// A key as etcd shows it.
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }

    /// The services and their messages.
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
}

/// The contract with a key management service, and what is stored of its keys.
pub mod kms {
    tonic::include_proto!("v2");
}
