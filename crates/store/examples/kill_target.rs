//! The victim of the kill tests: opens a store, writes from several tasks, and prints every write
//! once it is acknowledged, until it is killed.
//!
//! `kill_target DIR open` only opens, writes one key, and prints `open`.

#![expect(clippy::print_stdout, reason = "standard output is how the test follows it")]

use daemon::SystemClock;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use store::{Config, Embedded, Operation, RangeRequest, Store as _, Txn};

const WRITERS: u64 = 16;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("the data directory is missing")?;
    let only_opens = arguments.next().as_deref() == Some("open");
    let config = Config {
        // Small, so that segments change and checkpoints happen all the time.
        segment_size: 256 << 10,
        checkpoint_interval: Duration::from_millis(50),
        recent_events: 64 << 10,
        ..Config::new(dir)
    };
    let store = Arc::new(Embedded::open(config, SystemClock::shared()).await?);
    println!("open");
    if only_opens {
        store.txn(Txn::always(vec![Operation::put("opened", "yes")])).await?;
        store.close().await?;
        return Ok(());
    }
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        writers.push(daemon::tasks::spawn("writer", write(store.clone(), writer)));
    }
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

async fn write(store: Arc<Embedded>, writer: u64) -> Result<(), store::StoreError> {
    let prefix = format!("{writer:02}/");
    let before = store.range(RangeRequest::prefix(prefix.clone())).await?;
    let mut number = before.count;
    loop {
        let key = format!("{prefix}{number:08}");
        let value = vec![b'v'; 200 + (number as usize * 37) % 800];
        store.txn(Txn::always(vec![Operation::put(key.clone(), value)])).await?;
        // One write, so that a line is whole or not there.
        let line = format!("{key}\n");
        if std::io::stdout().write_all(line.as_bytes()).is_err() {
            return Ok(());
        }
        number += 1;
    }
}
