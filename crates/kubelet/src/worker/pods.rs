//! All pods of the node: starts a worker for each, tells it what it needs to
//! know, finds again what runs after a restart.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::types::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use super::stage::Verdict;
use super::task::{Desired, Shown, Tools, Worker};
use crate::cluster::{PodChange, Source};
use crate::pod::{self, PodId};
use crate::runtime::RuntimeEvent;
use crate::sources::mirror::Mirrors;

struct Entry {
    desired: watch::Sender<Desired>,
    shown: watch::Receiver<Shown>,
    nudge: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Entry {
    /// Whether the worker has ended.
    fn is_over(&self) -> bool {
        self.desired.is_closed()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The pods of this node.
pub struct Pods {
    tools: Arc<Tools>,
    mirrors: Mirrors,
    state: Mutex<State>,
    /// A worker has ended.
    ended: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// By uid.
    entries: HashMap<String, Entry>,
    /// Static pods that may not start yet: another pod of their name still has a
    /// worker, or it is not known yet what was left by an earlier kubelet.
    held: Vec<Arc<Pod>>,
    /// Whether all manifests were read once.
    knows_files: bool,
    /// Whether all pods of the API server are known.
    knows_api: bool,
}

impl State {
    /// Whether another pod stands in the way of a static pod.
    fn is_taken(&self, id: &PodId) -> bool {
        self.entries.values().any(|entry| {
            let other = pod::id(&entry.desired.borrow().pod);
            (&other.namespace, &other.name) == (&id.namespace, &id.name) && other.uid != id.uid
        })
    }
}

impl Pods {
    /// No pods yet.
    #[must_use]
    pub fn new(tools: Arc<Tools>, node: &str) -> Arc<Self> {
        let mirrors = Mirrors::start(Arc::clone(&tools.cluster), tools.writer.clone(), node);
        Arc::new(Self { tools, mirrors, state: Mutex::default(), ended: Arc::default() })
    }

    /// What pods are made with.
    #[must_use]
    pub const fn tools(&self) -> &Arc<Tools> {
        &self.tools
    }

    /// Follows the sources of pods and the runtime until both end.
    pub async fn run(self: Arc<Self>, mut changes: mpsc::Receiver<PodChange>) {
        if let Err(error) = self.tools.runtime.remove_leftovers().await {
            tracing::error!(error = %error, "leftovers of an earlier kubelet not removed");
        }
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
                () = self.ended.notified() => self.sweep(),
            }
        }
    }

    async fn take(&self, change: PodChange) {
        match change {
            // The API's picture of a static pod is not a pod to run.
            PodChange::Set(pod) if pod::is_mirror(&pod) => self.mirrors.seen(&pod),
            PodChange::Set(pod) => self.set(pod),
            PodChange::Gone(id) => {
                self.mirrors.gone(&id);
                self.set_gone(&id);
            }
            PodChange::Synced(source) => self.complete(source).await,
        }
    }

    fn set(&self, pod: Arc<Pod>) {
        let id = pod::id(&pod);
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.get(&id.uid).filter(|entry| !entry.is_over()) {
            entry.desired.send_modify(|desired| desired.pod = pod);
        } else if pod::is_static(&pod) && (!state.knows_files || state.is_taken(&id)) {
            state.held.retain(|held| pod::id(held).uid != id.uid);
            state.held.push(pod);
        } else {
            self.start(&mut state, Desired { pod, is_gone: false, eviction: None });
        }
    }

    fn set_gone(&self, id: &PodId) {
        let mut state = self.state.lock();
        state.held.retain(|held| pod::id(held).uid != id.uid);
        if let Some(entry) = state.entries.get(&id.uid) {
            entry.desired.send_modify(|desired| desired.is_gone = true);
        }
    }

    /// Forgets workers that have ended, and starts what waited for them.
    fn sweep(&self) {
        let mut state = self.state.lock();
        let ended: Vec<Entry> =
            state.entries.extract_if(|_, entry| entry.is_over()).map(|(_, entry)| entry).collect();
        for entry in ended {
            let pod = Arc::clone(&entry.desired.borrow().pod);
            if pod::is_static(&pod) {
                self.mirrors.hide(&pod::id(&pod));
            }
        }
        self.start_held(&mut state);
    }

    fn start_held(&self, state: &mut State) {
        if !state.knows_files {
            return;
        }
        for pod in std::mem::take(&mut state.held) {
            if state.is_taken(&pod::id(&pod)) {
                state.held.push(pod);
            } else {
                self.start(state, Desired { pod, is_gone: false, eviction: None });
            }
        }
    }

    /// Wants a pod down, with a verdict.
    pub fn evict(&self, uid: &str, verdict: Verdict) {
        if let Some(entry) = self.state.lock().entries.get(uid) {
            entry.desired.send_modify(|desired| desired.eviction = Some(verdict));
        }
    }

    fn start(&self, state: &mut State, desired: Desired) {
        let pod = Arc::clone(&desired.pod);
        let nudge = Arc::new(Notify::new());
        let status = pod.status.clone().unwrap_or_default();
        let (sender, receiver) = watch::channel(desired);
        let (shown_sender, shown) = watch::channel(Shown { status, ..Shown::default() });
        if pod::is_static(&pod) {
            self.mirrors.show(&pod);
        }
        let worker = Worker::new(Arc::clone(&self.tools), receiver, Arc::clone(&nudge), shown_sender);
        let ended = Arc::clone(&self.ended);
        let task = daemon::tasks::spawn("pod", async move {
            worker.run().await;
            ended.notify_one();
        });
        state.entries.insert(pod::id(&pod).uid, Entry { desired: sender, shown, nudge, task });
    }

    /// A source is complete. What is left of static pods is known as soon as the
    /// manifests are; the rest, once the API server has been asked, too.
    async fn complete(&self, source: Source) {
        let knows_all = {
            let mut state = self.state.lock();
            match source {
                Source::Files => state.knows_files = true,
                Source::Api => state.knows_api = true,
            }
            state.knows_files && state.knows_api
        };
        if source == Source::Api {
            self.mirrors.synced();
        }
        if source == Source::Files || knows_all {
            self.adopt_orphans(knows_all).await;
        }
        if knows_all {
            self.remove_leftovers();
        }
        let mut state = self.state.lock();
        self.start_held(&mut state);
    }

    /// Pods that containerd knows, but no source does: they are brought down.
    /// Until everything is known, that can be said of static pods only.
    async fn adopt_orphans(&self, knows_all: bool) {
        let found = match self.tools.runtime.pods().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(error = %error, "orphaned pods not looked for");
                return;
            }
        };
        let mut state = self.state.lock();
        for (id, pod) in found {
            let is_from_file = pod.as_ref().is_some_and(pod::is_static);
            let is_held = state.held.iter().any(|held| pod::id(held).uid == id.uid);
            if state.entries.contains_key(&id.uid) || is_held || !(is_from_file || knows_all) {
                continue;
            }
            tracing::info!(namespace = %id.namespace, name = %id.name, uid = %id.uid, "found an orphaned pod");
            let pod = Arc::new(pod.unwrap_or_else(|| bare(&id)));
            self.start(&mut state, Desired { pod, is_gone: true, eviction: None });
        }
    }

    /// Directories and control groups of pods that are no more.
    fn remove_leftovers(&self) {
        let known: HashSet<String> = {
            let state = self.state.lock();
            let held = state.held.iter().map(|pod| pod::id(pod).uid);
            state.entries.keys().cloned().chain(held).collect()
        };
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
        let logs = &self.tools.runtime.settings().logs;
        for entry in std::fs::read_dir(logs).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // NAMESPACE_NAME_UID
            let is_orphan = name.rsplit_once('_').is_some_and(|(_, uid)| !known.contains(uid));
            if is_orphan && let Err(error) = std::fs::remove_dir_all(entry.path()) {
                tracing::warn!(directory = name, error = %error, "orphaned logs not removed");
            }
        }
    }

    fn nudge(&self, event: &RuntimeEvent) {
        let state = self.state.lock();
        for (uid, entry) in &state.entries {
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
    /// shown of it. A static pod answers to its mirror's uid as well, which the
    /// API server knows it by.
    #[must_use]
    pub fn find(&self, namespace: &str, name: &str, uid: &str) -> Option<(Arc<Pod>, Shown)> {
        let state = self.state.lock();
        let of = |entry: &Entry| (Arc::clone(&entry.desired.borrow().pod), entry.shown.borrow().clone());
        state.entries.values().map(of).find(|(pod, _)| {
            let id = pod::id(pod);
            let is_meant = uid.is_empty() || id.uid == uid || pod::is_static(pod);
            id.namespace == namespace && id.name == name && is_meant
        })
    }

    /// Resolves when a container has ended and all that it wrote is in its log, or
    /// its pod is gone.
    pub fn end_of(&self, id: &PodId, container: &str) -> impl Future<Output = ()> + Send + use<> {
        let shown = self.state.lock().entries.get(&id.uid).map(|entry| entry.shown.clone());
        let container = container.to_owned();
        async move {
            let Some(mut shown) = shown else { return };
            let is_over = |shown: &Shown| !shown.observed.running().any(|record| record.id == container);
            // Without a worker nothing will be added either.
            let _ended = shown.wait_for(is_over).await;
        }
    }

    /// All pods.
    #[must_use]
    pub fn list(&self) -> Vec<(Arc<Pod>, Shown)> {
        let state = self.state.lock();
        let of = |entry: &Entry| (Arc::clone(&entry.desired.borrow().pod), entry.shown.borrow().clone());
        state.entries.values().map(of).collect()
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
