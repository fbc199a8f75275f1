//! The store, tested through its trait, its faces and its processes, in one binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its own functions too")]

mod cluster;
mod contract;
mod durability;
mod embedded;
mod etcd;
mod kill;
