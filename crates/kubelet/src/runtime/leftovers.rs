//! What a kubelet that died in the middle of something left behind, and that no
//! record leads to: found once, before anything new is begun.

use std::collections::HashSet;

use containerd_client::services::v1::snapshots as snaps;

use super::containerd::{RuntimeError, failed};
use super::{Runtime, labels, stdio};
use crate::images::store::SNAPSHOTTER;

impl Runtime {
    /// Removes roots whose container was never recorded, and pipes whose reader
    /// or writer died; brings back loggers that did.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn remove_leftovers(&self) -> Result<(), RuntimeError> {
        let ours = self.ours().await?;
        for container in ours.iter().filter(|one| labels::recorded_exit(one).is_none()) {
            // In case it died with the kubelet that started it.
            if let Some(plan) = stdio::logger_of(&container.labels) {
                self.start_logger(&plan)?;
            }
        }
        let recorded: HashSet<String> = ours.into_iter().map(|container| container.id).collect();
        for key in self.roots().await?.into_iter().filter(|key| !recorded.contains(key)) {
            tracing::info!(snapshot = key, "removing the root of a container that was never made");
            self.remove_snapshot(&key).await?;
        }
        let entries = std::fs::read_dir(self.settings.state.join("io")).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_used = stdio::owner(&name).is_some_and(|id| recorded.contains(id));
            let removed = match entry.file_type() {
                _ if is_used => Ok(()),
                Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(entry.path()),
                _ => std::fs::remove_file(entry.path()),
            };
            removed.map_err(RuntimeError::io(format!("remove {}", entry.path().display())))?;
        }
        Ok(())
    }

    /// The keys of this kubelet's containers' roots.
    async fn roots(&self) -> Result<Vec<String>, RuntimeError> {
        let request = snaps::ListSnapshotsRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            filters: vec![format!("labels.\"{}\"=={:?}", labels::ROOT, self.root_label())],
        };
        let listed = self.containerd.snapshots().list(self.containerd.request(request)).await;
        let mut parts = listed.map_err(failed("list snapshots"))?.into_inner();
        let mut keys = Vec::new();
        while let Some(part) = parts.message().await.map_err(failed("list snapshots"))? {
            keys.extend(part.info.into_iter().map(|info| info.name));
        }
        Ok(keys)
    }
}
