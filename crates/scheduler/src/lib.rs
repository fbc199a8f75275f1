//! The scheduler: gives every pod without a node the node that suits it best.
//!
//! [`schedule::schedule`] is pure: a pod, a [`snapshot::Snapshot`] of the cluster
//! and a [`profile::Profile`] of [`plugins`] in, a decision out; where no node
//! fits, [`preemption`] says who could make room. Around it are the [`queue`] of
//! waiting pods, the [`cluster`] picture with the pods whose binding is under way,
//! and [`run`], the one shell that does IO. [`explanation`] is what is kept of a
//! decision for those who ask.
//!
//! What makes decisions cheap is in two places: the indexes of [`snapshot`], so
//! that nobody looks at the pods of other nodes, and [`memory`], so that equal
//! pods do not ask unchanged nodes again.
//!
//! It knows the API server only through `client`, and nothing of kubelets.

pub mod assemble;
pub mod checks;
pub mod cluster;
pub mod config;
pub mod diagnosis;
pub mod events;
mod evict;
pub mod explanation;
pub mod extender;
pub mod memory;
pub mod metrics;
pub mod news;
pub mod node_selector;
pub mod objection;
#[cfg(test)]
mod oracle;
pub mod plugins;
pub mod pod;
pub mod preemption;
pub mod profile;
pub mod queue;
pub mod resources;
pub mod run;
pub mod schedule;
pub mod snapshot;
pub mod terms;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod verdicts;
pub mod volumes;
mod writes;

pub use assemble::assemble;
