//! The only component that writes pod statuses to the API server: the latest
//! status of each pod wins, what did not change is not written, a failure is
//! tried again.

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

    /// Whether the API server has what was set last.
    #[must_use]
    pub fn is_written(&self, id: &PodId) -> bool {
        let board = self.board.lock();
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
    }

    async fn run(self, cluster: Arc<dyn Cluster>) {
        let mut pause = RETRY_FIRST;
        loop {
            let due: Vec<(PodId, PodStatus)> = {
                let board = self.board.lock();
                let due = board.wanted.iter().filter(|(id, status)| board.written.get(*id) != Some(status));
                due.map(|(id, status)| (id.clone(), status.clone())).collect()
            };
            if due.is_empty() {
                self.work.notified().await;
                continue;
            }
            let writes = due.into_iter().map(|(id, status)| self.write(cluster.as_ref(), id, status));
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

    async fn write(&self, cluster: &dyn Cluster, id: PodId, status: PodStatus) -> bool {
        let Ok(body) = serde_json::to_value(&status) else { return true };
        match cluster.patch_pod_status(&id, &body).await {
            // A pod that is gone needs no status.
            Ok(()) | Err(ClusterError::NotFound { .. } | ClusterError::Conflict(_)) => {
                self.board.lock().written.insert(id, status);
                true
            }
            Err(error) => {
                tracing::warn!(namespace = %id.namespace, name = %id.name, error = %error, "status not written");
                false
            }
        }
    }
}
