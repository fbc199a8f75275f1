//! Clients of others, as they come from their registries, against a control plane.

mod kube_rs;
mod lease;
mod node;
mod operator;
mod program;
mod python;
