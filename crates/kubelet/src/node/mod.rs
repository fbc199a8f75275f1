//! The machine as a node of the cluster.

pub mod facts;
