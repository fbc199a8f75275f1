//! A pod's worker: observe, decide ([`super::stage`]), act, report; then wait
//! for the next change. One task per pod uid. How containers are started and
//! stopped is in [`super::start`] and [`super::stop`].

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::{Pod, PodStatus};
use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::plan::{Plan, ProbeResults};
use super::stage::{Action, Inputs, Stage, Verdict, advance};
use crate::cluster::{Cluster, ClusterError, Happening};
use crate::images::Images;
use crate::pod::{self, PodId, Role};
use crate::probes::Prober;
use crate::runtime::Runtime;
use crate::runtime::record::{Observed, State};
use crate::status::writer::Writer;
use crate::status::{self, Waiting, pod_status};
use crate::volumes::Volumes;

/// How often a worker looks without being told, to renew what volumes hold.
pub(super) const REFRESH: Duration = Duration::from_secs(60);
/// First pause after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// Longest pause after failures.
pub(super) const RETRY_LONGEST: Duration = Duration::from_secs(20);

/// What workers work with.
pub struct Tools {
    /// Containers.
    pub runtime: Runtime,
    /// Images.
    pub images: Images,
    /// Volumes.
    pub volumes: Volumes,
    /// The API server.
    pub cluster: Arc<dyn Cluster>,
    /// Statuses on their way to it.
    pub writer: Writer,
    /// The node's addresses.
    pub addresses: Vec<IpAddr>,
}

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The pod as last seen.
    pub pod: Arc<Pod>,
    /// It is gone from its source.
    pub is_gone: bool,
    /// The kubelet wants it down.
    pub eviction: Option<Verdict>,
}

/// What others may know of a pod.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The runtime's records, as last observed.
    pub observed: Observed,
    /// The status, as last computed.
    pub status: PodStatus,
}

/// A worker's task, until it retires.
pub struct Worker {
    pub(super) tools: Arc<Tools>,
    pub(super) id: PodId,
    pub(super) desired: watch::Receiver<Desired>,
    nudge: Arc<Notify>,
    pub(super) shown: watch::Sender<Shown>,
    stage: Stage,
    pub(super) prober: Prober,
    /// Why containers wait, by name.
    pub(super) waiting: HashMap<String, Waiting>,
    /// Paths of the volumes; nothing until they were prepared.
    pub(super) volumes: Option<HashMap<String, PathBuf>>,
    is_torn_down: bool,
    /// Containers whose start hook runs.
    pub(super) starting: HashSet<String>,
    /// Containers whose stop hook was run.
    pub(super) stopped: Arc<Mutex<HashSet<String>>>,
    retry: Duration,
}

/// Something went wrong; it is tried again.
#[derive(Debug)]
pub(super) struct Trouble(pub(super) String);

impl<E: std::error::Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self(crate::images::chain(&error))
    }
}

/// What to do after the actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again at once.
    Again,
    /// Wait, at most this long.
    Wait(Duration),
    /// End.
    Retire,
}

impl Worker {
    /// A worker that has not begun.
    #[must_use]
    pub fn new(
        tools: Arc<Tools>,
        desired: watch::Receiver<Desired>,
        nudge: Arc<Notify>,
        shown: watch::Sender<Shown>,
    ) -> Self {
        let id = pod::id(&desired.borrow().pod);
        let prober = Prober::new(tools.runtime.clone(), Arc::clone(&nudge));
        Self {
            tools,
            id,
            desired,
            nudge,
            shown,
            stage: Stage::Syncing,
            prober,
            waiting: HashMap::new(),
            volumes: None,
            is_torn_down: false,
            starting: HashSet::new(),
            stopped: Arc::default(),
            retry: RETRY_FIRST,
        }
    }

    /// Works until the pod is gone.
    pub async fn run(mut self) {
        loop {
            let next = match self.step().boxed().await {
                Ok(next) => {
                    self.retry = RETRY_FIRST;
                    next
                }
                Err(Trouble(why)) => {
                    tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, uid = %self.id.uid, error = %why, "pod step failed");
                    let pause = self.retry;
                    self.retry = (self.retry * 2).min(RETRY_LONGEST);
                    Next::Wait(pause)
                }
            };
            match next {
                Next::Again => {}
                Next::Retire => break,
                Next::Wait(longest) => {
                    let writer = self.tools.writer.clone();
                    let is_terminated = matches!(self.stage, Stage::Terminated(_));
                    tokio::select! {
                        changed = self.desired.changed() => if changed.is_err() { return },
                        () = self.nudge.notified() => {}
                        () = writer.next_write(), if is_terminated => {}
                        () = tokio::time::sleep(longest) => {}
                    }
                }
            }
        }
        self.tools.writer.forget(&self.id);
        self.tools.images.forget(&self.id.uid);
        tracing::info!(namespace = %self.id.namespace, name = %self.id.name, uid = %self.id.uid, "pod is gone");
    }

    /// One round: observe, decide, report, act.
    async fn step(&mut self) -> Result<Next, Trouble> {
        let desired = self.desired.borrow_and_update().clone();
        let pod = Arc::clone(&desired.pod);
        let observed = self.tools.runtime.observe(&self.id.uid).await?;
        self.follow_probes(&pod, &observed);
        let probes = self.prober.results();
        let (stage, actions) = {
            let inputs = Inputs {
                pod: &pod,
                is_gone: desired.is_gone,
                eviction: desired.eviction.as_ref(),
                observed: &observed,
                probes: &probes,
                is_prepared: self.volumes.is_some(),
                is_torn_down: self.is_torn_down,
                is_status_final: self.tools.writer.is_written(&self.id),
            };
            advance(self.stage.clone(), &inputs, crate::time::now())
        };
        if stage != self.stage {
            tracing::info!(namespace = %self.id.namespace, name = %self.id.name, uid = %self.id.uid, stage = ?stage, "pod stage");
        }
        self.stage = stage;
        for action in &actions {
            if let Action::Run(plan) = action {
                self.note_back_off(&pod, plan, &observed);
            }
        }
        self.report(&pod, &observed, &probes);
        let mut next = Next::Wait(REFRESH);
        for action in actions {
            match self.act(&pod, &observed, action).boxed().await? {
                Next::Retire => return Ok(Next::Retire),
                Next::Again => next = Next::Again,
                Next::Wait(time) => {
                    if let Next::Wait(longest) = next {
                        next = Next::Wait(longest.min(time));
                    }
                }
            }
        }
        Ok(next)
    }

    fn follow_probes(&mut self, pod: &Arc<Pod>, observed: &Observed) {
        let addresses = self.addresses(pod, observed);
        let tell: Arc<dyn Fn(&str, String) + Send + Sync> = {
            let (cluster, pod) = (Arc::clone(&self.tools.cluster), Arc::clone(pod));
            Arc::new(move |container, message| {
                let field_path = Some(format!("spec.containers{{{container}}}"));
                cluster
                    .tell_pod(&pod, Happening { is_warning: true, reason: "Unhealthy", message, field_path });
            })
        };
        if matches!(self.stage, Stage::Syncing) {
            self.prober.follow(pod, observed, &self.starting, &addresses, &tell);
        }
    }

    pub(super) fn report(&self, pod: &Arc<Pod>, observed: &Observed, probes: &ProbeResults) {
        // The status in the API may be older than ours: build on the newer.
        let mut base = Pod::clone(pod);
        let last = self.shown.borrow().status.clone();
        if last.phase.is_some() {
            base.status = Some(merged(pod.status.clone(), last));
        }
        let inputs = status::Inputs {
            pod: &base,
            stage: &self.stage,
            observed,
            probes,
            waiting: &self.waiting,
            host_addresses: &self.tools.addresses,
        };
        let status = pod_status(&inputs, crate::time::now());
        self.shown.send_replace(Shown { observed: observed.clone(), status: status.clone() });
        self.tools.writer.set(&self.id, status);
    }

    fn note_back_off(&mut self, pod: &Pod, plan: &Plan, observed: &Observed) {
        let before: HashMap<String, Waiting> =
            self.waiting.extract_if(|_, waiting| waiting.reason == "CrashLoopBackOff").collect();
        for name in plan.backing_off.keys() {
            let seconds = observed.latest(name).map_or(0, |record| record.backoff_seconds);
            let back_off = crate::time::go_duration(Duration::from_secs(u64::from(seconds)));
            let full_name = format!("{}_{}({})", self.id.name, self.id.namespace, self.id.uid);
            let message = format!("back-off {back_off} restarting failed container={name} pod={full_name}");
            let waiting = Waiting { reason: "CrashLoopBackOff".to_owned(), message };
            if before.get(name) != Some(&waiting) {
                let message = format!("Back-off restarting failed container {name} in pod {full_name}");
                self.tell(pod, true, "BackOff", message, Some(name));
            }
            self.waiting.insert(name.clone(), waiting);
        }
    }

    async fn act(&mut self, pod: &Arc<Pod>, observed: &Observed, action: Action) -> Result<Next, Trouble> {
        match action {
            Action::Prepare => self.prepare(pod).await,
            Action::Run(plan) => self.run_plan(pod, observed, plan).await,
            Action::Stop { grace_seconds } => self.stop(pod, observed, grace_seconds).await,
            Action::TearDown => {
                for record in observed.containers.iter().filter(|record| record.state == State::Created) {
                    self.tools.runtime.remove_container(&record.id).await?;
                }
                for sandbox in &observed.sandboxes {
                    self.tools.runtime.release_sandbox(&self.id, &sandbox.id).await?;
                }
                self.tools
                    .volumes
                    .remove(&self.id.uid)
                    .map_err(|error| Trouble(format!("remove volumes: {error}")))?;
                self.tools.runtime.cgroups().remove_pod(&self.id.uid)?;
                self.is_torn_down = true;
                Ok(Next::Again)
            }
            Action::Remove => self.remove(observed).await,
            Action::FinishDeletion => match self.tools.cluster.delete_pod(&self.id).await {
                Ok(()) | Err(ClusterError::NotFound { .. } | ClusterError::Conflict(_)) => {
                    Ok(Next::Wait(REFRESH))
                }
                Err(error) => Err(error.into()),
            },
            Action::Retire => Ok(Next::Retire),
            Action::Wake(time) => Ok(Next::Wait(time)),
        }
    }

    async fn prepare(&mut self, pod: &Arc<Pod>) -> Result<Next, Trouble> {
        self.tools.runtime.cgroups().ensure_pod(pod)?;
        match self.tools.volumes.prepare(pod).await {
            Ok(paths) => {
                self.volumes = Some(paths);
                Ok(Next::Again)
            }
            Err(error) => {
                self.tell(pod, true, "FailedMount", error.to_string(), None);
                Err(error.into())
            }
        }
    }

    /// Removes containers, logs and files.
    async fn remove(&self, observed: &Observed) -> Result<Next, Trouble> {
        let runtime = &self.tools.runtime;
        for record in &observed.containers {
            runtime.remove_container(&record.id).await?;
        }
        for sandbox in &observed.sandboxes {
            runtime.remove_sandbox(&self.id, &sandbox.id).await?;
        }
        self.tools.volumes.remove_pod(&self.id.uid)?;
        let logs = runtime.settings().logs.join(pod::log_directory(&self.id));
        match std::fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(Next::Wait(REFRESH)),
        }
    }

    /// The pod's addresses, as its containers and probes see them.
    pub(super) fn addresses(&self, pod: &Pod, observed: &Observed) -> Vec<IpAddr> {
        if pod::uses_host_network(pod) {
            return self.tools.addresses.clone();
        }
        observed.sandbox().map(|sandbox| sandbox.addresses.clone()).unwrap_or_default()
    }

    /// Waits until the pod is to go down: deleted, gone, or evicted.
    pub(super) async fn wanted_down(mut desired: watch::Receiver<Desired>) {
        let is_wanted_down = |desired: &Desired| {
            desired.is_gone || desired.eviction.is_some() || desired.pod.metadata.deletion_timestamp.is_some()
        };
        // Without a sender nothing will change.
        if desired.wait_for(is_wanted_down).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn tell(
        &self,
        pod: &Pod,
        is_warning: bool,
        reason: &'static str,
        message: String,
        container: Option<&str>,
    ) {
        let field_path = container.map(|name| {
            let list = match pod::container(pod, name) {
                Some((Role::Init | Role::Sidecar, _)) => "initContainers",
                Some((Role::Ephemeral, _)) => "ephemeralContainers",
                _ => "containers",
            };
            format!("spec.{list}{{{name}}}")
        });
        self.tools.cluster.tell_pod(pod, Happening { is_warning, reason, message, field_path });
    }
}

/// Our last status, with the conditions that others own as the API has them.
fn merged(from_api: Option<PodStatus>, mut own: PodStatus) -> PodStatus {
    const OURS: [&str; 5] =
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let foreign = from_api.and_then(|status| status.conditions).unwrap_or_default();
    let conditions = own.conditions.get_or_insert_default();
    conditions.retain(|condition| OURS.contains(&condition.type_.as_str()));
    conditions.extend(foreign.into_iter().filter(|condition| !OURS.contains(&condition.type_.as_str())));
    own
}
