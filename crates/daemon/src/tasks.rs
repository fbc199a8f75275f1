//! Background tasks with a name: a panic in one is logged instead of lost.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// Starts a task. A panic in it is logged with the task's name; the process
/// goes on (release builds abort on panic, and the service is started again).
#[expect(clippy::disallowed_methods, reason = "this is the named replacement for the bare spawn")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let watched = NamedTask { name, finished: false };
    tokio::spawn(
        async move {
            let mut watched = watched;
            let output = future.await;
            watched.finished = true;
            output
        }
        .instrument(tracing::debug_span!("task", name)),
    )
}

struct NamedTask {
    name: &'static str,
    finished: bool,
}

impl Drop for NamedTask {
    fn drop(&mut self) {
        if !self.finished && std::thread::panicking() {
            tracing::error!(task = self.name, "task panicked");
        }
    }
}
