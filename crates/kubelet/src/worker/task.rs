//! A pod's worker: observe, decide ([`super::stage`]), act, report; then wait
//! for the next change. One task per pod uid.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::{Pod, PodStatus};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::plan::{Plan, ProbeResults, Start};
use super::stage::{Action, Inputs, Stage, Verdict, advance};
use crate::cluster::{Cluster, ClusterError, Happening};
use crate::environment::{self, Addresses};
use crate::images::credentials::Credentials;
use crate::images::{ImageError, Images, PullPolicy};
use crate::pod::{self, PodId};
use crate::probes::Prober;
use crate::runtime::Runtime;
use crate::runtime::containers::NewContainer;
use crate::runtime::record::Observed;
use crate::status::writer::Writer;
use crate::status::{self, Waiting, pod_status};
use crate::volumes::Volumes;

/// How often a worker looks without being told, to renew what volumes hold.
const REFRESH: Duration = Duration::from_secs(60);
/// First pause after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// Longest pause after failures.
const RETRY_LONGEST: Duration = Duration::from_secs(20);

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
    tools: Arc<Tools>,
    id: PodId,
    desired: watch::Receiver<Desired>,
    nudge: Arc<Notify>,
    shown: watch::Sender<Shown>,
    stage: Stage,
    prober: Prober,
    /// Why containers wait, by name.
    waiting: HashMap<String, Waiting>,
    /// Paths of the volumes; nothing until they were prepared.
    volumes: Option<HashMap<String, PathBuf>>,
    is_torn_down: bool,
    /// Containers whose start hook runs.
    starting: HashSet<String>,
    /// Containers whose stop hook was run.
    stopped: Arc<Mutex<HashSet<String>>>,
    retry: Duration,
}

/// Something went wrong; it is tried again.
#[derive(Debug)]
struct Trouble(String);

impl<E: std::error::Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self(crate::images::chain(&error))
    }
}

/// What to do after the actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
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
                self.note_back_off(plan, &observed);
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
        let addresses = if pod::uses_host_network(pod) {
            self.tools.addresses.clone()
        } else {
            observed.sandbox().map(|sandbox| sandbox.addresses.clone()).unwrap_or_default()
        };
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

    fn report(&self, pod: &Arc<Pod>, observed: &Observed, probes: &ProbeResults) {
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

    fn note_back_off(&mut self, plan: &Plan, observed: &Observed) {
        self.waiting.retain(|_, waiting| waiting.reason != "CrashLoopBackOff");
        for name in plan.backing_off.keys() {
            let seconds = observed.latest(name).map_or(0, |record| record.backoff_seconds);
            let pretty = if seconds < 60 {
                format!("{seconds}s")
            } else {
                format!("{}m{}s", seconds / 60, seconds % 60)
            };
            let message = format!(
                "back-off {pretty} restarting failed container={name} pod={}_{}({})",
                self.id.name, self.id.namespace, self.id.uid
            );
            self.waiting.insert(name.clone(), Waiting { reason: "CrashLoopBackOff".to_owned(), message });
        }
    }

    async fn act(&mut self, pod: &Arc<Pod>, observed: &Observed, action: Action) -> Result<Next, Trouble> {
        match action {
            Action::Prepare => self.prepare(pod).await,
            Action::Run(plan) => self.run_plan(pod, observed, plan).await,
            Action::Stop { grace_seconds } => self.stop(pod, observed, grace_seconds).await,
            Action::TearDown => {
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

    async fn run_plan(&mut self, pod: &Arc<Pod>, observed: &Observed, plan: Plan) -> Result<Next, Trouble> {
        for id in &plan.prune {
            self.tools.runtime.remove_container(id).await?;
        }
        let acted = !plan.kill.is_empty() || plan.create_sandbox.is_some();
        for kill in &plan.kill {
            self.tell(pod, false, "Killing", kill.message.clone(), Some(&kill.name));
            let grace = kill.grace_override.unwrap_or_else(|| pod::grace_seconds(pod));
            self.stop_one(pod, &kill.id, &kill.name, grace).await?;
        }
        if let Some(attempt) = plan.create_sandbox {
            self.create_sandbox(pod, observed, attempt).await?;
        }
        if acted {
            return Ok(Next::Again);
        }
        // A plan is made anew after each start, so only the first that can be
        // started is, unless it failed: then the next.
        let mut wait = REFRESH;
        for start in &plan.start {
            match self.start(pod, observed, start).boxed().await {
                Ok(()) => {
                    self.waiting.remove(&start.name);
                    return Ok(Next::Again);
                }
                Err((waiting, pause)) => {
                    self.waiting.insert(start.name.clone(), waiting);
                    wait = wait.min(pause);
                }
            }
        }
        if !plan.start.is_empty() {
            self.report(pod, observed, &self.prober.results());
        } else if let Some(paths) = &mut self.volumes {
            // Nothing to do: a moment to renew what volumes hold.
            *paths = self.tools.volumes.prepare(pod).await?;
        }
        Ok(Next::Wait(wait))
    }

    async fn create_sandbox(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        attempt: u32,
    ) -> Result<(), Trouble> {
        for old in &observed.sandboxes {
            self.tools.runtime.remove_sandbox(&self.id, &old.id).await?;
        }
        if let Err(error) = self.tools.runtime.create_sandbox(pod, attempt).await {
            let message = format!("Failed to create pod sandbox: {}", crate::images::chain(&error));
            self.tell(pod, true, "FailedCreatePodSandBox", message, None);
            return Err(error.into());
        }
        Ok(())
    }

    /// Starts one container; an error is what it waits for, and how long.
    async fn start(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        start: &Start,
    ) -> Result<(), (Waiting, Duration)> {
        let waits =
            |reason: &str, message: String, time| (Waiting { reason: reason.to_owned(), message }, time);
        let Some((_, container)) = pod::container(pod, &start.name) else { return Ok(()) };
        let Some(sandbox) = observed.sandbox() else { return Ok(()) };
        let name = container.name.as_str();
        let image_name = container.image.clone().unwrap_or_default();
        let policy = PullPolicy::of(container.image_pull_policy.as_deref(), &image_name);
        let credentials = self.credentials(pod).await;
        let on_pull =
            || self.tell(pod, false, "Pulling", format!("Pulling image \"{image_name}\""), Some(name));
        let obtained =
            self.tools.images.ensure(&image_name, policy, &credentials, &on_pull).boxed().await.map_err(
                |error| {
                    let time = if let ImageError::BackOff { left, .. } = &error {
                        *left
                    } else {
                        Duration::from_millis(100)
                    };
                    let (is_warning, reason) = match &error {
                        ImageError::BackOff { .. } => (false, "BackOff"),
                        ImageError::InvalidName { .. } => (true, "InspectFailed"),
                        ImageError::NeverPull(_) => (true, "ErrImageNeverPull"),
                        _ => (true, "Failed"),
                    };
                    self.tell(pod, is_warning, reason, error.to_string(), Some(name));
                    let time = if matches!(error, ImageError::InvalidName { .. } | ImageError::NeverPull(_)) {
                        RETRY_LONGEST
                    } else {
                        time
                    };
                    waits(error.reason(), error.to_string(), time)
                },
            )?;
        let message = match obtained.pulled_in {
            None => format!("Container image \"{image_name}\" already present on machine"),
            Some(time) => format!(
                "Successfully pulled image \"{image_name}\" in {time:.3?}. Image size: {} bytes.",
                obtained.image.size
            ),
        };
        self.tell(pod, false, "Pulled", message, Some(name));
        let pod_addresses = if pod::uses_host_network(pod) {
            self.tools.addresses.clone()
        } else {
            sandbox.addresses.clone()
        };
        let addresses = Addresses { pod: &pod_addresses, host: &self.tools.addresses };
        let config = |message: String| waits("CreateContainerConfigError", message, Duration::from_secs(5));
        let environment = environment::of(pod, container, addresses, self.tools.cluster.as_ref())
            .await
            .map_err(|error| config(error.to_string()))?;
        let paths = self.volumes.clone().unwrap_or_default();
        let mounts = self
            .tools
            .volumes
            .mounts(pod, container, &paths, &environment)
            .map_err(|error| config(error.to_string()))?;
        let new = NewContainer {
            pod,
            container,
            start,
            image: &obtained.image,
            sandbox: &sandbox.id,
            environment: &environment,
            mounts,
        };
        let id = self.tools.runtime.start_container(new).await.map_err(|error| {
            let message = crate::images::chain(&error);
            self.tell(pod, true, "Failed", format!("Error: {message}"), Some(name));
            waits("RunContainerError", message, Duration::from_secs(1))
        })?;
        self.tell(pod, false, "Started", "Container started".to_owned(), Some(name));
        self.post_start(pod, container, &id, &pod_addresses).await;
        Ok(())
    }

    async fn credentials(&self, pod: &Pod) -> Credentials {
        let mut secrets = Vec::new();
        for reference in pod::spec(pod).image_pull_secrets.iter().flatten() {
            // A missing secret costs its registry, not the pod (upstream's rule).
            secrets.extend(self.tools.cluster.secret(&self.id.namespace, &reference.name).await.ok());
        }
        Credentials::from_secrets(secrets.iter().map(Arc::as_ref))
    }

    /// Runs the start hook; a container whose hook fails is stopped.
    async fn post_start(
        &mut self,
        pod: &Arc<Pod>,
        container: &api::types::core::v1::Container,
        id: &str,
        addresses: &[IpAddr],
    ) {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return };
        self.starting.insert(id.to_owned());
        let target = crate::probes::check::Target {
            container: id,
            specification: container,
            host: addresses.first().copied(),
        };
        let outcome = super::hooks::run(&self.tools.runtime, hook, &target, Duration::from_secs(3600)).await;
        self.starting.remove(id);
        if let Err(why) = outcome {
            self.tell(pod, true, "FailedPostStartHook", why, Some(&container.name));
            if let Err(error) = self.tools.runtime.stop_container(id, Duration::from_secs(1)).await {
                tracing::warn!(container = id, error = %error, "container with a failed start hook not stopped");
            }
        }
    }

    /// Stops everything: the main containers together, then the sidecars, the
    /// last first. Begins anew when the grace period is shortened.
    async fn stop(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        grace_seconds: i64,
    ) -> Result<Next, Trouble> {
        let since = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        // The API's deletion time is when the grace period ends.
        let left = since.map_or(grace_seconds, |end| {
            end.duration_since(crate::time::now()).as_secs().clamp(1, grace_seconds.max(1))
        });
        let mut desired = self.desired.clone();
        let is_shorter = async {
            while desired.changed().await.is_ok() {
                let told = desired.borrow_and_update();
                if pod::grace_seconds(&told.pod) < grace_seconds || told.is_gone {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        let work = async {
            let (sidecars, main): (Vec<_>, Vec<_>) =
                observed.running().partition(|record| record.role == crate::pod::Role::Sidecar);
            let mut stops: Vec<BoxFuture<'_, Result<(), Trouble>>> = Vec::new();
            for record in main {
                self.tell(
                    pod,
                    false,
                    "Killing",
                    format!("Stopping container {}", record.name),
                    Some(&record.name),
                );
                stops.push(self.stop_one(pod, &record.id, &record.name, left).boxed());
            }
            for stopped in futures::future::join_all(stops).await {
                stopped?;
            }
            let order: Vec<&str> =
                pod::init_containers(pod).iter().map(|container| container.name.as_str()).collect();
            let mut sidecars = sidecars;
            sidecars
                .sort_by_key(|record| std::cmp::Reverse(order.iter().position(|name| *name == record.name)));
            for record in sidecars {
                self.tell(
                    pod,
                    false,
                    "Killing",
                    format!("Stopping container {}", record.name),
                    Some(&record.name),
                );
                self.stop_one(pod, &record.id, &record.name, left).await?;
            }
            Ok::<(), Trouble>(())
        };
        tokio::select! {
            done = work => done?,
            () = is_shorter => {}
        }
        Ok(Next::Again)
    }

    /// Stops one container: its stop hook, then the signals, all within the
    /// grace period.
    async fn stop_one(&self, pod: &Pod, id: &str, name: &str, grace_seconds: i64) -> Result<(), Trouble> {
        let grace = Duration::from_secs(u64::try_from(grace_seconds).unwrap_or(1));
        let begun = crate::time::monotonic();
        let container = pod::container(pod, name).map(|(_, container)| container);
        let hook = container.and_then(|container| container.lifecycle.as_ref()?.pre_stop.as_ref());
        if let (Some(hook), Some(container)) = (hook, container)
            && self.stopped.lock().insert(id.to_owned())
        {
            let host =
                self.shown.borrow().observed.sandbox().and_then(|sandbox| sandbox.addresses.first().copied());
            let target = crate::probes::check::Target {
                container: id,
                specification: container,
                host: host.or(self.tools.addresses.first().copied()),
            };
            if let Err(why) = super::hooks::run(&self.tools.runtime, hook, &target, grace).await {
                self.tell(pod, true, "FailedPreStopHook", why, Some(name));
            }
        }
        // Whatever the hook took, the signal gets two seconds (upstream's rule).
        let left = grace.saturating_sub(begun.elapsed()).max(Duration::from_secs(if hook.is_some() {
            2
        } else {
            1
        }));
        self.tools.runtime.stop_container(id, left).await?;
        Ok(())
    }

    fn tell(
        &self,
        pod: &Pod,
        is_warning: bool,
        reason: &'static str,
        message: String,
        container: Option<&str>,
    ) {
        let field_path = container.map(|name| {
            let list = if pod::init_containers(pod).iter().any(|init| init.name == name) {
                "initContainers"
            } else {
                "containers"
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
