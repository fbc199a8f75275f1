//! The store in this process: three threads around one state, behind the [`Store`] trait.
//!
//! The driver thread runs raft and owns the log, the apply thread changes the state in memory and
//! answers, the saver thread brings changes into sled. Calls come from any tokio task: a change
//! goes to the driver and is answered by the apply thread; a read of a store with one member
//! needs neither.

use crate::apply::{
    self,
    saver::{Save, Saver},
};
use crate::apply::{Applier, Machine, Outcome, Proposal, Shared, Work};
use crate::command::Command;
use crate::driver::{Driver, Input, Parts};
use crate::engine::Engine;
use crate::inbox::Inbox;
use crate::log::{Log, LogOptions, fresh_salt};
use crate::metrics::Metrics;
use crate::mvcc::{Files, META_KEY, Meta};
use crate::snapshot::{self, SnapshotMaker};
use crate::status::{MemberStatus, Status};
use crate::transport::{Alone, GrpcTransport, Inbound, Transport};
use crate::types::in_range;
use crate::watch;
use crate::{
    Config, LeaseId, LeaseStatus, Operation, RangeRequest, RangeResponse, Reply, Store, StoreError, Txn,
    TxnResponse, WatchRequest, WatchStream,
};
use daemon::Clock;
use parking_lot::{Mutex, RwLock};
use prometheus_client::registry::Registry;
use raft::eraftpb::ConfState;
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// How much may wait for the driver before new changes are refused.
const MOST_WAITING: usize = 64 << 20;
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// The revision of a store in which nothing was ever changed.
const FIRST_REVISION: u64 = 1;

/// The embedded store: one member, in this process.
pub struct Embedded {
    config: Config,
    clock: Arc<dyn Clock>,
    inbox: Arc<Inbox<Input>>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    /// Gone after the store was closed.
    shared: RwLock<Option<Arc<Shared>>>,
    threads: Arc<Mutex<Threads>>,
    failure: Arc<Mutex<Option<StoreError>>>,
}

#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// The lock on the data directory, held until the last thread has ended.
    lock: Option<File>,
}

/// What opening reads from disk.
struct Opened {
    lock: File,
    log: Log,
    engine: Engine,
    meta: Meta,
    shared: Shared,
}

impl Embedded {
    /// Opens or creates the store of a single member, or of several that are connected in
    /// another way than gRPC: see [`Embedded::open_with`].
    ///
    /// When this returns, a single member serves reads and writes; of several, it takes part in
    /// the election.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if another process has the directory, [`StoreError::Corrupt`] naming
    /// a damaged file, [`StoreError::DiskFull`], [`StoreError::Io`].
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        if !config.peers.is_empty() {
            return Err(StoreError::Invalid("several members need a transport"));
        }
        Self::open_with(config, clock, Arc::new(Alone)).await
    }

    /// Opens or creates the store of one of several members, connected by gRPC. The transport's
    /// [service](GrpcTransport::service) has to be served at this member's address.
    ///
    /// # Errors
    ///
    /// As [`Embedded::open`].
    pub async fn open_grpc(
        config: Config,
        clock: Arc<dyn Clock>,
        transport: Arc<GrpcTransport>,
    ) -> Result<Self, StoreError> {
        Self::open_with(config, clock, transport).await
    }

    /// Opens or creates the store of one member over any transport.
    ///
    /// # Errors
    ///
    /// As [`Embedded::open`].
    pub async fn open_with(
        config: Config,
        clock: Arc<dyn Clock>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StoreError> {
        let opened = {
            let (config, clock) = (config.clone(), clock.clone());
            tokio::task::spawn_blocking(move || open_files(&config, clock.as_ref()))
                .await
                .map_err(|error| StoreError::Unavailable(error.to_string()))??
        };
        let is_alone = config.peers.is_empty();
        let store = Self::start(config, clock, transport, opened)?;
        if is_alone {
            store.confirm().await?;
        }
        Ok(store)
    }

    fn start(
        config: Config,
        clock: Arc<dyn Clock>,
        transport: Arc<dyn Transport>,
        opened: Opened,
    ) -> Result<Self, StoreError> {
        let Opened { lock, log, engine, meta, shared } = opened;
        let shared = Arc::new(shared);
        let (status, metrics) = (Arc::new(Status::default()), Arc::new(Metrics::new()));
        status.set_applied(meta.applied);
        let inbox = Arc::new(Inbox::new());
        let apply = Arc::new(Inbox::<Work>::new());
        let save = Arc::new(Inbox::<Save>::new());
        let snapshots = Arc::new(SnapshotMaker::new(save.clone(), log.members().clone()));
        transport.attach(Inbound { member: config.member, cluster: config.cluster, inbox: inbox.clone() });
        let machine = Machine::new(shared.clone(), engine.clone(), clock.clone(), meta.applied);
        let applier = Arc::new(Mutex::new(Applier {
            machine,
            saver: save.clone(),
            status: status.clone(),
            metrics: metrics.clone(),
            reads: BTreeMap::new(),
        }));
        let driver = Driver::new(
            log,
            meta.applied,
            Parts {
                config: config.clone(),
                clock: clock.clone(),
                inbox: inbox.clone(),
                apply: apply.clone(),
                applier: applier.clone(),
                shared: shared.clone(),
                status: status.clone(),
                metrics: metrics.clone(),
                transport,
                snapshots,
            },
        )?;
        let now = clock.monotonic();
        let saver = Saver {
            engine,
            inbox: save.clone(),
            shared: shared.clone(),
            status: status.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            checkpoint_interval: config.checkpoint_interval,
            meta,
            file: config.data_dir.join("state"),
            index_file: index_file(&config.data_dir),
            index_complete: 0,
            pending_index: None,
            last_index: now,
        };
        let store = Self {
            config,
            clock,
            inbox: inbox.clone(),
            status,
            metrics,
            shared: RwLock::new(Some(shared)),
            threads: Arc::new(Mutex::new(Threads { handles: Vec::new(), lock: Some(lock) })),
            failure: Arc::default(),
        };
        let stop = {
            let (apply, save) = (apply.clone(), save);
            move || {
                inbox.close();
                apply.close();
                save.close();
            }
        };
        store.spawn("store-saver", stop.clone(), move || saver.run())?;
        store.spawn("store-apply", stop.clone(), move || apply::run(&applier, &apply))?;
        store.spawn("store-raft", stop, move || driver.run())?;
        Ok(store)
    }

    /// Starts a thread; if it fails, that is the store's failure, and the others stop.
    fn spawn(
        &self,
        name: &'static str,
        stop: impl FnOnce() + Send + 'static,
        run: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let failure = self.failure.clone();
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if let Err(error) = run() {
                    tracing::error!(
                        thread = name,
                        error = &error as &dyn std::error::Error,
                        "the store stops"
                    );
                    failure.lock().get_or_insert(error);
                    stop();
                }
            })
            .map_err(|source| StoreError::io("start a thread for", &self.config.data_dir, source))?;
        self.threads.lock().handles.push(handle);
        Ok(())
    }

    /// Where this member stands.
    pub fn status(&self) -> MemberStatus {
        MemberStatus {
            cluster: self.config.cluster,
            member: self.config.member,
            leader: self.status.leader(),
            term: self.status.term(),
            committed: self.status.committed(),
            applied: self.status.applied(),
            size: self.status.size(),
        }
    }

    /// The raft index just before the first entry that the log still has.
    pub fn log_begins(&self) -> u64 {
        self.status.log_begins()
    }

    /// How many keys exist.
    pub fn live_keys(&self) -> u64 {
        self.shared.read().as_ref().map_or(0, |shared| shared.mvcc.live_keys())
    }

    /// Registers the store's metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    fn shared(&self) -> Result<Arc<Shared>, StoreError> {
        self.shared.read().clone().ok_or_else(|| self.stopped())
    }

    /// Why nothing is accepted any more.
    fn stopped(&self) -> StoreError {
        self.failure.lock().clone().unwrap_or(StoreError::Closed)
    }

    /// Waits until this member has everything that was acknowledged before; gives its revision.
    async fn confirm(&self) -> Result<u64, StoreError> {
        if self.status.is_alone() {
            return Ok(self.shared()?.mvcc.revision());
        }
        let (reply, answer) = oneshot::channel();
        self.inbox.push(Input::Read(reply), 0).map_err(|_| self.stopped())?;
        answer.await.map_err(|_| self.stopped())?
    }

    async fn submit(&self, command: Command) -> Result<Outcome, StoreError> {
        let size = command.size();
        if size > self.config.max_request {
            return Err(StoreError::TooLarge { size, limit: self.config.max_request });
        }
        if self.inbox.weight() > MOST_WAITING {
            return Err(StoreError::Unavailable("too many requests are waiting".to_owned()));
        }
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal { command, size, since: self.clock.monotonic(), reply: Some(reply) };
        self.inbox.push(Input::Propose(proposal), size).map_err(|_| self.stopped())?;
        answer.await.map_err(|_| StoreError::OutcomeUnknown)?
    }

    async fn read(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        check_range(&request)?;
        if request.revision == 0 {
            self.confirm().await?;
        }
        let shared = self.shared()?;
        if let Some(response) = shared.mvcc.range_in_memory(&request) {
            return Ok(response);
        }
        match read_blocking(shared.clone(), request.clone()).await {
            Err(StoreError::FutureRevision { .. }) => {
                // This member may only be behind.
                self.confirm().await?;
                read_blocking(shared, request).await
            }
            result => result,
        }
    }

    fn require_leader(&self) -> Result<(), StoreError> {
        match self.status.leader() {
            leader if leader == self.config.member => Ok(()),
            0 => Err(StoreError::NoLeader),
            leader => Err(StoreError::NotLeader { leader }),
        }
    }

    /// Tells the threads to end; gives what waits for it.
    fn begin_to_close(&self) -> Arc<Mutex<Threads>> {
        // A closed inbox means that the threads are ending already.
        let _ = self.inbox.push(Input::Close, 0);
        self.threads.clone()
    }
}

async fn read_blocking(shared: Arc<Shared>, request: RangeRequest) -> Result<RangeResponse, StoreError> {
    if request.is_single_key() {
        // One or a few lookups: cheaper than another thread.
        return shared.mvcc.range(&request);
    }
    tokio::task::spawn_blocking(move || shared.mvcc.range(&request)).await.map_err(|_| StoreError::Closed)?
}

fn end_threads(threads: &Mutex<Threads>) {
    let mut threads = threads.lock();
    for handle in threads.handles.drain(..) {
        // A panic was reported where it happened.
        let _ = handle.join();
    }
    threads.lock = None;
}

impl Drop for Embedded {
    fn drop(&mut self) {
        end_threads(&self.begin_to_close());
    }
}

impl Store for Embedded {
    fn range(&self, request: RangeRequest) -> Reply<'_, RangeResponse> {
        Box::pin(self.read(request))
    }

    fn txn(&self, txn: Txn) -> Reply<'_, TxnResponse> {
        Box::pin(async move {
            check_txn(&txn)?;
            match self.submit(Command::Txn(txn)).await? {
                Outcome::Txn(response) => Ok(response),
                Outcome::Done => Err(StoreError::OutcomeUnknown),
            }
        })
    }

    fn watch(&self, request: WatchRequest) -> Reply<'_, WatchStream> {
        Box::pin(async move {
            let next = match request.from_revision {
                0 => self.confirm().await? + 1,
                from => from,
            };
            Ok(watch::watch(&self.shared()?, request, next))
        })
    }

    fn read_revision(&self) -> Reply<'_, u64> {
        Box::pin(self.confirm())
    }

    fn compact(&self, revision: u64) -> Reply<'_, ()> {
        Box::pin(async move { self.submit(Command::Compact { revision }).await.map(|_| ()) })
    }

    fn compacted_revision(&self) -> u64 {
        self.shared.read().as_ref().map_or(0, |shared| shared.mvcc.compacted())
    }

    fn lease_grant(&self, ttl: Duration) -> Reply<'_, LeaseStatus> {
        Box::pin(async move {
            let seconds = ttl.as_secs();
            if seconds == 0 {
                return Err(StoreError::Invalid("a lease lives for a second at least"));
            }
            // etcd's ids are signed and positive.
            let id = (fresh_salt() >> 1).max(1);
            self.submit(Command::LeaseGrant { id, seconds }).await?;
            let granted = Duration::from_secs(seconds);
            Ok(LeaseStatus { id, granted, remaining: granted, keys: Vec::new() })
        })
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> Reply<'_, LeaseStatus> {
        Box::pin(async move {
            self.require_leader()?;
            let now = self.clock.monotonic();
            self.shared()?.leases.lock().renew(lease, now)
        })
    }

    fn lease_revoke(&self, lease: LeaseId) -> Reply<'_, ()> {
        Box::pin(async move { self.submit(Command::LeaseRevoke { id: lease }).await.map(|_| ()) })
    }

    fn lease_time_to_live(&self, lease: LeaseId) -> Reply<'_, LeaseStatus> {
        Box::pin(async move {
            self.confirm().await?;
            self.require_leader()?;
            let now = self.clock.monotonic();
            self.shared()?.leases.lock().status(lease, now)
        })
    }

    fn close(&self) -> Reply<'_, ()> {
        Box::pin(async move {
            let threads = self.begin_to_close();
            tokio::task::spawn_blocking(move || end_threads(&threads))
                .await
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            *self.shared.write() = None;
            match self.failure.lock().clone() {
                Some(failure) => Err(failure),
                None => Ok(()),
            }
        })
    }
}

fn check_range(request: &RangeRequest) -> Result<(), StoreError> {
    if request.start.is_empty() && request.is_single_key() {
        return Err(StoreError::Invalid("the key is empty"));
    }
    Ok(())
}

/// The rules that do not depend on the state.
fn check_txn(txn: &Txn) -> Result<(), StoreError> {
    for operations in [&txn.success, &txn.failure] {
        let mut puts = Vec::new();
        for operation in operations {
            match operation {
                Operation::Put { key, .. } if key.is_empty() => {
                    return Err(StoreError::Invalid("the key is empty"));
                }
                Operation::Put { key, .. } => puts.push(key),
                Operation::Delete { .. } | Operation::Range(_) => {}
            }
        }
        puts.sort_unstable();
        let is_twice = puts.windows(2).any(|pair| pair[0] == pair[1]);
        let is_deleted = operations.iter().any(|operation| match operation {
            Operation::Delete { start, end } => puts.iter().any(|key| in_range(key, start, end)),
            _ => false,
        });
        if is_twice || is_deleted {
            return Err(StoreError::DuplicateKey);
        }
    }
    Ok(())
}

fn open_files(config: &Config, clock: &dyn Clock) -> Result<Opened, StoreError> {
    if config.member == 0 || config.peers.iter().any(|peer| peer.id == config.member) {
        return Err(StoreError::Invalid("the member's id is 0 or that of a peer"));
    }
    let dir = &config.data_dir;
    std::fs::create_dir_all(dir)
        .map_err(|source| StoreError::io("create the data directory", dir, source))?;
    let lock = lock_dir(dir)?;
    let mut voters: Vec<u64> = config.peers.iter().map(|peer| peer.id).collect();
    voters.push(config.member);
    voters.sort_unstable();
    let members = ConfState { voters, ..ConfState::default() };
    let log = Log::open(LogOptions {
        dir: dir.join("raft"),
        members: members.clone(),
        segment_size: config.segment_size,
        cache: config.recent_log,
        min_free: config.min_free,
        free_space: config.free_space.clone(),
    })?;
    if log.members().voters != members.voters {
        return Err(StoreError::Invalid("the members differ from those that the store was made with"));
    }
    let state = dir.join("state");
    let engine = Engine::open(&state, config.page_cache)?;
    let meta = open_state(dir, &log, &engine)?;
    let now = clock.monotonic();
    let files = Files { engine: state, index: index_file(dir) };
    let shared = Shared::load(&engine, meta, config.recent_events, files, now)?;
    Ok(Opened { lock, log, engine, meta, shared })
}

/// Where the state stands; finishes the restore of a snapshot that a crash interrupted.
fn open_state(dir: &Path, log: &Log, engine: &Engine) -> Result<Meta, StoreError> {
    let state = dir.join("state");
    let mut meta = match engine.get(META_KEY)? {
        Some(data) => Meta::decode(data)
            .ok_or_else(|| StoreError::corrupt(&state, "the position of the state is unreadable"))?,
        None => Meta { revision: FIRST_REVISION, ..Meta::default() },
    };
    let begins = log.begins();
    if meta.applied < begins {
        let file = snapshot::file(dir, begins);
        if !file.exists() {
            let what = format!("the state ends at {}, the log begins at {begins}", meta.applied);
            return Err(StoreError::corrupt(&state, what));
        }
        meta = snapshot::restore(engine, &file)?;
    }
    if meta.applied > log.last() {
        let what = format!("the log ends at {}, the state at {}", log.last(), meta.applied);
        return Err(StoreError::corrupt(dir.join("raft"), what));
    }
    snapshot::remove_unneeded(dir)?;
    Ok(meta)
}

fn index_file(dir: &Path) -> PathBuf {
    dir.join("index")
}

fn lock_dir(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let failed = |source| StoreError::io("lock", &path, source);
    let file = File::create(&path).map_err(failed)?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // A killed process may hold it until the kernel has cleaned up behind it.
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
    Err(StoreError::InUse { path: dir.to_owned() })
}
