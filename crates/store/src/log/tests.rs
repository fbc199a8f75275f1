use super::*;
use raft::{GetEntriesContext, Storage};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

fn options(dir: &Path) -> LogOptions {
    LogOptions {
        dir: dir.to_owned(),
        members: ConfState { voters: vec![1], ..ConfState::default() },
        segment_size: 64 << 10,
        cache: 4 << 10,
        min_free: 0,
        free_space: Arc::new(|_| Ok(u64::MAX)),
    }
}

fn entry(index: u64, term: u64, size: usize) -> Entry {
    Entry { index, term, data: vec![index as u8; size], ..Entry::default() }
}

fn append(log: &mut Log, entries: impl IntoIterator<Item = Entry>) {
    let hard = HardState { term: 9, vote: 1, commit: 0 };
    log.append(&mut entries.into_iter().collect(), Some(&hard)).unwrap();
}

fn all(log: &Log) -> Vec<(u64, u64, usize)> {
    let (low, high) = (log.first_index().unwrap(), log.last() + 1);
    if low == high {
        return Vec::new();
    }
    let entries = log.entries(low, high, None, GetEntriesContext::empty(false)).unwrap();
    entries.iter().map(|entry| (entry.index, entry.term, entry.data.len())).collect()
}

fn last_segment(dir: &Path) -> PathBuf {
    let last = *segment::list(dir).unwrap().last().unwrap();
    dir.join(format!("{last:016x}.log"))
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(options(dir.path())).unwrap();
    append(&mut log, (1..=10).map(|index| entry(index, 1, 100)));
    append(&mut log, (11..=20).map(|index| entry(index, 2, 100)));
    let before = all(&log);
    drop(log);
    let log = Log::open(options(dir.path())).unwrap();
    assert_eq!(all(&log), before);
    assert_eq!(log.hard_state().term, 9);
    assert_eq!(log.term(10).unwrap(), 1);
    assert_eq!(log.term(11).unwrap(), 2);
    assert!(log.term(21).is_err());
}

#[test]
fn entries_beyond_the_cache_are_read_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(options(dir.path())).unwrap();
    for first in (1..200).step_by(4) {
        append(&mut log, (first..first + 4).map(|index| entry(index, 1, 1000)));
    }
    assert!(log.cache.len() < 10);
    assert!(log.segments.len() > 2, "several segments were written");
    assert_eq!(all(&log).len(), 200);
    let some = log.entries(3, 150, Some(5000), GetEntriesContext::empty(false)).unwrap();
    assert_eq!(some[0].index, 3);
    assert!(some.len() < 7, "the limit holds: {}", some.len());
}

#[test]
fn a_conflicting_tail_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(options(dir.path())).unwrap();
    append(&mut log, (1..=10).map(|index| entry(index, 1, 10)));
    append(&mut log, (6..=8).map(|index| entry(index, 3, 20)));
    let expected: Vec<_> =
        (1..=5).map(|index| (index, 1, 10)).chain((6..=8).map(|index| (index, 3, 20))).collect();
    assert_eq!(all(&log), expected);
    drop(log);
    assert_eq!(all(&Log::open(options(dir.path())).unwrap()), expected);
}

#[test]
fn whole_segments_are_dropped_and_the_rest_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(options(dir.path())).unwrap();
    for index in 1..=300 {
        append(&mut log, [entry(index, 1 + index / 100, 1000)]);
    }
    let before = log.segments.len();
    log.compact(250).unwrap();
    assert!(log.segments.len() < before);
    let first = log.first_index().unwrap();
    assert!(first > 150 && first <= 251, "{first}");
    assert_eq!(log.term(first - 1).unwrap(), 1 + (first - 1) / 100);
    let rest = all(&log);
    drop(log);
    let log = Log::open(options(dir.path())).unwrap();
    assert_eq!(log.first_index().unwrap(), first);
    assert_eq!(log.term(first - 1).unwrap(), 1 + (first - 1) / 100);
    assert_eq!(all(&log), rest);
    assert!(matches!(log.term(first - 2), Err(raft::Error::Store(raft::StorageError::Compacted))));
}

#[test]
fn a_torn_tail_is_cut_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(options(dir.path())).unwrap();
    append(&mut log, [entry(1, 1, 100)]);
    let start = log.position;
    append(&mut log, [entry(2, 1, 100)]);
    let end = log.position;
    drop(log);
    let path = last_segment(dir.path());
    let whole = std::fs::read(&path).unwrap();
    for cut in start..end - 8 {
        let mut torn = whole.clone();
        torn[cut as usize..].fill(0);
        std::fs::write(&path, &torn).unwrap();
        let mut log = Log::open(options(dir.path())).unwrap();
        assert_eq!(all(&log).len(), 1, "cut at {cut}");
        append(&mut log, [entry(2, 2, 50)]);
        drop(log);
        let log = Log::open(options(dir.path())).unwrap();
        assert_eq!(all(&log), [(1, 1, 100), (2, 2, 50)], "cut at {cut}");
    }
}

#[test]
fn damage_before_the_tail_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(options(dir.path())).unwrap();
    append(&mut log, [entry(1, 1, 100)]);
    let start = log.position;
    append(&mut log, [entry(2, 1, 100)]);
    let end = log.position;
    append(&mut log, [entry(3, 1, 100)]);
    drop(log);
    let path = last_segment(dir.path());
    let whole = std::fs::read(&path).unwrap();
    for at in (start..end - 8).step_by(7) {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[whole[at as usize] ^ 0x40], at).unwrap();
        match Log::open(options(dir.path())) {
            Err(StoreError::Corrupt { file, .. }) => assert_eq!(file, path, "damaged at {at}"),
            other => panic!("damaged at {at}: {:?}", other.map(|log| all(&log))),
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn damage_in_an_earlier_segment_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(options(dir.path())).unwrap();
    for index in 1..=200 {
        append(&mut log, [entry(index, 1, 1000)]);
    }
    assert!(log.segments.len() > 2);
    drop(log);
    let first = dir.path().join(format!("{:016x}.log", 1));
    let file = OpenOptions::new().write(true).open(&first).unwrap();
    file.write_all_at(&[0xff; 4], 60 << 10).unwrap();
    let error = Log::open(options(dir.path())).err().expect("damage is found");
    assert!(matches!(&error, StoreError::Corrupt { file, .. } if *file == first), "{error}");
    std::fs::remove_file(dir.path().join(format!("{:016x}.log", 2))).unwrap();
    let error = Log::open(options(dir.path())).err().expect("a gap is found");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn a_snapshot_starts_the_log_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(options(dir.path())).unwrap();
    append(&mut log, (1..=10).map(|index| entry(index, 1, 10)));
    let conf_state = Some(ConfState { voters: vec![1, 2, 3], ..ConfState::default() });
    let metadata = SnapshotMetadata { index: 50, term: 4, conf_state };
    log.install(metadata, HardState { term: 4, vote: 2, commit: 50 }).unwrap();
    append(&mut log, [entry(51, 4, 10)]);
    drop(log);
    let log = Log::open(options(dir.path())).unwrap();
    assert_eq!((log.begins(), log.last(), log.term(50).unwrap()), (50, 51, 4));
    assert_eq!(log.members().voters, [1, 2, 3]);
    assert_eq!(segment::list(dir.path()).unwrap().len(), 1);
}

#[test]
fn a_full_disk_refuses_before_anything_is_written_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let free_space = {
        let free = free.clone();
        Arc::new(move |_: &Path| Ok(free.load(Ordering::Relaxed)))
    };
    let mut log = Log::open(LogOptions { min_free: 1 << 20, free_space, ..options(dir.path()) }).unwrap();
    append(&mut log, [entry(1, 1, 10)]);
    free.store(1000, Ordering::Relaxed);
    let refused = log.reserve(4 << 20);
    assert!(matches!(refused, Err(StoreError::DiskFull { .. })), "{refused:?}");
    free.store(u64::MAX, Ordering::Relaxed);
    log.reserve(4 << 20).unwrap();
    append(&mut log, [entry(2, 1, 10)]);
    assert_eq!(all(&log).len(), 2);
}
