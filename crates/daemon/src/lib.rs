//! The process shell that every daemon shares: flags and configuration file,
//! logging, health and metrics port, TLS files with live reload, clock, tasks,
//! shutdown, and the word to systemd that it is ready.
//!
//! It knows nothing of Kubernetes. Start reading in [`shell`], which runs a
//! daemon from its first line to its last.

pub mod clock;
pub mod config;
pub mod health;
pub mod logging;
pub mod server;
pub mod shell;
pub mod shutdown;
pub mod systemd;
pub mod tasks;
pub mod tls;

pub use clock::{Clock, SystemClock};
pub use health::Health;
pub use prometheus_client::registry::Registry;
pub use shell::{Shell, run};
pub use shutdown::Shutdown;
