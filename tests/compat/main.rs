//! Clients of others, as they come from their registries, against a control plane.

mod kube_rs;
mod program;
mod python;
