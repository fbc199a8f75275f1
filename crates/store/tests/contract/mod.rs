//! What every implementation of [`Store`] must do, as functions over the trait.
//!
//! Each case gets a fresh store with revision 1.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its own functions too")]
#![allow(dead_code, reason = "each test binary uses a part of this module")]

use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use store::{
    Compare, EventKind, KeyValue, Operation, OperationResult, RangeRequest, Relation, Store, StoreError,
    Target, Txn, WatchBatch, WatchRequest, WatchStream,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The next batch that holds events, within a deadline.
pub(crate) async fn next_events(watch: &mut WatchStream) -> Result<WatchBatch, StoreError> {
    loop {
        let batch = tokio::time::timeout(PATIENCE, watch.next()).await;
        let batch = batch.expect("a batch arrives in time").expect("the stream goes on")?;
        if !batch.events.is_empty() {
            return Ok(batch);
        }
    }
}

/// Puts a key; gives the revision.
pub(crate) async fn put(store: &dyn Store, key: &str, value: &str) -> u64 {
    let operations = vec![Operation::put(key.to_owned(), value.to_owned())];
    store.txn(Txn::always(operations)).await.unwrap().revision
}

/// Deletes a key; gives the revision.
pub(crate) async fn delete(store: &dyn Store, key: &str) -> u64 {
    store.txn(Txn::always(vec![Operation::delete(key.to_owned())])).await.unwrap().revision
}

async fn get(store: &dyn Store, key: &str) -> Option<KeyValue> {
    store.range(RangeRequest::key(key.to_owned())).await.unwrap().kvs.into_iter().next()
}

async fn get_at(store: &dyn Store, key: &str, revision: u64) -> Result<Option<KeyValue>, StoreError> {
    let request = RangeRequest { revision, ..RangeRequest::key(key.to_owned()) };
    Ok(store.range(request).await?.kvs.into_iter().next())
}

pub(crate) async fn revisions_count_changes(store: Arc<dyn Store>) {
    assert_eq!(store.read_revision().await.unwrap(), 1);
    assert_eq!(put(&*store, "a", "1").await, 2);
    assert_eq!(put(&*store, "a", "2").await, 3);
    let kv = get(&*store, "a").await.unwrap();
    assert_eq!((&kv.value[..], kv.create_revision, kv.mod_revision, kv.version), (&b"2"[..], 2, 3, 2));
    assert_eq!(delete(&*store, "a").await, 4);
    assert_eq!(get(&*store, "a").await, None);
    assert_eq!(delete(&*store, "a").await, 4, "deleting nothing takes no revision");
    assert_eq!(put(&*store, "a", "3").await, 5);
    let kv = get(&*store, "a").await.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
    assert_eq!(store.read_revision().await.unwrap(), 5);
}

pub(crate) async fn ranges_are_ordered_limited_and_counted(store: Arc<dyn Store>) {
    for key in ["b", "a/2", "a/1", "a/3", "a0"] {
        put(&*store, key, key).await;
    }
    let all = store.range(RangeRequest::prefix("a/")).await.unwrap();
    let keys: Vec<_> = all.kvs.iter().map(|kv| &kv.key[..]).collect();
    assert_eq!(keys, [b"a/1", b"a/2", b"a/3"]);
    assert!(!all.more);
    let some = RangeRequest { limit: 2, ..RangeRequest::prefix("a/") };
    let some = store.range(some).await.unwrap();
    assert_eq!((some.kvs.len(), some.count, some.more, some.revision), (2, 3, true, 6));
    let bare = RangeRequest { keys_only: true, ..RangeRequest::prefix("") };
    let bare = store.range(bare).await.unwrap();
    assert_eq!(bare.kvs.len(), 5);
    assert!(bare.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 1));
    let backwards = RangeRequest { start: "b".into(), end: "a".into(), ..RangeRequest::default() };
    assert_eq!(store.range(backwards).await.unwrap().count, 0);
    let endless = RangeRequest { start: "a0".into(), ..RangeRequest::default() };
    assert_eq!(store.range(endless).await.unwrap().count, 2);
}

pub(crate) async fn the_past_can_be_read(store: Arc<dyn Store>) {
    let first = put(&*store, "a", "1").await;
    let second = put(&*store, "a", "2").await;
    let other = put(&*store, "b", "x").await;
    let gone = delete(&*store, "a").await;
    let again = put(&*store, "a", "3").await;
    let value = |kv: Option<KeyValue>| kv.map(|kv| String::from_utf8(kv.value.to_vec()).unwrap());
    for (revision, expected) in
        [(first, Some("1")), (second, Some("2")), (other, Some("2")), (gone, None), (again, Some("3"))]
    {
        let found = value(get_at(&*store, "a", revision).await.unwrap());
        assert_eq!(found.as_deref(), expected, "at {revision}");
    }
    let then = RangeRequest { revision: other, ..RangeRequest::prefix("") };
    assert_eq!(store.range(then).await.unwrap().count, 2);
    let future = get_at(&*store, "a", again + 1).await;
    assert!(matches!(future, Err(StoreError::FutureRevision { .. })), "{future:?}");
}

pub(crate) async fn transactions_compare_and_change_at_once(store: Arc<dyn Store>) {
    let create = Txn {
        compare: vec![Compare::absent("k")],
        success: vec![Operation::put("k", "1"), Operation::put("l", "1")],
        failure: vec![Operation::get("k")],
    };
    let created = store.txn(create.clone()).await.unwrap();
    assert!(created.succeeded);
    assert_eq!(created.revision, 2);
    assert_eq!(created.results, [OperationResult::Put, OperationResult::Put]);
    let refused = store.txn(create).await.unwrap();
    assert!(!refused.succeeded);
    assert_eq!(refused.revision, 2);
    let [OperationResult::Range(found)] = &refused.results[..] else { panic!("{refused:?}") };
    assert_eq!(&found.kvs[0].value[..], b"1");
    let removal = Txn {
        compare: vec![Compare::unchanged("k", 2), Compare::unchanged("l", 2)],
        success: vec![Operation::get("k"), Operation::delete("k"), Operation::get("k")],
        failure: Vec::new(),
    };
    let removed = store.txn(removal).await.unwrap();
    let [OperationResult::Range(before), OperationResult::Delete { deleted }, OperationResult::Range(after)] =
        &removed.results[..]
    else {
        panic!("{removed:?}")
    };
    assert_eq!((before.count, after.count), (1, 0));
    assert_eq!(deleted, &before.kvs);
    let twice = Txn::always(vec![Operation::put("a", "1"), Operation::put("a", "2")]);
    let twice = store.txn(twice).await;
    assert!(matches!(twice, Err(StoreError::DuplicateKey)), "{twice:?}");
}

pub(crate) async fn every_field_can_be_compared(store: Arc<dyn Store>) {
    put(&*store, "a", "m").await;
    put(&*store, "a", "n").await;
    let holds = async |key: &str, relation, target| {
        let RangeRequest { start, end, .. } = RangeRequest::key(key.to_owned());
        let compare = vec![Compare::Field { start, end, relation, target }];
        store.txn(Txn { compare, ..Txn::default() }).await.unwrap().succeeded
    };
    use Relation::{Equal, Greater, Less, NotEqual};
    assert!(holds("a", Equal, Target::Version(2)).await);
    assert!(holds("a", Less, Target::Version(3)).await);
    assert!(!holds("a", Greater, Target::Version(2)).await);
    assert!(holds("a", Equal, Target::CreateRevision(2)).await);
    assert!(holds("a", Greater, Target::ModRevision(2)).await);
    assert!(holds("a", NotEqual, Target::ModRevision(2)).await);
    assert!(holds("a", Equal, Target::Lease(0)).await);
    assert!(holds("a", Equal, Target::Value("n".into())).await);
    assert!(holds("a", Greater, Target::Value("m".into())).await);
    assert!(holds("none", Equal, Target::Version(0)).await);
    assert!(!holds("none", Greater, Target::Version(0)).await);
    assert!(!holds("none", NotEqual, Target::Value("x".into())).await, "no value never matches");
}

pub(crate) async fn watches_see_each_change_once(store: Arc<dyn Store>) {
    let mut live = store.watch(WatchRequest::prefix("a", 0)).await.unwrap();
    put(&*store, "a1", "1").await;
    put(&*store, "b1", "1").await;
    let both = vec![Operation::put("a2", "1"), Operation::delete("a1")];
    let both = store.txn(Txn::always(both)).await.unwrap().revision;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let batch = next_events(&mut live).await.unwrap();
        seen.extend(batch.events);
    }
    let keys: Vec<_> = seen.iter().map(|event| (event.kind, &event.kv.key[..])).collect();
    assert_eq!(keys, [(EventKind::Put, &b"a1"[..]), (EventKind::Put, b"a2"), (EventKind::Delete, b"a1")]);
    assert_eq!((seen[1].kv.mod_revision, seen[2].kv.mod_revision), (both, both));
    let request = WatchRequest { previous: true, ..WatchRequest::prefix("a", both) };
    let mut past = store.watch(request).await.unwrap();
    let batch = next_events(&mut past).await.unwrap();
    assert_eq!(batch.events.len(), 2);
    assert_eq!(batch.events[0].previous, None);
    assert_eq!(&batch.events[1].previous.as_ref().unwrap().value[..], b"1");
    let mut future = store.watch(WatchRequest::prefix("", both + 2)).await.unwrap();
    put(&*store, "c", "unwanted").await;
    let wanted = put(&*store, "c", "wanted").await;
    let batch = next_events(&mut future).await.unwrap();
    assert_eq!(batch.events[0].kv.mod_revision, wanted);
}

pub(crate) async fn compaction_ends_the_past(store: Arc<dyn Store>) {
    put(&*store, "a", "1").await;
    put(&*store, "b", "1").await;
    let gone = delete(&*store, "b").await;
    let middle = put(&*store, "a", "2").await;
    let last = put(&*store, "a", "3").await;
    store.compact(middle).await.unwrap();
    assert_eq!(store.compacted_revision(), middle);
    let old = get_at(&*store, "a", gone).await;
    assert!(matches!(old, Err(StoreError::Compacted { .. })), "{old:?}");
    assert_eq!(&get_at(&*store, "a", middle).await.unwrap().unwrap().value[..], b"2");
    assert_eq!(&get_at(&*store, "a", last).await.unwrap().unwrap().value[..], b"3");
    let mut late = store.watch(WatchRequest::prefix("", gone)).await.unwrap();
    let late = next_events(&mut late).await;
    assert!(matches!(late, Err(StoreError::Compacted { .. })), "{late:?}");
    let mut kept = store.watch(WatchRequest::prefix("", middle)).await.unwrap();
    assert_eq!(next_events(&mut kept).await.unwrap().events[0].kv.mod_revision, middle);
    let twice = store.compact(middle).await;
    assert!(matches!(twice, Err(StoreError::Compacted { .. })), "{twice:?}");
    let future = store.compact(last + 1).await;
    assert!(matches!(future, Err(StoreError::FutureRevision { .. })), "{future:?}");
}

pub(crate) async fn leases_hold_their_keys(store: Arc<dyn Store>) {
    let lease = store.lease_grant(Duration::from_secs(60)).await.unwrap();
    assert_ne!(lease.id, 0);
    let put_with = |key: &'static str| {
        let put = Operation::Put { key: key.into(), value: "v".into(), lease: lease.id };
        Txn::always(vec![put])
    };
    store.txn(put_with("a")).await.unwrap();
    store.txn(put_with("b")).await.unwrap();
    put(&*store, "b", "without").await;
    let status = store.lease_time_to_live(lease.id).await.unwrap();
    assert_eq!(status.keys, ["a"]);
    assert!(status.remaining <= status.granted);
    assert_eq!(get(&*store, "a").await.unwrap().lease, lease.id);
    store.lease_keep_alive(lease.id).await.unwrap();
    store.lease_revoke(lease.id).await.unwrap();
    assert_eq!(get(&*store, "a").await, None);
    assert!(get(&*store, "b").await.is_some());
    let unknown = store.txn(put_with("a")).await;
    assert!(matches!(unknown, Err(StoreError::LeaseNotFound(_))), "{unknown:?}");
    let unknown = store.lease_keep_alive(lease.id).await;
    assert!(matches!(unknown, Err(StoreError::LeaseNotFound(_))), "{unknown:?}");
}

pub(crate) async fn a_lease_runs_out(store: Arc<dyn Store>) {
    let lease = store.lease_grant(Duration::from_secs(1)).await.unwrap();
    let put = Operation::Put { key: "a".into(), value: "v".into(), lease: lease.id };
    store.txn(Txn::always(vec![put])).await.unwrap();
    let mut watch = store.watch(WatchRequest::prefix("a", 0)).await.unwrap();
    let batch = next_events(&mut watch).await.unwrap();
    assert_eq!(batch.events[0].kind, EventKind::Delete);
    let gone = store.lease_time_to_live(lease.id).await;
    assert!(matches!(gone, Err(StoreError::LeaseNotFound(_))), "{gone:?}");
}

pub(crate) async fn concurrent_writers_get_every_revision_once(store: Arc<dyn Store>) {
    let mut watch = store.watch(WatchRequest::prefix("", 2)).await.unwrap();
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let store = store.clone();
            daemon::tasks::spawn("writer", async move {
                let mut revisions = Vec::new();
                for number in 0..50 {
                    revisions.push(put(&*store, &format!("{writer}/{number}"), "v").await);
                }
                revisions
            })
        })
        .collect();
    let mut revisions = Vec::new();
    for writer in writers {
        revisions.extend(writer.await.unwrap());
    }
    revisions.sort_unstable();
    let expected: Vec<u64> = (2..2 + 16 * 50).collect();
    assert_eq!(revisions, expected);
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let batch = next_events(&mut watch).await.unwrap();
        seen.extend(batch.events.iter().map(|event| event.kv.mod_revision));
    }
    assert_eq!(seen, expected);
}
