//! The outer face: etcd's v3 gRPC services over a [`Store`].
//!
//! Stock etcd clients work with what is served here: KV and Maintenance.Status. Error strings are
//! etcd's to the letter, since its clients compare them. The face knows the [`Store`] trait and
//! nothing behind it.

mod convert;
mod error;

use crate::{MemberStatus, Operation, OperationResult, Store, StoreError, Txn};
use error::status_of;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use wire::etcd::etcdserverpb as pb;
use wire::etcd::etcdserverpb::kv_server::{Kv, KvServer};
use wire::etcd::etcdserverpb::maintenance_server::{Maintenance, MaintenanceServer};

/// The version that is reported: what a client may expect of the API.
const VERSION: &str = "3.4.23";
/// etcd's default limit of operations in a transaction.
const MOST_OPERATIONS: usize = 128;
/// Requests and answers may be larger than tonic's default of 4 MiB.
const MOST_BYTES: usize = 64 << 20;

/// Tells where the member stands.
pub type Identity = Arc<dyn Fn() -> MemberStatus + Send + Sync>;

/// etcd's services over a store.
#[derive(Clone)]
pub struct EtcdFace {
    store: Arc<dyn Store>,
    identity: Identity,
}

impl EtcdFace {
    /// Serves `store`; `identity` fills the headers and the status.
    pub fn new(store: Arc<dyn Store>, identity: Identity) -> Self {
        Self { store, identity }
    }

    /// The KV service.
    pub fn kv(&self) -> KvServer<Self> {
        KvServer::new(self.clone())
            .max_decoding_message_size(MOST_BYTES)
            .max_encoding_message_size(MOST_BYTES)
    }

    /// The Maintenance service.
    pub fn maintenance(&self) -> MaintenanceServer<Self> {
        MaintenanceServer::new(self.clone())
    }

    fn header(&self, revision: u64) -> Option<pb::ResponseHeader> {
        let identity = (self.identity)();
        Some(pb::ResponseHeader {
            cluster_id: identity.cluster,
            member_id: identity.member,
            revision: convert::signed(revision),
            raft_term: identity.term,
        })
    }

    /// Runs operations without a condition; gives their results and the revision.
    async fn run(&self, operations: Vec<Operation>) -> Result<(Vec<OperationResult>, u64), Status> {
        let response = self.store.txn(Txn::always(operations)).await.map_err(status_of)?;
        Ok((response.results, response.revision))
    }
}

#[tonic::async_trait]
impl Kv for EtcdFace {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let request = request.into_inner();
        let found = self.store.range(convert::range(&request)?).await.map_err(status_of)?;
        let revision = match request.revision {
            // A read of the past tells the present revision in its header.
            1.. => self.store.read_revision().await.map_err(status_of)?,
            _ => found.revision,
        };
        let response = convert::range_response(&request, found, self.header(revision));
        Ok(Response::new(response))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let request = request.into_inner();
        let operations = convert::put(request)?;
        let (results, revision) = self.run(operations).await?;
        let prev_kv = convert::previous(results);
        Ok(Response::new(pb::PutResponse { header: self.header(revision), prev_kv }))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        let wants_previous = request.prev_kv;
        let (results, revision) = self.run(vec![convert::delete(request)?]).await?;
        let mut response = results.into_iter().map(|result| convert::delete_response(result, wants_previous));
        let response = response.next().unwrap_or_default();
        Ok(Response::new(pb::DeleteRangeResponse { header: self.header(revision), ..response }))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        let most = request.success.len().max(request.failure.len()).max(request.compare.len());
        if most > MOST_OPERATIONS {
            return Err(Status::invalid_argument("etcdserver: too many operations in txn request"));
        }
        let (txn, plan) = convert::txn(request)?;
        let response = self.store.txn(txn).await.map_err(status_of)?;
        let header = self.header(response.revision);
        Ok(Response::new(convert::txn_response(response, plan, header)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let revision = u64::try_from(request.into_inner().revision)
            .map_err(|_| status_of(StoreError::Compacted { requested: 0, compacted: 0 }))?;
        self.store.compact(revision).await.map_err(status_of)?;
        let current = self.store.read_revision().await.map_err(status_of)?;
        Ok(Response::new(pb::CompactionResponse { header: self.header(current) }))
    }
}

#[tonic::async_trait]
impl Maintenance for EtcdFace {
    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let revision = self.store.read_revision().await.unwrap_or_default();
        let identity = (self.identity)();
        let size = convert::signed(identity.size);
        let errors = match identity.leader {
            0 => vec!["etcdserver: no leader".to_owned()],
            _ => Vec::new(),
        };
        Ok(Response::new(pb::StatusResponse {
            header: self.header(revision),
            version: VERSION.to_owned(),
            db_size: size,
            leader: identity.leader,
            raft_index: identity.committed,
            raft_term: identity.term,
            raft_applied_index: identity.applied,
            errors,
            db_size_in_use: size,
            is_learner: false,
        }))
    }
}
