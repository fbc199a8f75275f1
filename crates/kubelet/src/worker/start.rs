//! Carrying out a plan: sandboxes and containers are made here, with their
//! images, environments and start hooks.
//!
//! A pull or a hook can take long; a pod that is to go down does not wait for
//! them. The making of a sandbox or a container is never broken off.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::{Container, Pod};
use futures::FutureExt as _;

use super::plan::{Plan, Start};
use super::task::{Next, REFRESH, RETRY_LONGEST, Trouble, Worker};
use crate::environment::{self, Addresses};
use crate::images::credentials::Credentials;
use crate::images::{ImageError, Obtained, PullPolicy, Wish};
use crate::pod::{self, Role};
use crate::runtime::containers::NewContainer;
use crate::runtime::record::{Observed, State};
use crate::status::Waiting;
use crate::time::go_duration;

/// The pause between a failed pull and the state of backing off.
const AFTER_PULL: Duration = Duration::from_secs(1);
/// The pause before an environment or a mount is tried again.
const AFTER_CONFIG: Duration = Duration::from_secs(5);
/// The longest that a start hook may take.
const HOOK_LIMIT: Duration = Duration::from_secs(3600);

/// Why a container was not started.
enum Halt {
    /// It waits for something; look again after this time.
    Waits(Waiting, Duration),
    /// The pod is to go down.
    Down,
}

fn waits(reason: &str, message: String, time: Duration) -> Halt {
    Halt::Waits(Waiting { reason: reason.to_owned(), message }, time)
}

impl Worker {
    pub(super) async fn run_plan(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        plan: Plan,
    ) -> Result<Next, Trouble> {
        for id in &plan.prune {
            self.tools.runtime.remove_container(id).await?;
        }
        for id in &plan.prune_sandboxes {
            self.tools.runtime.remove_sandbox(&self.id, id).await?;
        }
        if !plan.kill.is_empty() {
            let down = Self::wanted_down(self.desired.clone());
            tokio::select! {
                killed = self.kill_all(pod, &plan) => killed?,
                // Stopped anew, by the rules of the end.
                () = down => return Ok(Next::Again),
            }
        }
        if let Some(attempt) = plan.create_sandbox {
            self.create_sandbox(pod, observed, attempt).await?;
        }
        if !plan.kill.is_empty() || plan.create_sandbox.is_some() {
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
                Err(Halt::Down) => return Ok(Next::Again),
                Err(Halt::Waits(waiting, pause)) => {
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

    async fn kill_all(&self, pod: &Arc<Pod>, plan: &Plan) -> Result<(), Trouble> {
        let kills = plan.kill.iter().map(|kill| {
            self.tell(pod, false, "Killing", kill.message.clone(), Some(&kill.name));
            let grace = kill.grace_override.unwrap_or_else(|| pod::grace_seconds(pod));
            self.stop_one(pod, &kill.id, &kill.name, grace, std::future::ready(()))
        });
        futures::future::join_all(kills).await.into_iter().collect()
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

    /// Starts one container.
    async fn start(&mut self, pod: &Arc<Pod>, observed: &Observed, start: &Start) -> Result<(), Halt> {
        let Some((role, container)) = pod::container(pod, &start.name) else { return Ok(()) };
        let container = container.as_ref();
        let Some(sandbox) = observed.sandbox() else { return Ok(()) };
        let name = container.name.as_str();
        let down = Self::wanted_down(self.desired.clone());
        let obtained = tokio::select! {
            obtained = self.obtain(pod, container) => obtained?,
            () = down => return Err(Halt::Down),
        };
        let pod_addresses = self.addresses(pod, observed);
        let addresses = Addresses { pod: &pod_addresses, host: &self.tools.addresses };
        let config = |message: String| {
            self.tell(pod, true, "Failed", format!("Error: {message}"), Some(name));
            waits("CreateContainerConfigError", message, AFTER_CONFIG)
        };
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
            shim: observed.shim(&sandbox.id),
            environment: &environment,
            mounts,
            process_of: if role == Role::Ephemeral { target(pod, observed, name) } else { None },
        };
        let id = self.tools.runtime.start_container(new).await.map_err(|error| {
            let message = crate::images::chain(&error);
            self.tell(pod, true, "Failed", format!("Error: {message}"), Some(name));
            waits("RunContainerError", message, Duration::from_secs(1))
        })?;
        self.tell(pod, false, "Created", "Container created".to_owned(), Some(name));
        self.tell(pod, false, "Started", "Container started".to_owned(), Some(name));
        self.post_start(pod, container, &id, &pod_addresses).await
    }

    /// The container's image, made usable.
    async fn obtain(&self, pod: &Arc<Pod>, container: &Container) -> Result<Obtained, Halt> {
        let name = container.name.as_str();
        let image = container.image.clone().unwrap_or_default();
        let credentials = self.credentials(pod).await;
        let wish = Wish {
            image: &image,
            policy: PullPolicy::of(container.image_pull_policy.as_deref(), &image),
            credentials: &credentials,
            pod: &self.id.uid,
        };
        let on_pull = || self.tell(pod, false, "Pulling", format!("Pulling image \"{image}\""), Some(name));
        match self.tools.images.ensure(wish, &on_pull).boxed().await {
            Ok(obtained) => {
                let message = match obtained.pull {
                    None => format!(
                        "Container image \"{image}\" already present on machine and can be accessed by the pod"
                    ),
                    Some(pull) => format!(
                        "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {} bytes.",
                        go_duration(pull.took),
                        go_duration(pull.with_waiting),
                        obtained.image.size
                    ),
                };
                self.tell(pod, false, "Pulled", message, Some(name));
                Ok(obtained)
            }
            Err(error) => {
                self.tell_of_image(pod, name, &image, &error);
                let pause = match &error {
                    ImageError::BackOff { left, .. } => *left,
                    ImageError::InvalidName { .. } | ImageError::NeverPull(_) => RETRY_LONGEST,
                    _ => AFTER_PULL,
                };
                Err(waits(error.reason(), error.to_string(), pause))
            }
        }
    }

    /// The events about an image that is not to be had: what happened, and the
    /// state that the container is in for it; once for each state.
    fn tell_of_image(&self, pod: &Pod, name: &str, image: &str, error: &ImageError) {
        let state = error.to_string();
        if self.waiting.get(name).is_some_and(|waiting| waiting.message == state) {
            return;
        }
        let (is_warning, reason, message) = match error {
            ImageError::BackOff { .. } => (false, "BackOff", format!("Back-off pulling image \"{image}\"")),
            ImageError::InvalidName { .. } => (true, "InspectFailed", state),
            ImageError::NeverPull(_) => (true, "ErrImageNeverPull", state),
            ImageError::Pull { .. } => (true, "Failed", format!("Failed to pull image \"{image}\": {state}")),
            ImageError::Runtime(_) => {
                (true, "InspectFailed", format!("Failed to inspect image \"{image}\": {state}"))
            }
        };
        self.tell(pod, is_warning, reason, message, Some(name));
        self.tell(pod, true, "Failed", format!("Error: {}", error.reason()), Some(name));
    }

    async fn credentials(&self, pod: &Pod) -> Credentials {
        let mut secrets = Vec::new();
        let mut missing = Vec::new();
        for reference in pod::spec(pod).image_pull_secrets.iter().flatten() {
            // A missing secret costs its registry, not the pod (upstream's rule).
            match self.tools.cluster.secret(&self.id.namespace, &reference.name).await {
                Ok(secret) => secrets.push(secret),
                Err(_) => missing.push(reference.name.as_str()),
            }
        }
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.tell(pod, true, "FailedToRetrieveImagePullSecret", message, None);
        }
        Credentials::from_secrets(secrets.iter().map(Arc::as_ref))
    }

    /// Runs the start hook; a container whose hook fails is stopped.
    async fn post_start(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        id: &str,
        addresses: &[IpAddr],
    ) -> Result<(), Halt> {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        self.starting.insert(id.to_owned());
        let target = crate::probes::check::Target {
            container: id,
            specification: container,
            host: addresses.first().copied(),
        };
        let down = Self::wanted_down(self.desired.clone());
        let outcome = tokio::select! {
            outcome = super::hooks::run(&self.tools.runtime, hook, &target, HOOK_LIMIT) => Some(outcome),
            () = self.ended(id) => Some(Ok(())),
            () = down => None,
        };
        self.starting.remove(id);
        match outcome {
            None => Err(Halt::Down),
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => {
                self.tell(pod, true, "FailedPostStartHook", why, Some(&container.name));
                let killing = "FailedPostStartHook".to_owned();
                self.tell(pod, false, "Killing", killing, Some(&container.name));
                let grace = pod::grace_seconds(pod);
                let stopped = self.stop_one(pod, id, &container.name, grace, std::future::ready(())).await;
                if let Err(Trouble(error)) = stopped {
                    tracing::warn!(container = id, error, "container with a failed start hook not stopped");
                }
                Ok(())
            }
        }
    }

    /// Waits for a container's end: its hook need not be waited for then.
    async fn ended(&self, id: &str) {
        if let Err(error) = self.tools.runtime.wait(id).await {
            tracing::debug!(container = id, error = %error, "end of a container not waited for");
            std::future::pending::<()>().await;
        }
    }
}

/// The process whose process namespace an ephemeral container shares: that of
/// the container that it targets.
fn target(pod: &Pod, observed: &Observed, name: &str) -> Option<u32> {
    let ephemeral = pod::spec(pod).ephemeral_containers.iter().flatten().find(|one| one.name == name)?;
    match observed.latest(ephemeral.target_container_name.as_deref()?)?.state {
        State::Running { pid } => Some(pid),
        _ => None,
    }
}
