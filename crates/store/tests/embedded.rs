//! The contract of the store, held by the embedded store.

use crate::contract;
use daemon::SystemClock;
use std::sync::Arc;
use std::time::Duration;
use store::{Config, Embedded, Store};

async fn fresh() -> (tempfile::TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { segment_size: 1 << 20, tick: Duration::from_millis(20), ..Config::new(dir.path()) };
    let store = Embedded::open(config, SystemClock::shared()).await.unwrap();
    (dir, Arc::new(store))
}

macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let (_dir, store) = fresh().await;
            contract::$case(store).await;
        })*
    };
}

contract!(
    revisions_count_changes,
    ranges_are_ordered_limited_and_counted,
    the_past_can_be_read,
    transactions_compare_and_change_at_once,
    every_field_can_be_compared,
    watches_see_each_change_once,
    compaction_ends_the_past,
    leases_hold_their_keys,
    a_lease_runs_out,
    concurrent_writers_get_every_revision_once,
);
