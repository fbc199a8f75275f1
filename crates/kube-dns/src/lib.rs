//! kube-dns: names of the cluster, and the way to all others.
//!
//! [`answer::answer`] is pure: a question and the [`zone::Zone`] in, an answer
//! out, as the Kubernetes DNS specification has it. [`respond`] makes messages
//! of it and asks [`forward`] about other names; [`serve`] owns the sockets.
//!
//! It does not know who makes endpoints, and keeps no state but its caches.

pub mod answer;
pub mod assemble;
pub mod config;
pub mod forward;
pub mod metrics;
pub mod remembered;
pub mod respond;
pub mod serve;
pub mod zone;

pub use assemble::assemble;
