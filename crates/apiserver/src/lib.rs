//! The API server: REST and gRPC on one TLS port over one registry.
//!
//! A write goes front → authenticate → authorize → decode → admit → validate →
//! encode once → store → watch cache → watchers; a read is bytes from the watch
//! cache. No rule lives in a front.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod cache;
pub mod registry;
pub mod stored;
pub mod gate;
mod reviews;
mod scale;
pub mod connect;
pub mod grpc;
mod openapi;
pub mod rest;
