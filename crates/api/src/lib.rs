//! The Kubernetes API machinery that needs no IO.

pub use k8s_openapi::api as types;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
