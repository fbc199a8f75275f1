//! What outlives a restart, a full disk, and time; and what is refused.

use crate::contract;
use contract::{delete, next_events, put};
use daemon::{Clock, SystemClock};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::{Config, Embedded, EventKind, Operation, RangeRequest, Store, StoreError, Txn, WatchRequest};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(dir: &Path) -> Config {
    Config {
        segment_size: 128 << 10,
        recent_events: 16 << 10,
        tick: Duration::from_millis(10),
        checkpoint_interval: Duration::from_millis(30),
        ..Config::new(dir)
    }
}

async fn open(dir: &Path) -> Embedded {
    Embedded::open(config(dir), SystemClock::shared()).await.unwrap()
}

/// Waits for a condition that a background thread brings about.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_across_restarts_and_compactions() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 2;
    let mut seen = Vec::new();
    let mut written = 1;
    for round in 0..6 {
        let store = open(dir.path()).await;
        assert_eq!(store.read_revision().await.unwrap(), written);
        for number in 0..150 {
            let key = format!("key/{}", number % 40);
            written = match (round + number) % 7 {
                0 => delete(&store, &key).await,
                _ => put(&store, &key, &"v".repeat(300)).await,
            };
        }
        // The reader is always two hundred revisions behind, and compaction follows the reader.
        let mut watch = store.watch(WatchRequest::prefix("key/", next)).await.unwrap();
        while next + 200 < written {
            let batch = next_events(&mut watch).await.unwrap();
            seen.extend(batch.events.iter().map(|event| event.kv.mod_revision));
            next = batch.revision + 1;
        }
        if next > 2 && store.compacted_revision() < next - 1 {
            store.compact(next - 1).await.unwrap();
        }
        if round % 2 == 0 {
            store.close().await.unwrap();
        }
    }
    let store = open(dir.path()).await;
    let mut watch = store.watch(WatchRequest::prefix("key/", next)).await.unwrap();
    while next <= written {
        let batch = next_events(&mut watch).await.unwrap();
        seen.extend(batch.events.iter().map(|event| event.kv.mod_revision));
        next = batch.revision + 1;
    }
    assert_eq!(seen, (2..=written).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_fell_far_behind_is_served_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let mut watch = store.watch(WatchRequest::prefix("", 2)).await.unwrap();
    let mut last = 0;
    for number in 0..400 {
        last = put(&store, &format!("{number}"), &"v".repeat(500)).await;
    }
    let mut expected = 2;
    while expected <= last {
        for event in next_events(&mut watch).await.unwrap().events {
            assert_eq!(event.kv.mod_revision, expected);
            assert_eq!(event.kind, EventKind::Put);
            assert_eq!(event.kv.value.len(), 500);
            expected += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_leases_and_compaction_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let lease = {
        let store = open(dir.path()).await;
        put(&store, "a", "1").await;
        put(&store, "a", "2").await;
        put(&store, "a", "3").await;
        let lease = store.lease_grant(Duration::from_secs(600)).await.unwrap().id;
        let leased = Operation::Put { key: "l".into(), value: "v".into(), lease };
        store.txn(Txn::always(vec![leased])).await.unwrap();
        store.compact(3).await.unwrap();
        lease
    };
    let store = open(dir.path()).await;
    assert_eq!(store.compacted_revision(), 3);
    let then = RangeRequest { revision: 3, ..RangeRequest::key("a") };
    assert_eq!(&store.range(then).await.unwrap().kvs[0].value[..], b"2");
    let before = RangeRequest { revision: 2, ..RangeRequest::key("a") };
    assert!(matches!(store.range(before).await, Err(StoreError::Compacted { .. })));
    assert_eq!(store.lease_time_to_live(lease).await.unwrap().keys, ["l"]);
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(store.range(RangeRequest::key("l")).await.unwrap().count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_changes_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let free_space = {
        let free = free.clone();
        Arc::new(move |_: &Path| Ok(free.load(Ordering::Relaxed)))
    };
    let config = Config { free_space, segment_size: 8 << 20, ..config(dir.path()) };
    let store = Embedded::open(config, SystemClock::shared()).await.unwrap();
    put(&store, "before", "v").await;
    free.store(1 << 20, Ordering::Relaxed);
    let large = "v".repeat(100_000);
    let mut refused = None;
    let mut accepted = 1;
    for number in 0..100 {
        let operations = vec![Operation::put(format!("{number}"), large.clone())];
        match store.txn(Txn::always(operations)).await {
            Ok(_) => accepted += 1,
            Err(error) => refused = Some(error),
        }
    }
    assert!(matches!(refused, Some(StoreError::DiskFull { .. })), "{refused:?}");
    assert!(accepted < 60, "what was reserved is used up first: {accepted}");
    let read = store.range(RangeRequest::prefix("")).await.unwrap();
    assert_eq!(read.count, accepted, "reads go on, and what was refused left nothing");
    free.store(u64::MAX, Ordering::Relaxed);
    put(&store, "after", "v").await;
    drop(store);
    assert_eq!(open(dir.path()).await.range(RangeRequest::prefix("")).await.unwrap().count, accepted + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        checkpoint_interval: Duration::from_secs(3600),
        segment_size: 64 << 20,
        ..config(dir.path())
    };
    let store = Embedded::open(config, SystemClock::shared()).await.unwrap();
    for number in 0..50 {
        put(&store, &format!("{number}"), &"v".repeat(500)).await;
    }
    drop(store);
    let file = dir.path().join("raft").join(format!("{:016x}.log", 1));
    let open_file = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    open_file.write_all_at(b"damage", 9000).unwrap();
    let error = Embedded::open(Config::new(dir.path()), SystemClock::shared()).await.err();
    let error = error.expect("the damage is noticed");
    assert!(matches!(&error, StoreError::Corrupt { file: named, .. } if *named == file), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_at_a_time_and_no_work_after_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let second = Embedded::open(config(dir.path()), SystemClock::shared()).await.err();
    assert!(matches!(second, Some(StoreError::InUse { .. })), "{second:?}");
    let mut watch = store.watch(WatchRequest::prefix("", 0)).await.unwrap();
    put(&store, "a", "1").await;
    store.close().await.unwrap();
    let closed = store.txn(Txn::always(vec![Operation::put("a", "2")])).await;
    assert!(matches!(closed, Err(StoreError::Closed)), "{closed:?}");
    assert!(matches!(store.read_revision().await, Err(StoreError::Closed)));
    let end = loop {
        if let Err(error) = next_events(&mut watch).await {
            break error;
        }
    };
    assert!(matches!(end, StoreError::Closed), "{end}");
    store.close().await.unwrap();
    // Neither the closed store nor its watch keeps the directory.
    assert_eq!(open(dir.path()).await.read_revision().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_rules_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let huge = vec![0u8; (3 << 19) + 1];
    let huge = store.txn(Txn::always(vec![Operation::put("a", huge)])).await;
    assert!(matches!(huge, Err(StoreError::TooLarge { .. })), "{huge:?}");
    let nameless = store.txn(Txn::always(vec![Operation::put("", "v")])).await;
    assert!(matches!(nameless, Err(StoreError::Invalid(_))), "{nameless:?}");
    let short = store.lease_grant(Duration::from_millis(10)).await;
    assert!(matches!(short, Err(StoreError::Invalid(_))), "{short:?}");
    assert_eq!(store.read_revision().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_members_than_before_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await);
    let peers = vec![store::Peer { id: 2, address: "elsewhere".to_owned() }];
    let changed = Config { peers, ..config(dir.path()) };
    let network = store::transport::Network::default();
    let opened = Embedded::open_with(changed, SystemClock::shared(), network.transport(1)).await;
    assert!(matches!(opened.err(), Some(StoreError::Invalid(_))));
}

/// The machine's clock, set forward by the test.
struct SetForward(AtomicI64);

impl Clock for SetForward {
    fn now(&self) -> jiff::Timestamp {
        let offset = jiff::SignedDuration::from_secs(self.0.load(Ordering::Relaxed));
        SystemClock.now().checked_add(offset).unwrap()
    }

    fn monotonic(&self) -> Instant {
        SystemClock.monotonic()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_is_kept_for_its_window_and_the_space_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetForward(AtomicI64::new(0)));
    let store = Embedded::open(config(dir.path()), clock.clone()).await.unwrap();
    let old = put(&store, "a", "old").await;
    eventually("the time is marked", || store.status().applied > 2).await;
    let forward = |seconds| clock.0.fetch_add(seconds, Ordering::Relaxed);
    forward(1800);
    let middle = put(&store, "a", "middle").await;
    let applied = store.status().applied;
    eventually("the time is marked", || store.status().applied > applied).await;
    let early = RangeRequest { revision: old, ..RangeRequest::key("a") };
    assert_eq!(&store.range(early.clone()).await.unwrap().kvs[0].value[..], b"old");
    forward(2000);
    eventually("the first half hour is forgotten", || store.compacted_revision() == old).await;
    put(&store, "a", "new").await;
    forward(3600);
    eventually("the second half hour is forgotten", || store.compacted_revision() >= middle).await;
    let gone = store.range(early).await;
    assert!(matches!(gone, Err(StoreError::Compacted { .. })), "{gone:?}");
    assert_eq!(&store.range(RangeRequest::key("a")).await.unwrap().kvs[0].value[..], b"new");
}
