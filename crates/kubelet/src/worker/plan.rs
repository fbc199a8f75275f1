//! What to do about a pod's containers, as a value: pure, upstream's
//! `computePodActions` in behaviour.
//!
//! Init containers run one after the other; a sidecar among them counts as done
//! once it has started; the others start together after that. A container that
//! ended is started again if its restart policy says so and its back-off is
//! over. The back-off of a container is a label on its predecessor, so that a
//! restarted kubelet counts on.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use api::types::core::v1::{Container, Pod};
use jiff::Timestamp;

use crate::pod::{self, Role};
use crate::runtime::record::{Observed, Record, State};
use crate::time::elapsed;

/// First back-off of a container that keeps ending.
pub const BACKOFF_FIRST: u32 = 10;
/// Longest back-off.
pub const BACKOFF_LONGEST: u32 = 300;
/// A container that ran longer than this starts over with the back-off.
const BACKOFF_FORGIVEN: Duration = Duration::from_secs(600);

/// What the probes found, by container id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeResults {
    /// Startup probe passed, or there is none.
    pub started: HashSet<String>,
    /// Readiness probe passes.
    pub ready: HashSet<String>,
    /// Liveness or startup probe failed for good; with the reason.
    pub failed: HashMap<String, String>,
}

/// Start a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Name in the pod.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// How many of the name there were before.
    pub attempt: u32,
    /// The back-off that follows if this one ends.
    pub backoff_seconds: u32,
}

/// Stop a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The container's id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// Reason, for the event.
    pub message: String,
    /// The probe's own grace period, in seconds, if it has one.
    pub grace_override: Option<i64>,
}

/// What to do now, in this order: kill, sandbox, start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Containers to stop.
    pub kill: Vec<Kill>,
    /// Make a sandbox (attempt number) after everything of the old one is down.
    pub create_sandbox: Option<u32>,
    /// Containers to start.
    pub start: Vec<Start>,
    /// Containers that wait for their back-off, with the time left.
    pub backing_off: HashMap<String, Duration>,
    /// Ids of ended containers that nothing refers to any more.
    pub prune: Vec<String>,
    /// Ids of sandboxes beside the one in use.
    pub prune_sandboxes: Vec<String>,
}

impl Plan {
    /// When to look again without an event.
    #[must_use]
    pub fn wake_after(&self) -> Option<Duration> {
        self.backing_off.values().min().copied()
    }
}

/// Back-off that follows the end of `record`, from its label; nothing if it ran
/// long enough.
fn backoff_after(record: &Record) -> u32 {
    match record.exit() {
        Some(exit) if elapsed(record.created_at, exit.finished_at) <= BACKOFF_FORGIVEN => {
            record.backoff_seconds
        }
        _ => 0,
    }
}

/// The back-off to label the successor of `previous` with.
fn next_backoff(previous: Option<&Record>) -> u32 {
    match previous {
        None => 0,
        Some(previous) => match backoff_after(previous) {
            0 => BACKOFF_FIRST,
            seconds => (seconds * 2).min(BACKOFF_LONGEST),
        },
    }
}

/// Decides what to do about the pod's containers.
#[must_use]
pub fn plan(pod: &Pod, observed: &Observed, probes: &ProbeResults, now: Timestamp) -> Plan {
    let mut plan = Plan { prune: prune(observed), ..Plan::default() };
    let Some(sandbox) = observed.sandbox() else {
        return without_sandbox(pod, observed, plan);
    };
    let others = observed.sandboxes.iter().filter(|other| other.id != sandbox.id);
    plan.prune_sandboxes = others.map(|other| other.id.clone()).collect();
    let view = View { pod, observed, probes, sandbox: &sandbox.id, now };
    for container in pod::ephemeral_containers(pod) {
        match observed.latest(&container.name) {
            None => plan.start.push(start(Role::Ephemeral, &container, None)),
            Some(record) if record.state == State::Created => plan.start.push(again(record)),
            Some(_) => {}
        }
    }
    let initialized = view.plan_init(&mut plan);
    for container in &pod::spec(pod).containers {
        if !initialized {
            break;
        }
        view.plan_container(Role::Main, container, &mut plan);
    }
    plan
}

/// No usable sandbox: stop what still runs, and make one if anything is to run.
fn without_sandbox(pod: &Pod, observed: &Observed, mut plan: Plan) -> Plan {
    plan.kill = observed
        .running()
        .map(|record| kill(record, "Pod sandbox changed, it will be killed and re-created.", None))
        .collect();
    let attempt = observed.sandboxes.first().map_or(0, |sandbox| sandbox.attempt + 1);
    let wants_one = pod::spec(pod).containers.iter().any(|container| {
        observed
            .latest(&container.name)
            .and_then(Record::exit)
            .is_none_or(|exit| pod::should_restart(pod, Role::Main, container, exit.code))
    });
    if wants_one {
        plan.create_sandbox = Some(attempt);
    }
    plan
}

fn kill(record: &Record, message: &str, grace_override: Option<i64>) -> Kill {
    Kill { id: record.id.clone(), name: record.name.clone(), message: message.to_owned(), grace_override }
}

/// The newest and the one before stay, for status and `logs --previous`. One
/// that was made but never started, because a kubelet died between the two
/// calls, is of no use.
fn prune(observed: &Observed) -> Vec<String> {
    let mut seen: HashMap<&str, u32> = HashMap::new();
    let mut prune = Vec::new();
    for record in &observed.containers {
        if record.state == State::Created {
            prune.push(record.id.clone());
            continue;
        }
        let count = seen.entry(record.name.as_str()).or_default();
        *count += 1;
        if *count > 2 && !record.is_running() {
            prune.push(record.id.clone());
        }
    }
    prune
}

struct View<'a> {
    pod: &'a Pod,
    observed: &'a Observed,
    probes: &'a ProbeResults,
    sandbox: &'a str,
    now: Timestamp,
}

impl View<'_> {
    /// Plans the init containers; whether the main containers may run.
    fn plan_init(&self, plan: &mut Plan) -> bool {
        let containers = pod::init_containers(self.pod);
        // Once a main container of this sandbox exists, initialization is over:
        // finished init containers may have been pruned meanwhile.
        let main_began = pod::spec(self.pod).containers.iter().any(|container| {
            self.observed.latest(&container.name).is_some_and(|record| record.sandbox_id == self.sandbox)
        });
        for container in containers {
            let role = pod::init_role(container);
            if main_began {
                if role == Role::Sidecar {
                    self.plan_container(role, container, plan);
                }
                continue;
            }
            let latest = self.in_sandbox(container);
            match (role, latest.map(|record| (record, &record.state))) {
                (Role::Sidecar, Some((record, State::Running { .. }))) => {
                    self.plan_container(role, container, plan);
                    if !self.probes.started.contains(&record.id) {
                        return false;
                    }
                }
                (Role::Init, Some((_, State::Exited(exit)))) if exit.code == 0 => {}
                _ => {
                    self.plan_container(role, container, plan);
                    return false;
                }
            }
        }
        true
    }

    fn in_sandbox(&self, container: &Container) -> Option<&Record> {
        self.observed.latest(&container.name).filter(|record| record.sandbox_id == self.sandbox)
    }

    /// One container: start it, kill it, let it be, or wait.
    fn plan_container(&self, role: Role, container: &Container, plan: &mut Plan) {
        let latest = self.observed.latest(&container.name);
        let Some(record) = latest else {
            plan.start.push(start(role, container, None));
            return;
        };
        match &record.state {
            State::Running { .. } => self.plan_running(role, container, record, plan),
            State::Created => plan.start.push(again(record)),
            State::Exited(exit) => {
                let same_sandbox = record.sandbox_id == self.sandbox;
                let again = pod::should_restart(self.pod, role, container, exit.code);
                // A new sandbox runs init containers again, whatever they said.
                if !again && (same_sandbox || role == Role::Main) {
                    return;
                }
                let wait = Duration::from_secs(u64::from(backoff_after(record)));
                let waited = elapsed(exit.finished_at, self.now);
                if same_sandbox && waited < wait {
                    plan.backing_off.insert(container.name.clone(), wait.saturating_sub(waited));
                } else {
                    plan.start.push(start(role, container, Some(record)));
                }
            }
        }
    }

    fn plan_running(&self, role: Role, container: &Container, record: &Record, plan: &mut Plan) {
        if role != Role::Init && record.hash != pod::container_hash(container) {
            plan.kill.push(kill(
                record,
                &format!("Container {} definition changed, will be restarted", container.name),
                None,
            ));
        } else if let Some(why) = self.probes.failed.get(&record.id) {
            let probe = if self.probes.started.contains(&record.id) {
                container.liveness_probe.as_ref()
            } else {
                container.startup_probe.as_ref()
            };
            let grace = probe.and_then(|probe| probe.termination_grace_period_seconds);
            plan.kill.push(kill(record, why, grace));
        }
    }
}

/// Start anew what was made but never started, as if for the first time.
fn again(record: &Record) -> Start {
    Start {
        name: record.name.clone(),
        role: record.role,
        attempt: record.attempt,
        backoff_seconds: record.backoff_seconds,
    }
}

fn start(role: Role, container: &Container, previous: Option<&Record>) -> Start {
    Start {
        name: container.name.clone(),
        role,
        attempt: previous.map_or(0, |record| record.attempt + 1),
        backoff_seconds: next_backoff(previous),
    }
}
