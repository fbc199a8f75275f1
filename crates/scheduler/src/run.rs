//! The shell around the decision: takes what the caches report, keeps the queue
//! and the picture of the cluster, decides, and starts bindings, which run
//! beside the next decisions. One task owns all state, so there are no locks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Status;
use api::types::core::v1::{Node, Pod};
use client::{Client, Recorder};
use daemon::{Clock, Shutdown, tasks};
use tokio::sync::mpsc;

use crate::cluster::Cluster;
use crate::diagnosis::Diagnosis;
use crate::events::{Event, node_matters, pod_matters};
use crate::evict::Eviction;
use crate::extender::{self, Extender};
use crate::metrics::Metrics;
use crate::news::{Caches, News, Teller};
use crate::pod::PodInfo;
use crate::preemption::{Attempt, Candidate, best};
use crate::profile::Profile;
use crate::queue::Queue;
use crate::schedule::{Decision, Search, conclude, fitting, schedule};
use crate::snapshot::NodeInfo;
use crate::verdicts::Verdicts;
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
            if let Some((pod, profile)) = self.queue.pop() {
                self.try_pod(&pod, profile).await;
                tokio::task::yield_now().await;
                continue;
            }
            self.cluster.expire(now);
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

    fn take(&mut self, news: News) {
        let surroundings = self.cluster.surroundings();
        match news {
            News::Node(key, node) => self.take_node(&key.name, node.as_ref()),
            News::Pod(old, new) => self.take_pod(old.as_deref(), new.as_ref()),
            News::Namespace(key, namespace) => {
                let labels = namespace.map(|namespace| namespace.metadata.labels.clone());
                surroundings.set_namespace(&key.name, labels);
            }
            News::Service(key, service) => surroundings.workloads.set_service(&key, service.as_deref()),
            News::Controller(key, one) => surroundings.workloads.set_controller(&key, one.as_deref()),
            News::ReplicaSet(key, set) => surroundings.workloads.set_replica_set(&key, set.as_deref()),
            News::StatefulSet(key, set) => surroundings.workloads.set_stateful_set(&key, set.as_deref()),
            News::Budget(key, budget) => surroundings.budgets.set(&key, budget.as_deref()),
            News::RoomMade { uid, was_made } => {
                self.queue.release(&uid, was_made, self.parts.clock.monotonic())
            }
            News::Bound { pod, node, outcome } => self.take_bound(&pod, &node, outcome),
        }
    }

    fn happened(&mut self, event: &Event<'_>) {
        let now = self.now();
        self.queue.happened(event, &self.parts.profiles, now, |_| true);
    }

    fn take_node(&mut self, name: &str, node: Option<&Arc<Node>>) {
        let old = self.cluster.snapshot().node(name).map(|info| NodeInfo::new(Arc::clone(&info.node)));
        let Some(node) = node else {
            self.cluster.remove_node(name);
            if let Some(old) = &old {
                self.happened(&Event::NodeRemoved(old));
            }
            return;
        };
        self.cluster.set_node(node);
        let new = NodeInfo::new(Arc::clone(node));
        match &old {
            None => self.happened(&Event::NodeAdded(&new)),
            Some(old) if node_matters(old, &new) => self.happened(&Event::NodeChanged { old, new: &new }),
            Some(_) => {}
        }
    }

    fn take_pod(&mut self, old: Option<&Pod>, new: Option<&Arc<PodInfo>>) {
        // A pod that was replaced between two lists: the old one has ended.
        let old_uid = old.and_then(|old| old.metadata.uid.as_deref());
        if let Some(uid) = old_uid.filter(|uid| new.is_none_or(|new| new.uid != *uid)) {
            self.end_pod(uid);
        }
        match new {
            Some(pod) if pod.has_ended() => self.end_pod(&pod.uid),
            Some(pod) if pod.node().is_some() => self.take_placed(pod),
            Some(pod) => self.take_waiting(pod),
            None => {}
        }
    }

    fn take_placed(&mut self, pod: &Arc<PodInfo>) {
        self.queue.remove(&pod.uid);
        self.parts.verdicts.forget(&pod.key);
        let was_assumed = self.cluster.is_assumed(&pod.uid);
        match self.cluster.set_pod(pod).filter(|_| !was_assumed) {
            None => self.happened(&Event::PodAdded(pod)),
            Some(old) if pod_matters(&old, pod) => self.happened(&Event::PodChanged { old: &old, new: pod }),
            Some(_) => {}
        }
    }

    fn take_waiting(&mut self, pod: &Arc<PodInfo>) {
        let Some(profile) = self.parts.profiles.iter().position(|one| one.name == pod.scheduler()) else {
            return;
        };
        if pod.is_leaving {
            self.end_pod(&pod.uid);
            return;
        }
        if self.cluster.is_assumed(&pod.uid) {
            return;
        }
        let now = self.now();
        let old = self.queue.get(&pod.uid).cloned();
        let was_nominated = old.as_ref().and_then(|old| old.nominated());
        // Our own word about a node may not have come back yet.
        if was_nominated.is_some() || pod.nominated().is_some() {
            self.cluster.nominate(pod, pod.nominated());
        }
        if let Some(old) =
            old.as_ref().filter(|_| was_nominated.is_some() && was_nominated != pod.nominated())
        {
            self.gave_up_node(old);
        }
        self.queue.add(pod, profile, &self.parts.profiles, now);
    }

    /// Pods that had to respect the claim of a pod to a node need it no more.
    fn gave_up_node(&mut self, pod: &Arc<PodInfo>) {
        let now = self.now();
        let may = |other: &PodInfo| other.priority <= pod.priority;
        self.queue.happened(&Event::PodRemoved(pod), &self.parts.profiles, now, may);
    }

    fn end_pod(&mut self, uid: &str) {
        let waiting = self.queue.remove(uid);
        if let Some(pod) = &waiting {
            self.parts.verdicts.forget(&pod.key);
        }
        let was_nominated = self.cluster.withdraw(uid).is_some();
        if let Some(pod) = self.cluster.remove_pod(uid) {
            self.happened(&Event::PodRemoved(&pod));
        } else if let Some(pod) = waiting.filter(|_| was_nominated) {
            self.gave_up_node(&pod);
        }
    }

    fn take_bound(&mut self, pod: &Arc<PodInfo>, node: &str, outcome: Result<(), Status>) {
        let now = self.now();
        match outcome {
            Ok(()) => {
                self.parts.metrics.attempt("scheduled");
                self.cluster.bound(&pod.uid, now);
                self.queue.remove(&pod.uid);
                writes::announce_bound(self.recorder(pod), pod, node);
            }
            Err(status) => {
                tracing::warn!(kind = "Pod", uid = pod.uid, node, error = %status, "binding failed");
                if let Some(pod) = self.cluster.forget(&pod.uid) {
                    self.happened(&Event::PodRemoved(&pod));
                }
                self.fail(pod, &format!("binding rejected: {status}"));
            }
        }
    }

    /// A pod could not be scheduled for no fault of its own.
    fn fail(&mut self, pod: &Arc<PodInfo>, message: &str) {
        self.parts.metrics.attempt("error");
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
        self.cluster.assume(pod, &node);
        self.parts.verdicts.forget(&pod.key);
        let (client, tell, pod) = (self.parts.client.clone(), self.tell.clone(), Arc::clone(pod));
        let extenders = self.parts.extenders.clone();
        tasks::spawn("bind", async move {
            let outcome = match extender::bind(&extenders, &pod, &node).await {
                Some(bound) => bound.map_err(|error| Status::internal(format!("{error:#}"))),
                None => writes::bind(&client, &pod, &node).await,
            };
            // Fails only when the loop has ended.
            let _ = tell.send(News::Bound { pod, node, outcome });
        });
    }

    fn refuse(&mut self, pod: &Arc<PodInfo>, diagnosis: Diagnosis, attempt: Attempt) {
        let (now, place) = (self.now(), self.profile_of(pod));
        let profiles = &self.parts.profiles;
        self.queue.refused(&pod.uid, diagnosis.refused_by(&profiles[place]), profiles, now);
        self.parts.metrics.attempt("unschedulable");
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
        self.parts.verdicts.keep(pod.key.clone(), diagnosis);
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
        let eviction = Eviction { pod: Arc::clone(pod), node, victims, claims };
        if eviction.is_under_way() {
            return;
        }
        self.parts.metrics.preempted(eviction.victims.len());
        self.queue.hold(&pod.uid);
        let (client, recorder) = (self.parts.client.clone(), self.recorder(pod).clone());
        let (tell, now) = (self.tell.clone(), self.parts.clock.now());
        tasks::spawn("make-room", async move {
            let was_made = eviction.carry_out(&client, &recorder, now).await;
            // Fails only when the loop has ended.
            let _ = tell.send(News::RoomMade { uid: eviction.pod.uid.clone(), was_made });
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
