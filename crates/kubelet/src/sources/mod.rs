//! Where this node's pods come from: the API server and manifest files
//! ([`files`]), merged into one stream of changes. A pod from a file is shown
//! at the API server by a mirror ([`mirror`]).

pub mod files;
pub mod manifest;
pub mod mirror;

use tokio::sync::mpsc;

use crate::cluster::{PodChange, Source};

/// One stream out of several; it ends when all have ended.
#[must_use]
pub fn merge(sources: Vec<mpsc::Receiver<PodChange>>) -> mpsc::Receiver<PodChange> {
    let (sender, merged) = mpsc::channel(64);
    for mut source in sources {
        let sender = sender.clone();
        daemon::tasks::spawn("pod-source", async move {
            while let Some(change) = source.recv().await {
                if sender.send(change).await.is_err() {
                    return;
                }
            }
        });
    }
    merged
}

/// A source that has no pods.
#[must_use]
pub fn empty(source: Source) -> mpsc::Receiver<PodChange> {
    let (sender, changes) = mpsc::channel(1);
    // The channel is empty and has room for one.
    let _cannot_fail = sender.try_send(PodChange::Synced(source));
    changes
}
