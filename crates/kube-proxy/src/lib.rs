//! kube-proxy: the traffic of services on a node, and the routes to the pods of
//! other nodes.
//!
//! [`rules::compute`] turns a service and its endpoints into a value;
//! [`rules::difference`] says in nft's language what to change; [`kernel`] sends
//! it in one transaction. Names of chains are hashes of their content, so what
//! is in the kernel can be compared with what should be there by name alone.
//! [`routes`] does the same for routes. Start reading in [`run`].
//!
//! It does not know who makes endpoints, and leaves every table but its own alone.

pub mod assemble;
pub mod base;
pub mod config;
pub mod conntrack;
pub mod kernel;
pub mod metrics;
pub mod programmer;
pub mod routes;
pub mod rules;
pub mod run;
pub mod service;

pub use assemble::assemble;
