//! The shell around the decision: takes what the caches report, keeps the queue
//! and the picture of the cluster, decides, and starts bindings, which run
//! beside the next decisions. One task owns all state, so there are no locks.

use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::{Node, Pod};
use api::{ObjectKey, Status};
use client::{Cache, Change, Client, Recorder};
use daemon::{Clock, Shutdown, tasks};
use tokio::sync::mpsc;

use crate::cluster::Cluster;
use crate::metrics::Metrics;
use crate::plugins::{ClusterEvent, Plugins};
use crate::queue::{Queue, uid};
use crate::schedule::{Decision, Diagnosis, Search, schedule};
use crate::verdicts::Verdicts;
use crate::writes;

/// How often what has a time is looked at even if nothing happens.
const TICK: Duration = Duration::from_secs(5);

/// What the loop hears.
enum News {
    Node { old: Option<Arc<Node>>, new: Option<Arc<Node>> },
    Pod { old: Option<Arc<Pod>>, new: Option<Arc<Pod>> },
    Bound { pod: Arc<Pod>, node: String, outcome: Result<(), Status> },
}

/// What the loop works with.
pub struct Parts {
    /// Where to write.
    pub client: Client,
    /// Where events go.
    pub recorder: Recorder,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who decides.
    pub plugins: Plugins,
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
    tell: mpsc::UnboundedSender<News>,
}

impl Loop {
    /// A loop that follows two caches.
    #[must_use]
    pub fn new(parts: Parts, nodes: &Cache<Node>, pods: &Cache<Pod>) -> Self {
        let (tell, news) = mpsc::unbounded_channel();
        // A send fails only after the loop has ended, when nobody needs the news.
        let teller = tell.clone();
        nodes.subscribe(move |Change { old, new, .. }| {
            let _ = teller.send(News::Node { old: old.cloned(), new: new.cloned() });
        });
        let teller = tell.clone();
        pods.subscribe(move |Change { old, new, .. }| {
            let _ = teller.send(News::Pod { old: old.cloned(), new: new.cloned() });
        });
        Self { parts, queue: Queue::default(), cluster: Cluster::default(), news, tell }
    }

    /// Schedules until shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        while !shutdown.has_begun() {
            while let Ok(news) = self.news.try_recv() {
                self.take(news);
            }
            let now = self.parts.clock.monotonic();
            self.queue.advance(now);
            if let Some(pod) = self.queue.pop(now) {
                self.try_pod(&pod);
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

    fn take(&mut self, news: News) {
        match news {
            News::Node { old, new } => self.take_node(old.as_deref(), new.as_ref()),
            News::Pod { old, new } => self.take_pod(old.as_ref(), new.as_ref()),
            News::Bound { pod, node, outcome } => self.take_bound(&pod, &node, outcome),
        }
    }

    fn take_node(&mut self, old: Option<&Node>, new: Option<&Arc<Node>>) {
        match (old, new) {
            (_, Some(new)) => {
                self.cluster.set_node(new);
                let now = self.parts.clock.monotonic();
                for event in node_events(old, new) {
                    self.queue.happened(event, now);
                }
            }
            (Some(old), None) => self.cluster.remove_node(old.metadata.name.as_deref().unwrap_or_default()),
            (None, None) => {}
        }
    }

    fn take_pod(&mut self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) {
        // A pod that was replaced between two lists: the old one has ended.
        if let (Some(old), Some(new)) = (old, new)
            && old.metadata.uid != new.metadata.uid
        {
            self.end_pod(old);
        }
        match new {
            Some(pod) if has_ended(pod) => self.end_pod(pod),
            Some(pod) if is_bound(pod) => {
                self.queue.remove(&uid(pod));
                self.parts.verdicts.forget(&ObjectKey::of(&**pod));
                self.cluster.set_pod(pod);
                if old.is_some_and(|old| is_bound(old) && old.spec != pod.spec) {
                    // It may ask for less than before.
                    self.queue.happened(ClusterEvent::PodRemoved, self.parts.clock.monotonic());
                }
            }
            Some(pod) if is_ours(pod) => self.queue.add(Arc::clone(pod), self.parts.clock.monotonic()),
            Some(pod) => self.queue.remove(&uid(pod)),
            None => {
                if let Some(old) = old {
                    self.end_pod(old);
                }
            }
        }
    }

    fn end_pod(&mut self, pod: &Pod) {
        let uid = uid(pod);
        self.queue.remove(&uid);
        self.parts.verdicts.forget(&ObjectKey::of(pod));
        if self.cluster.remove_pod(&uid) {
            self.queue.happened(ClusterEvent::PodRemoved, self.parts.clock.monotonic());
        }
    }

    fn take_bound(&mut self, pod: &Pod, node: &str, outcome: Result<(), Status>) {
        let (uid, now) = (uid(pod), self.parts.clock.monotonic());
        match outcome {
            Ok(()) => {
                self.parts.metrics.attempt("scheduled");
                self.cluster.bound(&uid, now);
                self.queue.remove(&uid);
                writes::announce_bound(&self.parts.recorder, pod, node);
            }
            Err(status) => {
                self.parts.metrics.attempt("error");
                tracing::warn!(kind = "Pod", uid, node, error = %status, "binding failed");
                if self.cluster.forget(&uid) {
                    self.queue.happened(ClusterEvent::PodRemoved, now);
                }
                self.queue.failed(&uid, now);
                let message = format!("binding rejected: {status}");
                writes::announce_failed(&self.parts.recorder, pod, &message);
            }
        }
    }

    fn try_pod(&mut self, pod: &Arc<Pod>) {
        let parts = &mut self.parts;
        if self.cluster.has_pod(&uid(pod)) {
            // The caches have not shown a binding of ours yet.
            self.queue.remove(&uid(pod));
            return;
        }
        let began = parts.clock.monotonic();
        let decision = schedule(pod, self.cluster.snapshot(), &parts.plugins, &mut parts.search);
        parts.metrics.decision.observe(parts.clock.monotonic().duration_since(began).as_secs_f64());
        match decision {
            Decision::Node(node) => self.bind(pod, node),
            Decision::Nowhere(diagnosis) => self.refuse(pod, diagnosis),
        }
    }

    fn bind(&mut self, pod: &Arc<Pod>, node: String) {
        self.cluster.assume(pod, &node);
        self.parts.verdicts.forget(&ObjectKey::of(&**pod));
        let (client, tell, pod) = (self.parts.client.clone(), self.tell.clone(), Arc::clone(pod));
        tasks::spawn("bind", async move {
            let outcome = writes::bind(&client, &pod, &node).await;
            // Fails only when the loop has ended.
            let _ = tell.send(News::Bound { pod, node, outcome });
        });
    }

    fn refuse(&mut self, pod: &Arc<Pod>, diagnosis: Diagnosis) {
        let parts = &self.parts;
        let message = diagnosis.message();
        self.queue.refused(&uid(pod), diagnosis.unblocked_by(&parts.plugins), parts.clock.monotonic());
        parts.metrics.attempt("unschedulable");
        parts.verdicts.keep(ObjectKey::of(&**pod), diagnosis);
        writes::announce_failed(&parts.recorder, pod, &message);
        let (client, pod, now) = (parts.client.clone(), Arc::clone(pod), parts.clock.now());
        tasks::spawn("say-refused", async move { writes::say_refused(&client, &pod, &message, now).await });
    }
}

fn is_bound(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty())
}

/// Whether a pod's containers are over for good.
fn has_ended(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// Whether a pod without a node waits for us.
fn is_ours(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    pod.metadata.deletion_timestamp.is_none()
        && matches!(spec.scheduler_name.as_deref(), None | Some("" | "default-scheduler"))
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
}

fn node_events(old: Option<&Node>, new: &Node) -> Vec<ClusterEvent> {
    let Some(old) = old else { return vec![ClusterEvent::NodeAdded] };
    let mut events = Vec::new();
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    let closed = |node: &Node| {
        node.spec
            .as_ref()
            .map(|spec| (spec.unschedulable.unwrap_or(false), spec.taints.clone()))
            .unwrap_or_default()
    };
    if allocatable(old) != allocatable(new) {
        events.push(ClusterEvent::NodeAllocatable);
    }
    if old.metadata.labels != new.metadata.labels {
        events.push(ClusterEvent::NodeLabels);
    }
    if closed(old) != closed(new) {
        events.push(ClusterEvent::NodeTaints);
    }
    events
}
