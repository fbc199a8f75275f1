//! Nothing acknowledged is lost when the process is killed, at any moment, over and over.

use daemon::SystemClock;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use store::{Config, Embedded, RangeRequest, Store as _, WatchRequest};

const KILLS: u32 = 50;
const KILLS_WHILE_OPENING: u32 = 40;

/// The example next to this test's binary.
fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let build = test.parent().and_then(Path::parent).unwrap();
    let target = build.join("examples").join("kill_target");
    assert!(target.exists(), "cargo builds examples with tests: {}", target.display());
    target
}

fn start(dir: &Path, mode: &str) -> Child {
    Command::new(target()).arg(dir).arg(mode).stdout(Stdio::piped()).spawn().expect("the target starts")
}

async fn open(dir: &Path) -> Embedded {
    Embedded::open(Config::new(dir), SystemClock::shared()).await.expect("the store opens")
}

/// A cheap source of varied delays; the seed is the round.
fn scatter(round: u32, most: u32) -> u32 {
    round.wrapping_mul(2_654_435_761).rotate_left(13) % most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_lose_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        let mut child = start(dir.path(), "write");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "open\n", "round {round}: the store opens again");
        // Killed after a number of acknowledged writes, so in the middle of others.
        for _ in 0..scatter(round, 400) {
            line.clear();
            output.read_line(&mut line).unwrap();
            acknowledged.push(line.trim_end().to_owned());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
        acknowledged.extend(whole.lines().map(str::to_owned));
    }
    assert!(acknowledged.len() > 1000, "something was written: {}", acknowledged.len());
    let store = open(dir.path()).await;
    let found = store.range(RangeRequest::prefix("")).await.unwrap();
    let keys: std::collections::BTreeSet<&[u8]> = found.kvs.iter().map(|kv| &kv.key[..]).collect();
    for key in &acknowledged {
        assert!(keys.contains(key.as_bytes()), "{key} was acknowledged and is lost");
    }
    // Each put created a key, so that the revisions have neither gap nor repeat.
    let mut revisions: Vec<u64> = found.kvs.iter().map(|kv| kv.mod_revision).collect();
    revisions.sort_unstable();
    let expected: Vec<u64> = (2..=found.revision).collect();
    assert_eq!(revisions, expected);
    let mut watch = store.watch(WatchRequest::prefix("", 2)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let batch = futures::StreamExt::next(&mut watch).await.unwrap().unwrap();
        seen.extend(batch.events.iter().map(|event| event.kv.mod_revision));
    }
    assert_eq!(seen, expected, "the watch from the beginning sees each revision once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_while_opening_leave_a_store_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(dir.path(), "write");
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let mut acknowledged = Vec::new();
    for _ in 0..3000 {
        line.clear();
        output.read_line(&mut line).unwrap();
        acknowledged.push(line.trim_end().to_owned());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for round in 0..KILLS_WHILE_OPENING {
        let mut child = start(dir.path(), "open");
        // The moment of the kill is what varies, not something that is waited for.
        std::thread::sleep(Duration::from_micros(u64::from(scatter(round, 60_000))));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let store = open(dir.path()).await;
    for key in acknowledged.iter().filter(|key| key.contains('/')) {
        let found = store.range(RangeRequest::key(key.clone())).await.unwrap();
        assert_eq!(found.count, 1, "{key} was acknowledged and is lost");
    }
}
