//! The shell around the decision: takes what the caches report, keeps the queue
//! and the picture of the cluster, decides, and starts bindings, which run
//! beside the next decisions. One task owns all state, so there are no locks.

mod take;

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Status;
use client::{Client, Recorder};
use daemon::{Clock, Shutdown, tasks};
use serde_json::json;
use tokio::sync::mpsc;

use crate::cluster::Cluster;
use crate::diagnosis::Diagnosis;
use crate::events::Event;
use crate::evict::MakingRoom;
use crate::explanation::Eviction;
use crate::extender::{self, Extender};
use crate::metrics::Metrics;
use crate::news::{Bound, Caches, News, Teller};
use crate::pod::PodInfo;
use crate::preemption::{Attempt, Candidate, best};
use crate::profile::Profile;
use crate::queue::Queue;
use crate::schedule::{Decision, Search, conclude, fitting, schedule};
use crate::verdicts::Verdicts;
use crate::volumes::Wishes;
use crate::volumes::bind::Writes;
use crate::writes::{self, Verdict};

/// How often what has a time is looked at even if nothing happens.
const TICK: Duration = Duration::from_secs(5);

/// What the loop works with.
pub struct Parts {
    /// Where to write.
    pub client: Client,
    /// Where the events of each profile go.
    pub recorders: Vec<Recorder>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who decides, for pods of which scheduler.
    pub profiles: Vec<Profile>,
    /// Who else has a say.
    pub extenders: Vec<Arc<Extender>>,
    /// Where to begin looking, and chance.
    pub search: Search,
    /// Counters.
    pub metrics: Metrics,
    /// Where diagnoses are kept.
    pub verdicts: Verdicts,
}

/// The loop.
pub struct Loop {
    parts: Parts,
    queue: Queue,
    cluster: Cluster,
    news: mpsc::UnboundedReceiver<News>,
    tell: Teller,
}

impl Loop {
    /// A loop that follows caches.
    #[must_use]
    pub fn new(parts: Parts, queue: Queue, caches: &Caches) -> Self {
        let (tell, news) = mpsc::unbounded_channel();
        caches.tell(&tell);
        Self { parts, queue, cluster: Cluster::default(), news, tell }
    }

    /// Schedules until shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        while !shutdown.has_begun() {
            while let Ok(news) = self.news.try_recv() {
                self.take(news);
            }
            let now = self.now();
            self.queue.advance(now);
            self.cluster.expire(now);
            if let Some((pod, profile)) = self.queue.pop() {
                self.try_pod(&pod, profile).await;
                tokio::task::yield_now().await;
                continue;
            }
            self.parts.metrics.depths(self.queue.depths());
            let rest = self.queue.next_due().map_or(TICK, |due| due.saturating_duration_since(now)).min(TICK);
            tokio::select! {
                () = shutdown.begun() => return,
                Some(news) = self.news.recv() => self.take(news),
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    fn now(&self) -> Instant {
        self.parts.clock.monotonic()
    }

    fn happened(&mut self, event: &Event<'_>) {
        let now = self.now();
        self.queue.happened(event, &self.parts.profiles, now, |_| true);
    }

    fn take_bound(&mut self, bound: Bound) {
        let Bound { pod, node, volumes, outcome } = bound;
        match outcome {
            Ok(()) => {
                self.parts.metrics.attempt("scheduled", pod.scheduler());
                self.cluster.bound(&pod.uid, self.now());
                self.queue.remove(&pod.uid);
                writes::announce_bound(self.recorder(&pod), &pod, &node);
            }
            Err(status) => {
                tracing::warn!(kind = "Pod", uid = pod.uid, node = &*node, error = %status, "binding failed");
                volumes.forget(Arc::make_mut(&mut self.cluster.surroundings().volumes));
                if let Some(pod) = self.cluster.forget(&pod.uid) {
                    self.happened(&Event::PodRemoved(&pod));
                }
                self.fail(&pod, &format!("binding rejected: {status}"));
            }
        }
    }

    /// A pod could not be scheduled for no fault of its own.
    fn fail(&mut self, pod: &Arc<PodInfo>, message: &str) {
        self.parts.metrics.attempt("error", pod.scheduler());
        self.queue.failed(&pod.uid, self.now());
        let verdict =
            Verdict { reason: "SchedulerError", message: message.to_owned(), nominated: Some(None) };
        self.say(pod, verdict);
    }

    async fn try_pod(&mut self, pod: &Arc<PodInfo>, profile: usize) {
        if self.cluster.has_pod(&pod.uid) {
            // The caches have not shown a binding of ours yet.
            self.queue.remove(&pod.uid);
            return;
        }
        let began = self.now();
        let decision = self.decide(pod, profile).await;
        self.parts.metrics.decision.observe(self.now().duration_since(began).as_secs_f64());
        match decision {
            Ok(Decision::Node(node)) => self.bind(pod, node),
            Ok(Decision::Nowhere(diagnosis, attempt)) => self.refuse(pod, diagnosis, attempt),
            Err(error) => self.fail(pod, &format!("{error:#}")),
        }
    }

    /// The decision, with what extenders have to say.
    async fn decide(&mut self, pod: &PodInfo, profile: usize) -> anyhow::Result<Decision> {
        let Parts { profiles, search, extenders, .. } = &mut self.parts;
        let (profile, snapshot) = (&profiles[profile], self.cluster.snapshot());
        if extenders.is_empty() {
            return Ok(schedule(pod, snapshot, profile, search));
        }
        let mut found = fitting(pod, snapshot, profile, search);
        extender::consult(extenders, pod, &mut found).await?;
        let decision = conclude(pod, snapshot, profile, found, search);
        let Decision::Nowhere(mut diagnosis, Attempt::Found(candidates)) = decision else {
            return Ok(decision);
        };
        let kept = extender::judge(extenders, pod, snapshot, candidates).await?;
        let attempt = if kept.is_empty() {
            Attempt::NotMade("no candidate node for preemption")
        } else {
            Attempt::Found(best(kept))
        };
        diagnosis.eviction = attempt.message();
        Ok(Decision::Nowhere(diagnosis, attempt))
    }

    fn bind(&mut self, pod: &Arc<PodInfo>, node: Arc<str>) {
        let patience = self.parts.profiles[self.profile_of(pod)].volume_patience;
        let volumes = match patience {
            Some(_) => self.assume_volumes(pod, &node),
            None => Writes::default(),
        };
        self.cluster.assume(pod, &node);
        self.parts.verdicts.forget(&pod.key);
        let (client, tell, pod) = (self.parts.client.clone(), self.tell.clone(), Arc::clone(pod));
        let extenders = self.parts.extenders.clone();
        tasks::spawn("bind", async move {
            let outcome = bind(&client, &extenders, &pod, &node, &volumes, patience).await;
            // Fails only when the loop has ended.
            let _ = tell.send(News::Bound(Bound { pod, node, volumes, outcome }));
        });
    }

    /// Makes what was decided about the volumes of a pod count for the next decisions.
    fn assume_volumes(&mut self, pod: &PodInfo, node: &str) -> Writes {
        let snapshot = self.cluster.snapshot();
        let wishes = Wishes::of(pod, &snapshot.volumes).ok().flatten();
        let plan = wishes.zip(snapshot.node(node)).and_then(|(wishes, node)| wishes.plan(node).ok());
        let Some(plan) = plan.filter(|plan| !plan.is_empty()) else { return Writes::default() };
        let writes = Writes::new(&plan, node);
        writes.assume(Arc::make_mut(&mut self.cluster.surroundings().volumes));
        writes
    }

    fn refuse(&mut self, pod: &Arc<PodInfo>, diagnosis: Diagnosis, attempt: Attempt) {
        let (now, place) = (self.now(), self.profile_of(pod));
        let profiles = &self.parts.profiles;
        self.queue.refused(&pod.uid, diagnosis.refused_by(&profiles[place]), profiles, now);
        self.parts.metrics.attempt("unschedulable", pod.scheduler());
        if !matches!(attempt, Attempt::NotMade("")) {
            self.parts.metrics.preemptions.inc();
        }
        let eviction = Eviction::of(&attempt);
        let nominated = match attempt {
            _ if profiles[place].preemption.is_none() => Some(None),
            Attempt::NotMade(_) => None,
            Attempt::InVain(_) => Some(None),
            Attempt::Found(candidates) => candidates.into_iter().next().map(|best| {
                let node = best.node.to_string();
                self.make_room(pod, best);
                Some(node)
            }),
        };
        if let Some(node) = &nominated {
            self.cluster.nominate(pod, node.as_deref());
        }
        let message = diagnosis.message();
        self.parts.verdicts.keep(pod, diagnosis, eviction, self.parts.clock.now());
        self.say(pod, Verdict { reason: "Unschedulable", message, nominated });
    }

    /// Starts to make room for a pod, which is not tried meanwhile.
    fn make_room(&mut self, pod: &Arc<PodInfo>, best: Candidate) {
        let Candidate { node, victims, .. } = best;
        let claims = self.cluster.snapshot().nominated(&node).iter();
        let claims = claims.filter(|claim| claim.priority < pod.priority).cloned().collect::<Vec<_>>();
        for claim in &claims {
            self.cluster.withdraw(&claim.uid);
        }
        let making = MakingRoom { pod: Arc::clone(pod), node, victims, claims };
        if making.is_under_way() {
            return;
        }
        self.parts.metrics.preempted(making.victims.len());
        self.queue.hold(&pod.uid);
        let (client, recorder) = (self.parts.client.clone(), self.recorder(pod).clone());
        let (tell, now) = (self.tell.clone(), self.parts.clock.now());
        tasks::spawn("make-room", async move {
            let was_made = making.carry_out(&client, &recorder, now).await;
            // Fails only when the loop has ended.
            let _ = tell.send(News::RoomMade { uid: making.pod.uid.clone(), was_made });
        });
    }

    /// Says on the pod, and in an event, why it has no node.
    fn say(&self, pod: &Arc<PodInfo>, verdict: Verdict) {
        writes::announce_failed(self.recorder(pod), pod, &verdict.message);
        let (client, pod, now) = (self.parts.client.clone(), Arc::clone(pod), self.parts.clock.now());
        tasks::spawn("say-refused", async move { writes::say(&client, &pod, &verdict, now).await });
    }

    fn recorder(&self, pod: &PodInfo) -> &Recorder {
        &self.parts.recorders[self.profile_of(pod)]
    }

    fn profile_of(&self, pod: &PodInfo) -> usize {
        self.parts.profiles.iter().position(|one| one.name == pod.scheduler()).unwrap_or(0)
    }
}

/// Gives a pod its volumes and its node.
async fn bind(
    client: &Client,
    extenders: &[Arc<Extender>],
    pod: &PodInfo,
    node: &str,
    volumes: &Writes,
    patience: Option<Duration>,
) -> Result<(), Status> {
    let refused = |error: anyhow::Error| Status::internal(format!("{error:#}"));
    if let Some(patience) = patience.filter(|_| !volumes.is_empty()) {
        // It may take long: others shall know where the pod is going.
        let status = json!({"nominatedNodeName": node});
        writes::patch_status(client, pod, json!({"metadata": {"uid": pod.uid}, "status": status})).await;
        volumes.carry_out(client, patience).await.map_err(refused)?;
    }
    match extender::bind(extenders, pod, node).await {
        Some(bound) => bound.map_err(refused),
        None => writes::bind(client, pod, node).await,
    }
}
