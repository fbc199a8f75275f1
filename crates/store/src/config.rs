//! How a member of the embedded store is set up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Tells how many bytes are free on the disk that holds a path.
pub type FreeSpace = Arc<dyn Fn(&Path) -> std::io::Result<u64> + Send + Sync>;

/// Identifies a member of the store; never 0.
pub type MemberId = u64;

/// Another member of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: MemberId,
    /// Where its raft transport is served, as the transport understands it.
    pub address: String,
}

/// The settings of one member.
#[derive(Clone)]
pub struct Config {
    /// Where everything is kept; created if it does not exist. One process at a time may use it.
    pub data_dir: PathBuf,
    /// This member.
    pub member: MemberId,
    /// Identifies the cluster: members of another are refused.
    pub cluster: u64,
    /// The other members; none for a store with one member.
    pub peers: Vec<Peer>,
    /// How long the past is kept. Zero keeps everything until [`Store::compact`] is called.
    ///
    /// [`Store::compact`]: crate::Store::compact
    pub history: Duration,
    /// Bytes of pages that sled may cache. Its real use runs above this.
    pub page_cache: u64,
    /// Bytes of recent events that are kept in memory for watchers and reads.
    pub recent_events: usize,
    /// Bytes of recent raft log that are kept in memory for members that lag a little.
    pub recent_log: usize,
    /// The size of a raft log segment file in bytes.
    pub segment_size: u64,
    /// The largest request accepted, in bytes (etcd's default: 1.5 MiB).
    pub max_request: usize,
    /// How many raft entries behind the checkpoint are kept for members that lag; one that lags
    /// more gets a snapshot.
    pub kept_entries: u64,
    /// Raft's unit of time: heartbeats are sent each tick, elections start after ten without.
    pub tick: Duration,
    /// How often the state machine is made durable so that the raft log can be cut.
    pub checkpoint_interval: Duration,
    /// How long a call waits for a leader or for its outcome.
    pub request_timeout: Duration,
    /// Bytes that must stay free on the disk: with fewer, changes are refused, and accepted again
    /// when there is room.
    pub min_free: u64,
    /// How the free space is measured.
    pub free_space: FreeSpace,
}

impl Config {
    /// A store with one member and default settings in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            member: 1,
            cluster: 1,
            peers: Vec::new(),
            history: Duration::from_secs(3600),
            page_cache: 128 << 20,
            recent_events: 16 << 20,
            recent_log: 4 << 20,
            segment_size: 64 << 20,
            max_request: 3 << 19,
            kept_entries: 10_000,
            tick: Duration::from_millis(100),
            checkpoint_interval: Duration::from_secs(1),
            request_timeout: Duration::from_secs(10),
            min_free: 64 << 20,
            free_space: Arc::new(measure_free_space),
        }
    }
}

fn measure_free_space(path: &Path) -> std::io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(path)?;
    Ok(disk.blocks_available() as u64 * disk.fragment_size() as u64)
}
