//! The node agent: keeps the pods bound to this node running through containerd.
//!
//! Start reading in [`worker`]: one task per pod, deciding by pure functions
//! ([`worker::stage`], [`worker::plan`]) over what [`runtime`] observes.
//! [`sources`] says which pods there are; [`status`] tells the API server; [`images`], [`network`], [`volumes`],
//! [`cgroups`], [`probes`] and [`logs`] each own one concern of a pod;
//! [`node`] speaks for the machine; [`server`] answers the API server.
//! [`build`] wires them together.

pub mod api_server;
pub mod build;
pub mod cgroups;
pub mod cluster;
pub mod config;
pub mod environment;
pub mod images;
pub mod logs;
pub mod network;
pub mod node;
pub mod pod;
pub mod probes;
pub mod runtime;
pub mod server;
pub mod sources;
pub mod standalone;
pub mod status;
pub mod time;
pub mod volumes;
pub mod worker;
