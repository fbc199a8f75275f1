//! One signal to stop, seen by everybody; a second one exits at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether, and since when, the process is stopping. Clones are the same signal.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A shutdown that only [`Self::begin`] starts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that starts on SIGTERM or SIGINT.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let begun = shutdown.clone();
        crate::tasks::spawn("signals", follow_signals(begun, terminate, interrupt));
        Ok(shutdown)
    }

    /// Starts the shutdown.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Whether it has started.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it starts.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }

    /// A shutdown that also starts when this one does, but not the other way.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}

#[expect(clippy::disallowed_methods, reason = "a second signal means at once, drops and flushes be damned")]
async fn follow_signals(shutdown: Shutdown, mut terminate: Signal, mut interrupt: Signal) {
    let mut signals = 0;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        signals += 1;
        if signals == 1 {
            tracing::info!("stopping");
            shutdown.begin();
        } else {
            tracing::warn!("second signal: exiting at once");
            std::process::exit(130);
        }
    }
}
