//! Three members: agreement, failure of each kind, and catching up.

use crate::contract;
use contract::{next_events, put};
use daemon::SystemClock;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::transport::Network;
use store::{Config, Embedded, Peer, RangeRequest, Store, StoreError, WatchRequest};

const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster {
    dir: tempfile::TempDir,
    network: Network,
    members: Vec<Option<Arc<Embedded>>>,
}

fn config(dir: &Path, member: u64) -> Config {
    let peers =
        (1..=3).filter(|id| *id != member).map(|id| Peer { id, address: format!("member-{id}") }).collect();
    Config {
        member,
        peers,
        tick: Duration::from_millis(20),
        segment_size: 128 << 10,
        checkpoint_interval: Duration::from_millis(50),
        kept_entries: 50,
        request_timeout: Duration::from_secs(2),
        ..Config::new(dir.join(member.to_string()))
    }
}

impl Cluster {
    async fn start() -> Self {
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            network: Network::default(),
            members: vec![None, None, None],
        };
        for member in 1..=3 {
            cluster.open(member).await;
        }
        cluster
    }

    async fn open(&mut self, member: u64) {
        let config = config(self.dir.path(), member);
        let transport = self.network.transport(member);
        let store = Embedded::open_with(config, SystemClock::shared(), transport).await.unwrap();
        self.members[member as usize - 1] = Some(Arc::new(store));
    }

    fn get(&self, member: u64) -> Arc<Embedded> {
        self.members[member as usize - 1].clone().expect("the member is open")
    }

    fn stop(&mut self, member: u64) {
        self.members[member as usize - 1] = None;
    }

    /// The leader, as a member of `among` sees it, once there is one among them.
    async fn leader(&self, among: &[u64]) -> u64 {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            for member in among {
                let leader = self.get(*member).status().leader;
                if leader != 0 && among.contains(&leader) && self.get(leader).status().leader == leader {
                    return leader;
                }
            }
            assert!(tokio::time::Instant::now() < deadline, "no leader in time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Puts, again and again while there is no leader or the outcome is unknown.
async fn put_patiently(store: &dyn Store, key: &str, value: &str) -> u64 {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let operations = vec![store::Operation::put(key.to_owned(), value.to_owned())];
        match store.txn(store::Txn::always(operations)).await {
            Ok(response) => return response.revision,
            Err(StoreError::NoLeader | StoreError::OutcomeUnknown) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(tokio::time::Instant::now() < deadline, "no success in time");
    }
}

async fn read_patiently(store: &dyn Store, request: RangeRequest) -> store::RangeResponse {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match store.range(request.clone()).await {
            Ok(response) => return response,
            Err(StoreError::NoLeader) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(tokio::time::Instant::now() < deadline, "no success in time");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_take_writes_and_reads() {
    let cluster = Cluster::start().await;
    cluster.leader(&[1, 2, 3]).await;
    for round in 0..10 {
        for member in 1..=3 {
            let key = format!("{round}/{member}");
            let revision = put_patiently(&*cluster.get(member), &key, "v").await;
            for reader in 1..=3 {
                let read = read_patiently(&*cluster.get(reader), RangeRequest::key(key.clone())).await;
                assert_eq!(read.count, 1, "{key} is read by {reader}");
                assert!(read.revision >= revision);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_leader_is_replaced_and_catches_up() {
    let cluster = Cluster::start().await;
    let old = cluster.leader(&[1, 2, 3]).await;
    put_patiently(&*cluster.get(old), "before", "1").await;
    cluster.network.set_cut_off(old, true);
    let others: Vec<u64> = (1..=3).filter(|member| *member != old).collect();
    let alone = cluster.get(old).range(RangeRequest::key("before")).await;
    assert!(matches!(alone, Err(StoreError::NoLeader)), "no stale read: {alone:?}");
    let new = cluster.leader(&others).await;
    let revision = put_patiently(&*cluster.get(new), "after", "1").await;
    cluster.network.set_cut_off(old, false);
    let read = read_patiently(&*cluster.get(old), RangeRequest::prefix("")).await;
    assert_eq!(read.count, 2);
    assert!(read.revision >= revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader(&[1, 2, 3]).await;
    let late = (1..=3).find(|member| *member != leader).unwrap();
    put_patiently(&*cluster.get(leader), "a", "1").await;
    cluster.stop(late);
    let others: Vec<u64> = (1..=3).filter(|member| *member != late).collect();
    let value = "v".repeat(4000);
    for number in 0..400 {
        put_patiently(&*cluster.get(leader), &format!("k/{number}"), &value).await;
    }
    let leader = cluster.leader(&others).await;
    // The log is cut in the background; the late member needs more than is left.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while cluster.get(leader).log_begins() < 200 {
        assert!(tokio::time::Instant::now() < deadline, "the log is not cut");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.open(late).await;
    let late = cluster.get(late);
    let read = read_patiently(&*late, RangeRequest::prefix("")).await;
    assert_eq!(read.count, 401);
    let again = put_patiently(&*late, "after", "1").await;
    let mut watch = late.watch(WatchRequest::prefix("", 2)).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&again) {
        let batch = next_events(&mut watch).await.unwrap();
        seen.extend(batch.events.iter().map(|event| event.kv.mod_revision));
    }
    assert_eq!(seen, (2..=again).collect::<Vec<_>>(), "history came with the snapshot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_survives_a_restart_of_all_members_in_turn() {
    let mut cluster = Cluster::start().await;
    for round in 0..6u64 {
        let member = round % 3 + 1;
        cluster.leader(&[1, 2, 3]).await;
        put_patiently(&*cluster.get(member), &format!("{round}"), "v").await;
        cluster.get(member).close().await.unwrap();
        cluster.stop(member);
        let others: Vec<u64> = (1..=3).filter(|other| *other != member).collect();
        let leader = cluster.leader(&others).await;
        put_patiently(&*cluster.get(leader), &format!("without/{round}"), "v").await;
        cluster.open(member).await;
    }
    for member in 1..=3 {
        let read = read_patiently(&*cluster.get(member), RangeRequest::prefix("")).await;
        assert_eq!(read.count, 12, "at member {member}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_talk_over_grpc() {
    use store::transport::{GrpcTransport, connect_plain};
    use wire::raft::raft_transport_server::RaftTransportServer;
    let dir = tempfile::tempdir().unwrap();
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses: Vec<String> =
        listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    let mut stores = Vec::new();
    let mut servers = Vec::new();
    for (listener, member) in listeners.into_iter().zip(1..) {
        let mut config = config(dir.path(), member);
        for peer in &mut config.peers {
            peer.address = addresses[peer.id as usize - 1].clone();
        }
        let transport = Arc::new(GrpcTransport::new(&config.peers, &connect_plain()));
        let service = RaftTransportServer::new(transport.service());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        servers.push(daemon::tasks::spawn("raft server", server));
        stores.push(Embedded::open_with(config, SystemClock::shared(), transport).await.unwrap());
    }
    let large = "v".repeat(1_000_000);
    for store in &stores {
        put_patiently(store, "k", &large).await;
    }
    let revision = put_patiently(&stores[0], "k", "small").await;
    let read = read_patiently(&stores[2], RangeRequest::key("k")).await;
    assert_eq!((read.kvs[0].mod_revision, &read.kvs[0].value[..]), (revision, &b"small"[..]));
    put(&stores[1], "l", "v").await;
    drop(stores);
    servers.iter().for_each(|server| server.abort());
}
