//! gRPC client of the API server: verbs, watches, cached lists, leader
//! election, events.
//!
//! It knows neither the store nor any concrete kind's rules. Start reading in
//! [`verbs`] for single requests, and in [`cached`] for what control loops use.

pub mod cached;
pub mod election;
pub mod events;
pub mod kubeconfig;
mod transport;
pub mod verbs;
pub mod watch;

pub use cached::{Cache, Change, Scope};
pub use events::Recorder;
pub use kubeconfig::{Kubeconfig, Session};
pub use transport::{ClientFiles, client_tls, grpc_channel};
pub use verbs::{Client, DeleteOptions, ListOptions, Patch, WriteOptions, of_grpc, to_grpc};
pub use wire::objects::Target;

/// Starts a background task of this crate or of the `reconcile` runtime above
/// it, which may not depend on the daemon shell.
#[expect(clippy::disallowed_methods, reason = "the named spawn lives in a crate that this one may not use")]
pub fn spawn_task<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}
