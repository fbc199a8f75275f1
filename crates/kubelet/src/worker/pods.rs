//! All pods of the node: starts a worker for each, tells it what it needs to
//! know, finds again what runs after a restart.

use std::collections::HashMap;
use std::sync::Arc;

use api::types::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use super::stage::Verdict;
use super::task::{Desired, Shown, Tools, Worker};
use crate::cluster::PodChange;
use crate::pod::{self, PodId};
use crate::runtime::RuntimeEvent;

struct Entry {
    desired: watch::Sender<Desired>,
    shown: watch::Receiver<Shown>,
    nudge: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The pods of this node.
pub struct Pods {
    tools: Arc<Tools>,
    entries: Mutex<HashMap<String, Entry>>,
}

impl Pods {
    /// No pods yet.
    #[must_use]
    pub fn new(tools: Arc<Tools>) -> Arc<Self> {
        Arc::new(Self { tools, entries: Mutex::default() })
    }

    /// What pods are made with.
    #[must_use]
    pub const fn tools(&self) -> &Arc<Tools> {
        &self.tools
    }

    /// Follows the sources of pods and the runtime until both end.
    pub async fn run(self: Arc<Self>, mut changes: mpsc::Receiver<PodChange>) {
        let mut events = self.tools.runtime.events();
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => self.take(change).await,
                    None => return,
                },
                event = events.recv() => match event {
                    Some(event) => self.nudge(&event),
                    None => return,
                },
            }
        }
    }

    async fn take(&self, change: PodChange) {
        match change {
            // The API's picture of a static pod is not a pod to run.
            PodChange::Set(pod) if pod::is_mirror(&pod) => {}
            PodChange::Set(pod) => self.set(pod),
            PodChange::Gone(id) => self.set_gone(&id),
            PodChange::Synced => self.adopt_orphans().await,
        }
    }

    fn set(&self, pod: Arc<Pod>) {
        let id = pod::id(&pod);
        let mut entries = self.entries.lock();
        entries.retain(|_, entry| !entry.task.is_finished());
        if let Some(entry) = entries.get(&id.uid) {
            entry.desired.send_modify(|desired| desired.pod = pod);
            return;
        }
        let entry = self.start(Desired { pod, is_gone: false, eviction: None });
        entries.insert(id.uid, entry);
    }

    fn set_gone(&self, id: &PodId) {
        let entries = self.entries.lock();
        if let Some(entry) = entries.get(&id.uid) {
            entry.desired.send_modify(|desired| desired.is_gone = true);
        }
    }

    /// Wants a pod down, with a verdict.
    pub fn evict(&self, uid: &str, verdict: Verdict) {
        if let Some(entry) = self.entries.lock().get(uid) {
            entry.desired.send_modify(|desired| desired.eviction = Some(verdict));
        }
    }

    fn start(&self, desired: Desired) -> Entry {
        let nudge = Arc::new(Notify::new());
        let status = desired.pod.status.clone().unwrap_or_default();
        let (sender, receiver) = watch::channel(desired);
        let (shown_sender, shown) = watch::channel(Shown { status, ..Shown::default() });
        let worker = Worker::new(Arc::clone(&self.tools), receiver, Arc::clone(&nudge), shown_sender);
        let task = daemon::tasks::spawn("pod", worker.run());
        Entry { desired: sender, shown, nudge, task }
    }

    /// Pods that containerd, the disk or the cgroups know, but no source does:
    /// they are brought down.
    async fn adopt_orphans(&self) {
        let found = match self.tools.runtime.pods().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(error = %error, "orphaned pods not looked for");
                return;
            }
        };
        {
            let mut entries = self.entries.lock();
            for (id, pod) in &found {
                if entries.contains_key(&id.uid) {
                    continue;
                }
                tracing::info!(namespace = %id.namespace, name = %id.name, uid = %id.uid, "found an orphaned pod");
                let pod = pod.clone().unwrap_or_else(|| bare(id));
                entries.insert(
                    id.uid.clone(),
                    self.start(Desired { pod: Arc::new(pod), is_gone: true, eviction: None }),
                );
            }
        }
        let known: Vec<String> = self.entries.lock().keys().cloned().collect();
        for uid in self.tools.volumes.pods().into_iter().filter(|uid| !known.contains(uid)) {
            if let Err(error) = self.tools.volumes.remove_pod(&uid) {
                tracing::warn!(uid, error = %error, "orphaned volumes not removed");
            }
        }
        for uid in self.tools.runtime.cgroups().pods().into_iter().filter(|uid| !known.contains(uid)) {
            if let Err(error) = self.tools.runtime.cgroups().remove_pod(&uid) {
                tracing::warn!(uid, error = %error, "orphaned control group not removed");
            }
        }
    }

    fn nudge(&self, event: &RuntimeEvent) {
        let entries = self.entries.lock();
        for (uid, entry) in entries.iter() {
            let is_meant = match event {
                RuntimeEvent::Resynchronize => true,
                RuntimeEvent::Exited(container) => container.starts_with(&pod::id_prefix(uid)),
            };
            if is_meant {
                entry.nudge.notify_one();
            }
        }
    }

    /// A pod by namespace and name, and by uid if one is given, with what is
    /// shown of it.
    #[must_use]
    pub fn find(&self, namespace: &str, name: &str, uid: &str) -> Option<(Arc<Pod>, Shown)> {
        let entries = self.entries.lock();
        let of = |entry: &Entry| (Arc::clone(&entry.desired.borrow().pod), entry.shown.borrow().clone());
        entries.values().map(of).find(|(pod, _)| {
            let id = pod::id(pod);
            id.namespace == namespace && id.name == name && (uid.is_empty() || id.uid == uid)
        })
    }

    /// All pods.
    #[must_use]
    pub fn list(&self) -> Vec<(Arc<Pod>, Shown)> {
        let entries = self.entries.lock();
        entries
            .values()
            .map(|entry| (Arc::clone(&entry.desired.borrow().pod), entry.shown.borrow().clone()))
            .collect()
    }
}

/// As much of a pod as its name says.
fn bare(id: &PodId) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(id.uid.clone());
    pod.metadata.namespace = Some(id.namespace.clone());
    pod.metadata.name = Some(id.name.clone());
    pod.spec = Some(api::types::core::v1::PodSpec::default());
    pod
}
