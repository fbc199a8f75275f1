//! Stopping containers: hooks, turns, signals, all within the grace period.

use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::Pod;
use tokio::sync::watch;

use super::task::{Next, Trouble, Worker};
use crate::pod::{self, Role};
use crate::runtime::record::{Observed, Record};

/// Whatever hooks and turns took, a container gets this long between the signals
/// (upstream's rule).
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// For each container that runs, the places in the list of those that must have
/// ended before it is stopped: a sidecar outlives the main containers and the
/// sidecars that were started after it.
fn turns(pod: &Pod, running: &[&Record]) -> Vec<Vec<usize>> {
    let order = |record: &Record| {
        pod::init_containers(pod)
            .iter()
            .position(|container| container.name == record.name)
            .filter(|_| record.role == Role::Sidecar)
    };
    let comes_before = |other: &Record, own: Option<usize>| match (order(other), own) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(other), Some(own)) => other > own,
    };
    running
        .iter()
        .map(|record| {
            let own = order(record);
            (0..running.len()).filter(|other| comes_before(running[*other], own)).collect()
        })
        .collect()
}

impl Worker {
    /// Stops everything. All stop hooks begin at once; the main containers are
    /// stopped together, then the sidecars, the last first. Begins anew when the
    /// grace period is shortened.
    pub(super) async fn stop(
        &self,
        pod: &Arc<Pod>,
        observed: &Observed,
        grace_seconds: i64,
    ) -> Result<Next, Trouble> {
        let since = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        // The API's deletion time is when the grace period ends.
        let left = since.map_or(grace_seconds, |end| {
            end.duration_since(crate::time::now()).as_secs().clamp(1, grace_seconds.max(1))
        });
        let mut desired = self.desired.clone();
        let is_shorter = async {
            while desired.changed().await.is_ok() {
                let told = desired.borrow_and_update();
                let is_forced = told.is_gone && !pod::is_static(pod);
                if pod::grace_seconds(&told.pod) < grace_seconds || is_forced {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            done = self.stop_all(pod, observed, left) => done?,
            () = is_shorter => {}
        }
        Ok(Next::Again)
    }

    async fn stop_all(&self, pod: &Arc<Pod>, observed: &Observed, grace: i64) -> Result<(), Trouble> {
        let running: Vec<&Record> = observed.running().collect();
        let ends: Vec<watch::Sender<bool>> = running.iter().map(|_| watch::channel(false).0).collect();
        let stops = running.iter().zip(turns(pod, &running)).enumerate().map(|(number, (record, before))| {
            let waits: Vec<watch::Receiver<bool>> =
                before.into_iter().map(|other| ends[other].subscribe()).collect();
            let turn = async move {
                for mut other in waits {
                    // A container whose stop failed is not waited for.
                    let _ended = other.wait_for(|has_ended| *has_ended).await;
                }
            };
            let ends = &ends;
            async move {
                let message = format!("Stopping container {}", record.name);
                self.tell(pod, false, "Killing", message, Some(&record.name));
                let stopped = self.stop_one(pod, &record.id, &record.name, grace, turn).await;
                ends[number].send_replace(true);
                stopped
            }
        });
        futures::future::join_all(stops).await.into_iter().collect()
    }

    /// Stops one container: its stop hook, then its turn, then the signals, all
    /// within the grace period.
    pub(super) async fn stop_one(
        &self,
        pod: &Pod,
        id: &str,
        name: &str,
        grace_seconds: i64,
        turn: impl Future<Output = ()>,
    ) -> Result<(), Trouble> {
        let grace = Duration::from_secs(u64::try_from(grace_seconds).unwrap_or(1));
        let begun = crate::time::monotonic();
        self.pre_stop(pod, id, name, grace).await;
        // Out of time is out of turn.
        let _in_turn = tokio::time::timeout(grace.saturating_sub(begun.elapsed()), turn).await;
        let left = grace.saturating_sub(begun.elapsed()).max(LEAST_GRACE);
        self.tools.runtime.stop_container(id, left).await?;
        Ok(())
    }

    /// Runs the stop hook, once.
    async fn pre_stop(&self, pod: &Pod, id: &str, name: &str, grace: Duration) {
        let Some((_, container)) = pod::container(pod, name) else { return };
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let Some(hook) = hook else { return };
        if !self.stopped.lock().insert(id.to_owned()) {
            return;
        }
        let host = self.addresses(pod, &self.shown.borrow().observed).first().copied();
        let target = crate::probes::check::Target { container: id, specification: &container, host };
        let outcome = tokio::select! {
            outcome = super::hooks::run(&self.tools.runtime, hook, &target, grace) => outcome,
            // There is nobody left to stop.
            _ended = self.tools.runtime.wait(id) => Ok(()),
        };
        if let Err(why) = outcome {
            self.tell(pod, true, "FailedPreStopHook", why, Some(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::turns;
    use crate::worker::tests::{RUNNING, a_pod, record};

    #[test]
    fn sidecars_end_last_in_reverse() {
        let pod = a_pod(json!({
            "initContainers": [
                {"name": "first", "restartPolicy": "Always"}, {"name": "init"},
                {"name": "second", "restartPolicy": "Always"},
            ],
            "containers": [{"name": "a"}, {"name": "b"}],
        }));
        let records = ["a", "first", "b", "second"].map(|name| record(&pod, name, 0, RUNNING));
        let running: Vec<_> = records.iter().collect();
        assert_eq!(turns(&pod, &running), [vec![], vec![0, 2, 3], vec![], vec![0, 2]]);
    }
}
