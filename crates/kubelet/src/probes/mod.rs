//! Probes: one task per running container with probes, whose results are a value
//! ([`Prober::results`]) that the pod's worker reads.
//!
//! A container without a readiness probe is ready as soon as it runs and its
//! startup probe, if any, has passed. Thresholds and timing are pure
//! ([`Count`]).

pub mod check;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::{Container, Pod, Probe};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::pod::{self, Role};
use crate::runtime::Runtime;
use crate::runtime::record::Observed;
use crate::worker::plan::ProbeResults;
use check::{Target, Verdict};

/// The kinds of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

/// Counts results until a threshold is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    successes: i32,
    failures: i32,
}

impl Count {
    /// Takes a result; `Some` once as many in a row agree as the probe asks for.
    pub fn take(&mut self, is_success: bool, probe: &Probe) -> Option<bool> {
        if is_success {
            self.successes += 1;
            self.failures = 0;
            (self.successes >= probe.success_threshold.unwrap_or(1).max(1)).then_some(true)
        } else {
            self.failures += 1;
            self.successes = 0;
            (self.failures >= probe.failure_threshold.unwrap_or(3).max(1)).then_some(false)
        }
    }
}

/// The probes of one pod.
pub struct Prober {
    runtime: Runtime,
    results: Arc<Mutex<ProbeResults>>,
    changed: Arc<tokio::sync::Notify>,
    tasks: HashMap<String, Vec<JoinHandle<()>>>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        for task in self.tasks.values().flatten() {
            task.abort();
        }
    }
}

impl Prober {
    /// No probes yet; `changed` is told when a result changes.
    #[must_use]
    pub fn new(runtime: Runtime, changed: Arc<tokio::sync::Notify>) -> Self {
        Self { runtime, results: Arc::default(), changed, tasks: HashMap::new() }
    }

    /// The results now.
    #[must_use]
    pub fn results(&self) -> ProbeResults {
        self.results.lock().clone()
    }

    /// Starts the probes of containers that run, ends those of others. A
    /// container whose start hook has not returned is not probed yet.
    pub fn follow(
        &mut self,
        pod: &Pod,
        observed: &Observed,
        starting: &HashSet<String>,
        addresses: &[IpAddr],
        tell: &Arc<dyn Fn(&str, String) + Send + Sync>,
    ) {
        let running: HashSet<String> =
            observed.running().map(|record| record.id.clone()).filter(|id| !starting.contains(id)).collect();
        self.tasks.retain(|id, tasks| {
            let stays = running.contains(id);
            if !stays {
                tasks.iter().for_each(JoinHandle::abort);
            }
            stays
        });
        {
            let mut results = self.results.lock();
            results.started.retain(|id| running.contains(id));
            results.ready.retain(|id| running.contains(id));
            results.failed.retain(|id, _| running.contains(id));
        }
        for record in observed.running().filter(|record| running.contains(&record.id)) {
            if self.tasks.contains_key(&record.id) {
                continue;
            }
            let Some((role, container)) = pod::container(pod, &record.name) else { continue };
            let subject = Subject {
                id: record.id.clone(),
                container: container.into_owned(),
                host: addresses.first().copied(),
                since: record.created_at,
                runtime: self.runtime.clone(),
                results: Arc::clone(&self.results),
                changed: Arc::clone(&self.changed),
                tell: Arc::clone(tell),
            };
            self.tasks.insert(record.id.clone(), subject.start(role));
        }
    }
}

#[derive(Clone)]
struct Subject {
    id: String,
    container: Container,
    host: Option<IpAddr>,
    since: Timestamp,
    runtime: Runtime,
    results: Arc<Mutex<ProbeResults>>,
    changed: Arc<tokio::sync::Notify>,
    tell: Arc<dyn Fn(&str, String) + Send + Sync>,
}

impl Subject {
    fn start(self, role: Role) -> Vec<JoinHandle<()>> {
        if matches!(role, Role::Init | Role::Ephemeral) {
            return Vec::new();
        }
        if self.container.startup_probe.is_none() {
            self.results.lock().started.insert(self.id.clone());
        }
        if self.container.readiness_probe.is_none() {
            self.results.lock().ready.insert(self.id.clone());
        }
        let probes = [
            (Kind::Startup, self.container.startup_probe.clone()),
            (Kind::Liveness, self.container.liveness_probe.clone()),
            (Kind::Readiness, self.container.readiness_probe.clone()),
        ];
        let mut tasks = Vec::new();
        for (kind, probe) in probes {
            if let Some(probe) = probe {
                tasks.push(daemon::tasks::spawn("probe", self.clone().run(kind, probe)));
            }
        }
        tasks
    }

    async fn run(self, kind: Kind, probe: Probe) {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(
                value
                    .and_then(|value| u64::try_from(value).ok())
                    .filter(|value| *value > 0)
                    .unwrap_or(default),
            )
        };
        let delay = u64::try_from(probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
        let age = crate::time::elapsed(self.since, crate::time::now());
        tokio::time::sleep(Duration::from_secs(delay).saturating_sub(age)).await;
        let mut ticks = tokio::time::interval(seconds(probe.period_seconds, 10));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let target = Target { container: &self.id, specification: &self.container, host: self.host };
        let mut count = Count::default();
        loop {
            ticks.tick().await;
            // The others wait for the startup probe.
            if kind != Kind::Startup && !self.results.lock().started.contains(&self.id) {
                continue;
            }
            let limit = seconds(probe.timeout_seconds, 1);
            let verdict = check::check(&self.runtime, &probe, &target, limit).await;
            if let Verdict::Failure(why) = &verdict {
                let mut name = kind.word().to_owned();
                name[..1].make_ascii_uppercase();
                (self.tell)(&self.container.name, format!("{name} probe failed: {why}"));
            }
            let decided = count.take(matches!(verdict, Verdict::Success), &probe);
            if let Some(result) = decided
                && self.settle(kind, result)
            {
                return;
            }
        }
    }

    /// Notes a result; whether this probe has nothing more to find out.
    fn settle(&self, kind: Kind, result: bool) -> bool {
        let mut results = self.results.lock();
        let before = results.clone();
        match (kind, result) {
            (Kind::Startup, true) => {
                results.started.insert(self.id.clone());
            }
            (Kind::Readiness, true) => {
                results.ready.insert(self.id.clone());
            }
            (Kind::Readiness, false) => {
                results.ready.remove(&self.id);
            }
            (Kind::Liveness, true) => {}
            (Kind::Startup | Kind::Liveness, false) => {
                let why = format!(
                    "Container {} failed {} probe, will be restarted",
                    self.container.name,
                    kind.word()
                );
                results.failed.insert(self.id.clone(), why);
            }
        }
        if *results != before {
            self.changed.notify_one();
        }
        (kind == Kind::Startup) || (kind == Kind::Liveness && !result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut count = Count::default();
        let taken: Vec<Option<bool>> = [true, true, false, false, true, false, false, false]
            .into_iter()
            .map(|result| count.take(result, &probe))
            .collect();
        assert_eq!(taken, [None, Some(true), None, None, None, None, None, Some(false)]);
    }
}
