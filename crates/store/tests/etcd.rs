//! The etcd face, as etcd's own client would use it.

use daemon::SystemClock;
use std::sync::Arc;
use store::etcd::EtcdFace;
use store::{Config, Embedded};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Server};
use wire::etcd::etcdserverpb::{
    self as pb, compare, kv_client::KvClient, maintenance_client::MaintenanceClient, range_request,
    request_op::Request, response_op::Response,
};

struct Face {
    _dir: tempfile::TempDir,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    channel: Channel,
}

impl Drop for Face {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve() -> Face {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(Config::new(dir.path()), SystemClock::shared()).await.unwrap();
    let store = Arc::new(store);
    let identity = {
        let store = store.clone();
        Arc::new(move || store.status())
    };
    let face = EtcdFace::new(store, identity);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .add_service(face.kv())
        .add_service(face.maintenance())
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = daemon::tasks::spawn("etcd face", server);
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Face { _dir: dir, server, channel }
}

fn put(key: &'static str, value: &'static str) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: value.into(), ..pb::PutRequest::default() }
}

fn get(key: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), ..pb::RangeRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_put_read_and_deleted() {
    let face = serve().await;
    let mut kv = KvClient::new(face.channel.clone());
    let header = kv.put(put("a", "1")).await.unwrap().into_inner().header.unwrap();
    assert_eq!((header.revision, header.member_id, header.cluster_id), (2, 1, 1));
    assert!(header.raft_term > 0);
    let again = pb::PutRequest { prev_kv: true, ..put("a", "2") };
    let previous = kv.put(again).await.unwrap().into_inner().prev_kv.unwrap();
    assert_eq!((&previous.value[..], previous.mod_revision), (&b"1"[..], 2));
    kv.put(put("b", "x")).await.unwrap();
    kv.put(put("c", "x")).await.unwrap();
    let from_b = pb::RangeRequest { range_end: vec![0].into(), ..get("b") };
    assert_eq!(kv.range(from_b).await.unwrap().into_inner().count, 2);
    let count = pb::RangeRequest { range_end: vec![0].into(), count_only: true, ..get("a") };
    let count = kv.range(count).await.unwrap().into_inner();
    assert_eq!((count.count, count.kvs.len(), count.more), (3, 0, false));
    let newest = pb::RangeRequest {
        range_end: vec![0].into(),
        limit: 1,
        sort_order: range_request::SortOrder::Descend.into(),
        sort_target: range_request::SortTarget::Mod.into(),
        ..get("a")
    };
    let newest = kv.range(newest).await.unwrap().into_inner();
    assert_eq!((&newest.kvs[0].key[..], newest.more), (&b"c"[..], true));
    let past = kv.range(pb::RangeRequest { revision: 2, ..get("a") }).await.unwrap().into_inner();
    assert_eq!((&past.kvs[0].value[..], past.header.unwrap().revision), (&b"1"[..], 5));
    let deletion = pb::DeleteRangeRequest { key: "a".into(), prev_kv: true, ..Default::default() };
    let deleted = kv.delete_range(deletion).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, &deleted.prev_kvs[0].value[..]), (1, &b"2"[..]));
    assert_eq!(kv.range(get("a")).await.unwrap().into_inner().count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_answers_each_of_its_requests() {
    let face = serve().await;
    let mut kv = KvClient::new(face.channel.clone());
    let request = |request| pb::RequestOp { request: Some(request) };
    let txn = pb::TxnRequest {
        compare: vec![pb::Compare {
            key: "a".into(),
            target: compare::CompareTarget::Create.into(),
            target_union: Some(compare::TargetUnion::CreateRevision(0)),
            ..pb::Compare::default()
        }],
        success: vec![
            request(Request::RequestPut(pb::PutRequest { prev_kv: true, ..put("a", "1") })),
            request(Request::RequestRange(get("a"))),
        ],
        failure: vec![request(Request::RequestRange(get("a")))],
    };
    let first = kv.txn(txn.clone()).await.unwrap().into_inner();
    assert!(first.succeeded);
    let responses: Vec<_> = first.responses.into_iter().map(|op| op.response.unwrap()).collect();
    let [Response::ResponsePut(put), Response::ResponseRange(range)] = &responses[..] else {
        panic!("{responses:?}")
    };
    assert_eq!((put.prev_kv.is_none(), range.count), (true, 1));
    let second = kv.txn(txn).await.unwrap().into_inner();
    assert!(!second.succeeded);
    assert_eq!(second.responses.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_in_etcds_words() {
    let face = serve().await;
    let mut kv = KvClient::new(face.channel.clone());
    for value in ["1", "2", "3"] {
        kv.put(put("a", value)).await.unwrap();
    }
    kv.compact(pb::CompactionRequest { revision: 3, physical: false }).await.unwrap();
    let nameless = kv.put(put("", "v")).await.unwrap_err();
    assert_eq!(nameless.code(), Code::InvalidArgument);
    assert_eq!(nameless.message(), "etcdserver: key is not provided");
    let past = kv.range(pb::RangeRequest { revision: 2, ..get("a") }).await.unwrap_err();
    assert_eq!(past.code(), Code::OutOfRange);
    assert_eq!(past.message(), "etcdserver: mvcc: required revision has been compacted");
    let future = kv.range(pb::RangeRequest { revision: 9, ..get("a") }).await.unwrap_err();
    assert_eq!(future.message(), "etcdserver: mvcc: required revision is a future revision");
    let leased = kv.put(pb::PutRequest { lease: 77, ..put("a", "v") }).await.unwrap_err();
    assert_eq!(leased.code(), Code::NotFound);
    assert_eq!(leased.message(), "etcdserver: requested lease not found");
    let twice = pb::RequestOp { request: Some(Request::RequestPut(put("a", "v"))) };
    let twice = pb::TxnRequest { success: vec![twice.clone(), twice], ..Default::default() };
    let twice = kv.txn(twice).await.unwrap_err();
    assert_eq!(twice.message(), "etcdserver: duplicate key given in txn request");
    let many = pb::RequestOp { request: Some(Request::RequestRange(get("a"))) };
    let many = pb::TxnRequest { success: vec![many; 129], ..Default::default() };
    let many = kv.txn(many).await.unwrap_err();
    assert_eq!(many.message(), "etcdserver: too many operations in txn request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_tells_where_the_member_stands() {
    let face = serve().await;
    let mut maintenance = MaintenanceClient::new(face.channel.clone());
    let status = maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.leader, status.is_learner), (1, false));
    assert!(status.raft_applied_index > 0 && status.raft_applied_index <= status.raft_index);
    assert_eq!(status.header.unwrap().revision, 1);
    assert!(status.errors.is_empty());
}
