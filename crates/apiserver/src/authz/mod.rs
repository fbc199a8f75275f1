//! Who may do what: the Node authorizer, then RBAC. What nobody allows is
//! forbidden.

mod node;
mod rbac;

use std::sync::Arc;

use api::Status;

use crate::audit;
use crate::authn::{MASTERS, User};
use crate::cache::WatchCache;

pub use rbac::{Rule, escalation};

/// What a request wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `create` ...; an HTTP method in lower case for paths.
    pub verb: String,
    /// The API group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural resource; empty for requests of plain paths.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// Empty for cluster scope and all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// The path, for requests that are about no resource.
    pub path: String,
}

impl Attributes {
    /// The status for a refusal, in upstream's words.
    #[must_use]
    pub fn forbidden(&self, user: &User, why: &str) -> Status {
        let tail = if why.is_empty() { String::new() } else { format!(": {why}") };
        if self.resource.is_empty() {
            let why = format!("User {:?} cannot {} path {:?}{tail}", user.name, self.verb, self.path);
            return Status::forbidden("", "", "", &why);
        }
        let resource = if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        };
        let scope = if self.namespace.is_empty() {
            " at the cluster scope".to_owned()
        } else {
            format!(" in the namespace {:?}", self.namespace)
        };
        let why = format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?}{scope}{tail}",
            user.name, self.verb, self.group
        );
        Status::forbidden(&self.group, &self.resource, &self.name, &why)
    }
}

/// Decides.
pub struct Authorizer {
    node: node::NodeAuthorizer,
    rbac: rbac::Rbac,
}

impl Authorizer {
    /// An authorizer by the roles and bindings in the cache.
    #[must_use]
    pub fn new(cache: &Arc<WatchCache>) -> Self {
        Self { node: node::NodeAuthorizer::new(Arc::clone(cache)), rbac: rbac::Rbac::new(Arc::clone(cache)) }
    }

    /// Whether a user may do something; the reason is for the user to read.
    ///
    /// # Errors
    /// Why not, as far as that is for the user to know.
    pub fn allows(&self, user: &User, attributes: &Attributes) -> Result<String, String> {
        if user.is_in(MASTERS) {
            return Ok("system:masters may do everything".to_owned());
        }
        let mut why = String::new();
        if let Some(name) = user.node() {
            match self.node.allows(name, attributes) {
                Ok(()) => return Ok(String::new()),
                Err(reason) => why = reason,
            }
        }
        self.rbac.allows(user, attributes).ok_or(why)
    }

    /// [`Self::allows`] as a status.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, user: &User, attributes: &Attributes) -> Result<(), Status> {
        let allowed = self.allows(user, attributes);
        audit::annotate("authorization.k8s.io/decision", || {
            if allowed.is_ok() { "allow" } else { "forbid" }.to_owned()
        });
        audit::annotate("authorization.k8s.io/reason", || {
            allowed.as_ref().map_or_else(Clone::clone, Clone::clone)
        });
        match allowed {
            Ok(_) => Ok(()),
            Err(_) if user.name == "system:anonymous" && attributes.path.is_empty() => {
                Err(attributes.forbidden(user, ""))
            }
            Err(why) => Err(attributes.forbidden(user, &why)),
        }
    }

    /// The rules that apply to a user in a namespace.
    #[must_use]
    pub fn rules(&self, user: &User, namespace: &str) -> Vec<Arc<Rule>> {
        self.rbac.rules(user, namespace)
    }
}
