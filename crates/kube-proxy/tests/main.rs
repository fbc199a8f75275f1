//! The proxy against a real kernel, in one binary.

mod follows;
mod namespaces;
