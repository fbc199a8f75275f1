//! The API server: REST and gRPC on one TLS port over one registry.
//!
//! A write goes front → authenticate → authorize → decode → admit → validate →
//! encode once → store → watch cache → watchers; a read is bytes from the watch
//! cache. No rule lives in a front.

pub mod admission;
mod aggregation;
mod assemble;
pub mod audit;
pub mod authn;
pub mod authz;
mod binding;
pub mod bootstrap;
pub mod cache;
mod conditions;
pub mod config;
pub mod connect;
mod conversion;
pub mod deadline;
mod definitions;
mod encryption;
pub mod entry;
mod escalation;
mod eviction;
mod expiring;
pub mod flow;
pub mod front;
pub mod gate;
pub mod grpc;
mod impersonation;
mod openapi;
pub mod registry;
mod remote;
pub mod rest;
mod reviews;
mod scale;
pub mod service_addresses;
pub mod stored;

pub use assemble::{Running, assemble};
