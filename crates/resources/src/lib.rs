//! The catalogue: one declaration per kind.
//!
//! Everything that differs between kinds is one [`Descriptor`]: names, scope,
//! verbs, subresources, shape, columns, and a [`Strategy`] of pure functions.
//! The API server derives routes, discovery, OpenAPI, Table output,
//! authorization attributes and storage keys from it, and takes every kind
//! through the same verbs.
//!
//! This crate knows nothing of HTTP, gRPC or storage, and reads no clock. Start
//! reading in [`descriptor`], then [`strategy`], then any file in `kinds/`.

pub mod catalogue;
pub mod cel;
pub mod custom;
pub mod descriptor;
mod fields;
pub mod flow_control;
pub mod kinds;
pub mod metadata;
pub mod names;
pub mod openapi;
mod report;
pub mod strategy;
mod tables;

pub use catalogue::Catalogue;
pub use descriptor::{Column, Descriptor, Subresource};
pub use strategy::{Part, Strategy};
pub use tables::{package, schema};
