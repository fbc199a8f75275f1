//! Clients of others, as they come from their registries, against a control plane.

mod helm;
mod kube_rs;
mod kubectl;
mod lease;
mod node;
mod operator;
mod program;
mod python;
