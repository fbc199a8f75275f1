//! The only component that writes pod statuses to the API server: the latest
//! status of each pod wins, what did not change is not written, a failure is
//! tried again. The status of a static pod goes to its mirror, if it has one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::PodStatus;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cluster::{Cluster, ClusterError};
use crate::pod::PodId;

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Board {
    wanted: HashMap<PodId, PodStatus>,
    written: HashMap<PodId, PodStatus>,
    /// Static pods, and the mirror that each has now.
    mirrors: HashMap<PodId, Option<PodId>>,
}

impl Board {
    /// The object that a pod's status goes to; nothing for a static pod without
    /// a mirror.
    fn object<'a>(&'a self, id: &'a PodId) -> Option<&'a PodId> {
        self.mirrors.get(id).map_or(Some(id), Option::as_ref)
    }

    /// What is to be written: the pod, where its status goes, and the status.
    fn due(&self) -> Vec<(PodId, PodId, PodStatus)> {
        let unwritten = self.wanted.iter().filter(|(id, status)| self.written.get(*id) != Some(*status));
        unwritten
            .filter_map(|(id, status)| Some((id.clone(), self.object(id)?.clone(), status.clone())))
            .collect()
    }
}

/// The writer; cheap to clone.
#[derive(Clone)]
pub struct Writer {
    board: Arc<Mutex<Board>>,
    work: Arc<Notify>,
    written: Arc<Notify>,
}

impl Writer {
    /// Starts the task that writes.
    #[must_use]
    pub fn start(cluster: Arc<dyn Cluster>) -> Self {
        let writer = Self { board: Arc::default(), work: Arc::default(), written: Arc::default() };
        daemon::tasks::spawn("status-writer", writer.clone().run(cluster));
        writer
    }

    /// Sets a pod's status. Whether it is news.
    pub fn set(&self, id: &PodId, status: PodStatus) -> bool {
        let mut board = self.board.lock();
        let is_news = board.wanted.get(id) != Some(&status);
        if is_news {
            board.wanted.insert(id.clone(), status);
            drop(board);
            self.work.notify_one();
        }
        is_news
    }

    /// Says that a pod is static, and which mirror it has now. A new mirror gets
    /// the status anew.
    pub fn mirror(&self, id: &PodId, mirror: Option<PodId>) {
        let mut board = self.board.lock();
        if board.mirrors.get(id) != Some(&mirror) {
            board.mirrors.insert(id.clone(), mirror);
            board.written.remove(id);
            drop(board);
            self.work.notify_one();
        }
    }

    /// Whether the API server has what was set last, or there is nothing there
    /// that could have it.
    #[must_use]
    pub fn is_written(&self, id: &PodId) -> bool {
        let board = self.board.lock();
        if board.object(id).is_none() {
            return true;
        }
        board.wanted.get(id).is_some_and(|wanted| board.written.get(id) == Some(wanted))
    }

    /// Waits until something was written.
    pub async fn next_write(&self) {
        self.written.notified().await;
    }

    /// Forgets a pod.
    pub fn forget(&self, id: &PodId) {
        let mut board = self.board.lock();
        board.wanted.remove(id);
        board.written.remove(id);
        board.mirrors.remove(id);
    }

    async fn run(self, cluster: Arc<dyn Cluster>) {
        let mut pause = RETRY_FIRST;
        loop {
            let due = self.board.lock().due();
            if due.is_empty() {
                self.work.notified().await;
                continue;
            }
            let writes =
                due.into_iter().map(|(id, object, status)| self.write(cluster.as_ref(), id, object, status));
            let all_well = futures::future::join_all(writes).await.into_iter().all(|is_well| is_well);
            self.written.notify_waiters();
            if all_well {
                pause = RETRY_FIRST;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_LONGEST);
            }
        }
    }

    async fn write(&self, cluster: &dyn Cluster, id: PodId, object: PodId, status: PodStatus) -> bool {
        let Ok(body) = serde_json::to_value(&status) else { return true };
        match cluster.patch_pod_status(&object, &body).await {
            // A pod that is gone needs no status.
            Ok(()) | Err(ClusterError::NotFound { .. } | ClusterError::Conflict(_)) => {
                let mut board = self.board.lock();
                // Unless a static pod has got another mirror meanwhile.
                if board.object(&id) == Some(&object) {
                    board.written.insert(id, status);
                }
                true
            }
            Err(error) => {
                tracing::warn!(namespace = %id.namespace, name = %id.name, error = %error, "status not written");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_pods_status_goes_to_its_mirror() {
        let id = |uid: &str| PodId { uid: uid.to_owned(), namespace: "n".to_owned(), name: "p".to_owned() };
        let writer = Writer { board: Arc::default(), work: Arc::default(), written: Arc::default() };
        let objects = || -> Vec<String> {
            writer.board.lock().due().into_iter().map(|(_, object, _)| object.uid).collect()
        };
        writer.set(&id("usual"), PodStatus::default());
        assert_eq!(objects(), ["usual"]);
        writer.forget(&id("usual"));
        writer.mirror(&id("static"), None);
        writer.set(&id("static"), PodStatus::default());
        assert_eq!(objects(), [""; 0], "nobody could have it");
        assert!(writer.is_written(&id("static")));
        writer.mirror(&id("static"), Some(id("mirror")));
        assert_eq!(objects(), ["mirror"]);
        assert!(!writer.is_written(&id("static")));
        writer.board.lock().written.insert(id("static"), PodStatus::default());
        assert!(writer.is_written(&id("static")) && objects().is_empty());
        writer.mirror(&id("static"), Some(id("another")));
        assert_eq!(objects(), ["another"], "a new mirror gets the status anew");
    }
}
