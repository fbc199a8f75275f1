//! Mirror pods: what the API server shows of this node's static pods.
//!
//! A mirror exists as long as its static pod has a worker. It is made again when
//! somebody deletes it, replaced when the static pod changed, and never takes
//! the place of another pod: a name that is taken is tried again later. What is
//! to be done is a pure function ([`plan`]); one task does it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::metav1::OwnerReference;
use api::types::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cluster::{Cluster, ClusterError};
use crate::pod::{self, PodId};
use crate::status::writer::Writer;

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// How long a mirror that was made may take to show up in the watch.
const PATIENCE: Duration = Duration::from_secs(30);

/// Namespace and name.
type Name = (String, String);

fn name_of(id: &PodId) -> Name {
    (id.namespace.clone(), id.name.clone())
}

/// What is known about static pods and their mirrors.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// Static pods with a worker.
    pub static_pods: BTreeMap<Name, Arc<Pod>>,
    /// Mirror pods that the API server has for this node.
    pub mirrors: BTreeMap<Name, Arc<Pod>>,
    /// Mirrors made but not seen yet, until when they are waited for.
    pub awaited: HashMap<Name, Instant>,
    /// Whether all mirrors of the API server are known.
    pub is_synced: bool,
}

/// One step towards the mirrors that there should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Show this static pod.
    Create(Arc<Pod>),
    /// Remove this mirror.
    Delete(PodId),
}

/// Whether `mirror` shows `pod` and may go on doing so.
fn shows(mirror: &Pod, pod: &Pod) -> bool {
    pod::annotation(mirror, pod::CONFIG_MIRROR) == pod::annotation(pod, pod::CONFIG_HASH)
        && mirror.metadata.deletion_timestamp.is_none()
}

/// What to do about the mirrors.
#[must_use]
pub fn plan(board: &Board, now: Instant) -> Vec<Step> {
    if !board.is_synced {
        return Vec::new();
    }
    let mut steps = Vec::new();
    for (name, mirror) in &board.mirrors {
        if !board.static_pods.get(name).is_some_and(|pod| shows(mirror, pod)) {
            steps.push(Step::Delete(pod::id(mirror)));
        }
    }
    for (name, pod) in &board.static_pods {
        let is_awaited = board.awaited.get(name).is_some_and(|until| *until > now);
        if !board.mirrors.contains_key(name) && !is_awaited {
            steps.push(Step::Create(Arc::clone(pod)));
        }
    }
    steps
}

/// The mirror of a static pod, owned by its node.
#[must_use]
pub fn mirror_of(pod: &Pod, node: &str, node_uid: &str) -> Pod {
    let mut mirror = pod.clone();
    mirror.status = None;
    mirror.metadata.uid = None;
    let hash = pod::annotation(pod, pod::CONFIG_HASH).unwrap_or_default().to_owned();
    mirror.metadata.annotations.get_or_insert_default().insert(pod::CONFIG_MIRROR.to_owned(), hash);
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: node_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror
}

/// The mirrors of this node's static pods; cheap to clone.
#[derive(Clone)]
pub struct Mirrors {
    board: Arc<Mutex<Board>>,
    changed: Arc<Notify>,
    writer: Writer,
}

impl Mirrors {
    /// Starts the task that keeps the mirrors of the node of that name.
    #[must_use]
    pub fn start(cluster: Arc<dyn Cluster>, writer: Writer, node: &str) -> Self {
        let mirrors = Self { board: Arc::default(), changed: Arc::default(), writer };
        daemon::tasks::spawn("mirror-pods", mirrors.clone().run(cluster, node.to_owned()));
        mirrors
    }

    /// A static pod has a worker now.
    pub fn show(&self, pod: &Arc<Pod>) {
        self.change(&pod::id(pod), |board, name| {
            board.static_pods.insert(name, Arc::clone(pod));
        });
    }

    /// A static pod's worker has ended.
    pub fn hide(&self, id: &PodId) {
        self.change(id, |board, name| {
            if board.static_pods.get(&name).is_some_and(|pod| pod::id(pod).uid == id.uid) {
                board.static_pods.remove(&name);
            }
        });
    }

    /// The API server has this mirror.
    pub fn seen(&self, mirror: &Arc<Pod>) {
        self.change(&pod::id(mirror), |board, name| {
            board.awaited.remove(&name);
            board.mirrors.insert(name, Arc::clone(mirror));
        });
    }

    /// The API server has no longer this pod, which may have been a mirror.
    pub fn gone(&self, id: &PodId) {
        self.change(id, |board, name| {
            if board.mirrors.get(&name).is_some_and(|mirror| pod::id(mirror).uid == id.uid) {
                board.mirrors.remove(&name);
                board.awaited.remove(&name);
            }
        });
    }

    /// All mirrors that the API server has were seen once.
    pub fn synced(&self) {
        self.board.lock().is_synced = true;
        self.changed.notify_one();
    }

    /// Changes the board about one name, and tells the status writer where the
    /// status of the static pod of that name goes.
    fn change(&self, id: &PodId, change: impl FnOnce(&mut Board, Name)) {
        let name = name_of(id);
        let mut board = self.board.lock();
        change(&mut board, name.clone());
        if let Some(pod) = board.static_pods.get(&name) {
            let mirror = board.mirrors.get(&name).filter(|mirror| shows(mirror, pod));
            self.writer.mirror(&pod::id(pod), mirror.map(|mirror| pod::id(mirror)));
        }
        drop(board);
        self.changed.notify_one();
    }

    async fn run(self, cluster: Arc<dyn Cluster>, node: String) {
        let mut pause = RETRY_FIRST;
        loop {
            let steps = plan(&self.board.lock(), crate::time::monotonic());
            let mut is_well = true;
            for step in steps {
                if let Err(error) = self.carry_out(cluster.as_ref(), &node, &step).await {
                    tracing::warn!(step = %describe(&step), error = %error, "mirror pod not kept");
                    is_well = false;
                }
            }
            let wait = if is_well { PATIENCE } else { pause };
            pause = if is_well { RETRY_FIRST } else { (pause * 2).min(RETRY_LONGEST) };
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn carry_out(&self, cluster: &dyn Cluster, node: &str, step: &Step) -> Result<(), ClusterError> {
        match step {
            Step::Delete(id) => match cluster.delete_pod(id).await {
                Err(ClusterError::NotFound { .. } | ClusterError::Conflict(_)) => Ok(()),
                other => other,
            },
            Step::Create(pod) => {
                let owner = cluster.node(node).await?;
                let mirror = mirror_of(pod, node, owner.metadata.uid.as_deref().unwrap_or_default());
                cluster.create_pod(&mirror).await?;
                let until = crate::time::monotonic() + PATIENCE;
                let mut board = self.board.lock();
                let name = name_of(&pod::id(pod));
                // The watch may have been quicker than the answer.
                if !board.mirrors.contains_key(&name) {
                    board.awaited.insert(name, until);
                }
                Ok(())
            }
        }
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Create(pod) => format!("create {}", pod::id(pod)),
        Step::Delete(id) => format!("delete {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_pod(name: &str, uid: &str, annotations: &[(&str, &str)]) -> Arc<Pod> {
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        let value = serde_json::json!({"metadata": {
            "namespace": "n", "name": name, "uid": uid, "annotations": annotations
        }});
        Arc::new(serde_json::from_value(value).expect("a pod"))
    }

    fn static_pod(name: &str, hash: &str) -> Arc<Pod> {
        a_pod(name, hash, &[(pod::CONFIG_SOURCE, "file"), (pod::CONFIG_HASH, hash)])
    }

    fn mirror(name: &str, hash: &str) -> Arc<Pod> {
        a_pod(name, &format!("mirror-of-{hash}"), &[(pod::CONFIG_MIRROR, hash)])
    }

    fn board(static_pods: &[Arc<Pod>], mirrors: &[Arc<Pod>]) -> Board {
        let by_name =
            |pods: &[Arc<Pod>]| pods.iter().map(|pod| (name_of(&pod::id(pod)), Arc::clone(pod))).collect();
        Board {
            static_pods: by_name(static_pods),
            mirrors: by_name(mirrors),
            is_synced: true,
            ..Board::default()
        }
    }

    fn steps(board: &Board) -> Vec<String> {
        plan(board, crate::time::monotonic()).iter().map(describe).collect()
    }

    #[test]
    fn mirrors_follow_static_pods() {
        let (a, b) = (static_pod("a", "1"), static_pod("b", "2"));
        let mut deleted = Pod::clone(&mirror("a", "1"));
        deleted.metadata.deletion_timestamp = Some(api::metav1::Time(jiff::Timestamp::UNIX_EPOCH));
        let cases: [(&str, Board, &[&str]); 6] = [
            ("new", board(std::slice::from_ref(&a), &[]), &["create n/a (1)"]),
            ("shown", board(&[a.clone(), b.clone()], &[mirror("a", "1"), mirror("b", "2")]), &[]),
            ("orphaned", board(&[], &[mirror("a", "1")]), &["delete n/a (mirror-of-1)"]),
            ("outdated", board(std::slice::from_ref(&a), &[mirror("a", "0")]), &["delete n/a (mirror-of-0)"]),
            (
                "being deleted",
                board(std::slice::from_ref(&a), &[Arc::new(deleted)]),
                &["delete n/a (mirror-of-1)"],
            ),
            (
                "unknown",
                Board { is_synced: false, ..board(std::slice::from_ref(&a), &[mirror("x", "9")]) },
                &[],
            ),
        ];
        for (what, board, expected) in cases {
            assert_eq!(steps(&board), expected, "{what}");
        }
        let mut awaited = board(&[b], &[]);
        let name = ("n".to_owned(), "b".to_owned());
        awaited.awaited.insert(name.clone(), crate::time::monotonic() + PATIENCE);
        assert_eq!(steps(&awaited), [""; 0], "it was made a moment ago");
        awaited.awaited.insert(name, crate::time::monotonic());
        assert_eq!(steps(&awaited), ["create n/b (2)"], "it never showed up");
    }

    #[test]
    fn a_mirror_is_owned_by_the_node() {
        let mirror = mirror_of(&static_pod("a", "1"), "node-1", "node-uid");
        assert_eq!(pod::annotation(&mirror, pod::CONFIG_MIRROR), Some("1"));
        assert!(pod::is_mirror(&mirror) && mirror.metadata.uid.is_none());
        let owners = mirror.metadata.owner_references.expect("owners");
        assert_eq!((owners[0].kind.as_str(), owners[0].uid.as_str()), ("Node", "node-uid"));
    }
}
