//! Runs loops until told to stop.
//!
//! A key's run is: look and plan (on a worker), carry the plan out (same
//! worker), then, off the workers, wait until the caches show what was written.
//! Only then may the key run again, so that no plan is made from a past that the
//! loop itself has changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use client::{Client, Recorder};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::execute::{Executed, Executor, Outcome};
use crate::metrics::{LoopMetrics, Metrics};
use crate::wiring::{Followed, Loop, ResourceName};
use crate::{Failure, Moment, Plan};

/// How long a key waits for caches that do not show its writes, before that is
/// reported; it goes on waiting, as a plan from the past would do harm.
const CACHE_PATIENCE: Duration = Duration::from_secs(30);

/// What all loops of a process share.
#[derive(Clone)]
pub struct Runtime {
    executor: Executor,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    metrics: Metrics,
}

impl Runtime {
    /// A runtime that acts through `client` and tells people through `recorder`.
    pub fn new(
        client: Client,
        recorder: Recorder,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        metrics: Metrics,
    ) -> Self {
        Self { executor: Executor { client, recorder }, now: Arc::new(now), metrics }
    }

    /// Runs loops until `stop` ends, then lets plans under way come to an end.
    pub async fn run(&self, loops: Vec<Loop>, stop: impl Future<Output = ()>) {
        let (stopping, _) = tokio::sync::watch::channel(false);
        let mut running = JoinSet::new();
        for one in loops {
            let mut stopped = stopping.subscribe();
            let active = Active::new(self.clone(), one);
            running.spawn(async move {
                let stopped = async move {
                    // A sender that is gone has stopped as well.
                    let _ = stopped.wait_for(|stop| *stop).await;
                };
                active.run(stopped).await;
            });
        }
        stop.await;
        stopping.send_replace(true);
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a control loop ended badly");
            }
        }
    }
}

/// A loop that runs.
struct Active {
    runtime: Runtime,
    control: Loop,
    metrics: LoopMetrics,
    failures: Mutex<HashMap<ObjectKey, Failure>>,
    started: Instant,
}

impl Active {
    fn new(runtime: Runtime, control: Loop) -> Arc<Self> {
        let metrics = runtime.metrics.of(control.name);
        Arc::new(Self { runtime, control, metrics, failures: Mutex::default(), started: Instant::now() })
    }

    async fn run(self: Arc<Self>, stopped: impl Future<Output = ()>) {
        let mut stopped = std::pin::pin!(stopped);
        for cache in self.control.caches.values() {
            tokio::select! {
                () = &mut stopped => return,
                () = cache.reached(1) => {}
            }
        }
        tracing::info!(controller = self.control.name, "caches are filled");
        let workers = Arc::new(Semaphore::new(self.control.workers));
        let mut runs = JoinSet::new();
        loop {
            let permit = tokio::select! {
                () = &mut stopped => break,
                permit = Arc::clone(&workers).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            let key = tokio::select! {
                () = &mut stopped => break,
                key = self.next_key() => key,
            };
            while runs.try_join_next().is_some() {}
            let this = Arc::clone(&self);
            runs.spawn(async move {
                let executed = this.run_key(&key).await;
                drop(permit);
                if !executed.written.is_empty() {
                    this.see(&key, &executed.written).await;
                }
                this.conclude(&key, executed.outcome);
            });
        }
        // Plans end; waits for caches need not.
        let all = u32::try_from(self.control.workers).unwrap_or(u32::MAX);
        let drained = tokio::time::timeout(Duration::from_secs(5), workers.acquire_many(all)).await;
        if drained.is_err() {
            tracing::warn!(controller = self.control.name, "plans under way did not end in time");
        }
        runs.shutdown().await;
    }

    async fn next_key(&self) -> ObjectKey {
        loop {
            let (key, next) = {
                let mut queue = self.control.shared.queue.lock();
                let key = queue.pop(self.started.elapsed());
                self.metrics.depth.set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
                (key, queue.next_wake())
            };
            if let Some(key) = key {
                return key;
            }
            let news = self.control.shared.news.notified();
            match next {
                Some(at) => {
                    tokio::select! {
                        () = news => {}
                        () = tokio::time::sleep_until(self.started + at) => {}
                    }
                }
                None => news.await,
            }
        }
    }

    async fn run_key(&self, key: &ObjectKey) -> Executed {
        let began = Instant::now();
        let failure = self.failures.lock().get(key).cloned();
        let plan = self.decide(key, failure);
        self.metrics.runs.inc();
        // The newest plan says when to look again; older wishes are void.
        {
            let mut queue = self.control.shared.queue.lock();
            match plan.wake_after {
                Some(after) => queue.wake_at(key.clone(), self.started.elapsed() + after),
                None => queue.forget_wake(key),
            }
        }
        if !plan.actions.is_empty() {
            tracing::debug!(controller = self.control.name, %key, actions = plan.actions.len(), "carrying out a plan");
        }
        let executed = self.runtime.executor.carry_out(&plan.actions).await;
        self.metrics.duration.observe(began.elapsed().as_secs_f64());
        executed
    }

    fn decide(&self, key: &ObjectKey, failure: Option<Failure>) -> Plan {
        let moment = Moment { now: (self.runtime.now)(), failure };
        self.control.decide.decide(key, &moment).unwrap_or_default()
    }

    /// Waits until the caches show what was written.
    async fn see(&self, key: &ObjectKey, written: &[(ResourceName, u64)]) {
        for (cache, revision) in newest(&self.control.caches, written) {
            while tokio::time::timeout(CACHE_PATIENCE, cache.reached(revision)).await.is_err() {
                tracing::warn!(
                    controller = self.control.name, %key, revision, shown = cache.revision(),
                    "the cache does not show what was written"
                );
            }
        }
    }

    fn conclude(&self, key: &ObjectKey, outcome: Outcome) {
        let mut queue = self.control.shared.queue.lock();
        let mut retry = |failure: Option<Failure>| {
            let delay = queue.backoff(key);
            self.metrics.retries.inc();
            queue.wake_at(key.clone(), self.started.elapsed() + delay);
            if let Some(failure) = failure {
                self.failures.lock().insert(key.clone(), failure);
            }
            delay
        };
        match outcome {
            Outcome::Done => {
                queue.forget_failures(key);
                self.failures.lock().remove(key);
            }
            Outcome::Again(why) => {
                let delay = retry(None);
                tracing::debug!(controller = self.control.name, %key, why, retry_in = ?delay, "planning again");
            }
            Outcome::Failed(failure) => {
                self.metrics.errors.inc();
                let message = failure.message.clone();
                let verb = failure.verb;
                let delay = retry(Some(failure));
                tracing::warn!(
                    controller = self.control.name, %key, verb, error = message, retry_in = ?delay, "a plan failed"
                );
            }
        }
        queue.done(key);
        drop(queue);
        self.control.shared.news.notify_one();
    }
}

/// The caches that have writes to show, each with the newest revision.
fn newest<'a>(
    caches: &'a HashMap<ResourceName, Arc<dyn Followed>>,
    written: &[(ResourceName, u64)],
) -> Vec<(&'a Arc<dyn Followed>, u64)> {
    let mut revisions: HashMap<&ResourceName, u64> = HashMap::new();
    for (name, revision) in written {
        let newest = revisions.entry(name).or_default();
        *newest = (*newest).max(*revision);
    }
    revisions.into_iter().filter_map(|(name, revision)| Some((caches.get(name)?, revision))).collect()
}
