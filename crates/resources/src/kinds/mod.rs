//! One file or folder per kind with rules of its own, and the one table that
//! says which resource is served by which.
//!
//! Adding rules to a kind is one file and one line in [`strategy`].

mod addresses;
mod admission;
mod api_services;
mod autoscaler;
mod cells;
mod certificates;
mod claims;
mod classes;
mod config;
pub mod custom_resource_definition;
mod defaults;
mod devices;
mod disruption_budgets;
mod endpoints;
mod event;
mod flow_control;
mod generic;
mod ingresses;
mod job;
mod limits;
mod namespace;
mod network_policies;
mod node;
mod persistent_volumes;
pub mod pod;
mod priority_class;
mod rbac;
mod rules;
pub mod service;
mod storage;
mod webhook_client;
mod workload;

use std::sync::Arc;

use api::schema::StructId;

use crate::Strategy;

/// The behaviour of a built-in resource.
pub(crate) fn strategy(group: &str, version: &str, resource: &str, shape: StructId) -> Arc<dyn Strategy> {
    match (group, resource) {
        ("", "configmaps") => Arc::new(config::ConfigMap),
        ("", "endpoints") => Arc::new(endpoints::Endpoints),
        ("", "events") => Arc::new(event::CoreEvent),
        ("", "namespaces") => Arc::new(namespace::Namespace),
        ("", "nodes") => Arc::new(node::Node),
        ("", "pods") => Arc::new(pod::Pod),
        ("", "secrets") => Arc::new(config::Secret),
        ("", "services") => Arc::new(service::Service),
        ("", "serviceaccounts") => Arc::new(config::ServiceAccount),
        ("apps", "daemonsets") => Arc::new(workload::DaemonSet),
        ("apps", "deployments") => Arc::new(workload::Deployment),
        ("apps", "replicasets") => Arc::new(workload::ReplicaSet),
        ("batch", "jobs") => Arc::new(job::Job),
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            Arc::new(custom_resource_definition::CustomResourceDefinition(shape))
        }
        ("coordination.k8s.io", "leases") => Arc::new(config::Lease),
        ("discovery.k8s.io", "endpointslices") => Arc::new(endpoints::EndpointSlice),
        ("events.k8s.io", "events") => Arc::new(event::Event),
        ("rbac.authorization.k8s.io", "roles") => Arc::new(rbac::Role { namespaced: true }),
        ("rbac.authorization.k8s.io", "clusterroles") => Arc::new(rbac::Role { namespaced: false }),
        ("rbac.authorization.k8s.io", "rolebindings") => Arc::new(rbac::Binding { namespaced: true }),
        ("rbac.authorization.k8s.io", "clusterrolebindings") => Arc::new(rbac::Binding { namespaced: false }),
        ("autoscaling", "horizontalpodautoscalers") if version == "v1" => {
            Arc::new(autoscaler::AutoscalerV1(shape))
        }
        ("autoscaling", "horizontalpodautoscalers") => Arc::new(autoscaler::Autoscaler(shape)),
        ("certificates.k8s.io", "certificatesigningrequests") => Arc::new(certificates::SigningRequest),
        _ => Arc::new(generic::built_in(group, resource, shape)),
    }
}
