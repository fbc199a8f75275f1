//! The Kubernetes API machinery that needs no IO: typed and untyped objects,
//! quantities, selectors, patches, schemas, `Status` errors, field errors.
//!
//! This crate knows no concrete kind's rules, no clock, no transport. Start
//! reading in [`object`] for what travels through the system, then [`schema`]
//! for what is known about its shape.

pub mod field;
pub mod json;
pub mod jsonpath;
pub mod managed;
pub mod object;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod yaml;

pub use field::{ErrorList, FieldError, Path};
pub use k8s_openapi as openapi;
pub use k8s_openapi::api as types;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
pub use k8s_openapi::{ClusterResourceScope, Metadata, NamespaceResourceScope, Resource, ResourceScope};
pub use object::{Object, ObjectKey, OwnerReference};
pub use quantity::Quantity;
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Reason, Status};
