//! Admission: what the cluster, rather than the kind, has to say about a write.
//!
//! Plugins run in a fixed order, first all that change, then all that judge.

mod always_pull_images;
mod anti_affinity;
mod certificates;
mod claim_resize;
mod configuration;
mod declared_features;
mod default_classes;
mod default_tolerations;
mod deny_external_ips;
mod equivalents;
mod event_rate_limit;
mod expressions;
mod extended_tolerations;
mod image_policy;
mod limit_ranger;
mod matching;
mod namespace_exists;
mod namespace_lifecycle;
mod node_restriction;
mod owner_references;
mod plugins;
mod pod_node_selector;
mod pod_resize;
mod pod_security;
mod pod_tolerations;
mod pod_topology_labels;
mod pods;
mod policy;
mod priority;
mod reading;
pub(crate) mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_protection;
mod taint_nodes;
mod tolerations;
mod webhook;

use api::{Object, Status};
use futures::future::BoxFuture;
use resources::Descriptor;

use crate::registry::Caller;

pub use configuration::Configuration;
pub use plugins::{Choice, ChoiceError, Parts};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create.
    Create,
    /// Update or patch.
    Update,
    /// Delete.
    Delete,
    /// Exec, attach, port-forward, proxy.
    Connect,
}

/// A write on its way.
pub struct Request<'a> {
    /// The kind.
    pub kind: &'a Descriptor,
    /// The kind that the client named, where the request is shown as one for another version.
    pub requested: Option<&'a Descriptor>,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// What it does.
    pub operation: Operation,
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// The name; empty while it is still to be generated.
    pub name: &'a str,
    /// Who asks.
    pub caller: &'a Caller,
    /// The new object; none for a delete.
    pub object: Option<Object>,
    /// The old object; none for a create.
    pub old: Option<Object>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// Advice for the client, collected on the way.
    pub warnings: Vec<String>,
    /// What policies and webhooks did to it.
    pub late: Late,
}

/// What is known of the changes by policies and webhooks, which come after all
/// other plugins.
#[derive(Default)]
pub struct Late {
    /// Whether the object changed, so that the plugins before have to see it again.
    is_changed: bool,
    /// Whether they do so now.
    is_again: bool,
    policies: policy::Invoked,
}

impl Request<'_> {
    /// Whether it is about a built-in resource, by group, plural name and subresource.
    #[must_use]
    pub fn is(&self, group: &str, resource: &str, subresource: &str) -> bool {
        self.kind.group == group && self.kind.resource == resource && self.subresource == subresource
    }

    /// The status for a refusal.
    #[must_use]
    pub fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(&self.kind.group, &self.kind.resource, self.name, why)
    }
}

/// A plugin.
pub trait Plugin: Send + Sync + 'static {
    /// Changes the object, or refuses the request.
    fn mutate<'a>(&'a self, _request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }

    /// Whether what it made of the object stands: it is not asked again.
    fn is_last_word(&self) -> bool {
        false
    }

    /// Refuses the request, or not.
    fn validate<'a>(&'a self, _request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }
}

/// The plugins, in order.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
    charges: bool,
}

impl Chain {
    /// The chosen plugins.
    #[must_use]
    pub fn new(choice: &Choice, parts: &Parts) -> Self {
        Self { plugins: choice.make(parts), charges: choice.charges() }
    }

    /// Whether writes are charged to quotas.
    pub(crate) const fn charges(&self) -> bool {
        self.charges
    }

    /// Runs the plugins that change.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.mutate(request).await?;
        }
        if std::mem::take(&mut request.late.is_changed) {
            request.late.is_again = true;
            // A container that a webhook added needs its token too.
            for plugin in self.plugins.iter().filter(|plugin| !plugin.is_last_word()) {
                plugin.mutate(request).await?;
            }
        }
        Ok(())
    }

    /// Runs the plugins that judge.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.validate(request).await?;
        }
        Ok(())
    }
}
