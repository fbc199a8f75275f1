//! Who may do what: authorizers are asked one after another, by default the Node
//! authorizer, then RBAC; the first that says yes or no decides. What nobody allows
//! is forbidden.

mod config;
mod node;
mod rbac;
pub(crate) mod selectors;
mod webhook;

use std::sync::Arc;

use api::{FieldSelector, LabelSelector, Status};
use arc_swap::ArcSwap;
use futures::FutureExt as _;

use crate::audit;
use crate::authn::{MASTERS, User};
use crate::cache::WatchCache;

pub use config::AuthorizationFlags;
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
    /// What a list, watch or delete of many selects by labels.
    pub labels: LabelSelector,
    /// What it selects by fields.
    pub fields: FieldSelector,
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

/// What an authorizer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No, whatever others say.
    Deny,
    /// It is for others to say.
    #[default]
    NoOpinion,
}

/// What an authorizer says, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What it says.
    pub decision: Decision,
    /// Why; for the user to read.
    pub reason: String,
    /// What went wrong; empty for nothing.
    pub error: String,
}

impl Verdict {
    fn allow(reason: impl Into<String>) -> Self {
        Self { decision: Decision::Allow, reason: reason.into(), error: String::new() }
    }

    fn no_opinion(reason: impl Into<String>) -> Self {
        Self { decision: Decision::NoOpinion, reason: reason.into(), error: String::new() }
    }

    /// Whether it is a yes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.decision == Decision::Allow
    }
}

/// One authorizer.
enum Mode {
    AlwaysAllow,
    AlwaysDeny,
    Node(node::NodeAuthorizer),
    Rbac(rbac::Rbac),
    Webhook(Box<webhook::AccessWebhook>),
}

impl Mode {
    fn node(cache: &Arc<WatchCache>) -> Self {
        Self::Node(node::NodeAuthorizer::new(Arc::clone(cache)))
    }

    fn rbac(cache: &Arc<WatchCache>) -> Self {
        Self::Rbac(rbac::Rbac::new(Arc::clone(cache)))
    }

    async fn decide(&self, user: &User, ask: &Attributes) -> Verdict {
        match self {
            Self::AlwaysAllow => Verdict::allow(""),
            Self::AlwaysDeny => Verdict::no_opinion("Everything is forbidden."),
            Self::Node(node) => match user.node().map(|name| node.allows(name, ask)) {
                Some(Ok(())) => Verdict::allow(""),
                Some(Err(why)) => Verdict::no_opinion(why),
                None => Verdict::default(),
            },
            Self::Rbac(rbac) => rbac.allows(user, ask).map_or_else(Verdict::default, Verdict::allow),
            Self::Webhook(webhook) => webhook.decide(user, ask).await,
        }
    }
}

/// Decides.
pub struct Authorizer {
    /// In the order in which they are asked; another configuration replaces them.
    modes: ArcSwap<Vec<Mode>>,
    /// What roles give, whoever is asked: nobody may give away more than they have.
    rbac: rbac::Rbac,
}

impl Authorizer {
    /// An authorizer by the roles and bindings in the cache.
    #[must_use]
    pub fn new(cache: &Arc<WatchCache>) -> Self {
        Self::of(vec![Mode::node(cache), Mode::rbac(cache)], cache)
    }

    fn of(modes: Vec<Mode>, cache: &Arc<WatchCache>) -> Self {
        Self { modes: ArcSwap::from_pointee(modes), rbac: rbac::Rbac::new(Arc::clone(cache)) }
    }

    /// Takes other authorizers, if they make sense.
    fn reload(&self, modes: anyhow::Result<Vec<Mode>>) {
        match modes {
            Ok(modes) => {
                self.modes.store(Arc::new(modes));
                tracing::info!("authorization configuration read again");
            }
            Err(error) => tracing::error!("the new authorization configuration is not used: {error:#}"),
        }
    }

    /// Whether a user may do something.
    pub async fn decide(&self, user: &User, attributes: &Attributes) -> Verdict {
        if user.is_in(MASTERS) {
            return Verdict::allow("system:masters may do everything");
        }
        let mut undecided = Verdict::default();
        for mode in self.modes.load_full().iter() {
            let verdict = mode.decide(user, attributes).await;
            let is_decided = verdict.decision != Decision::NoOpinion;
            for (all, one) in
                [(&mut undecided.reason, &verdict.reason), (&mut undecided.error, &verdict.error)]
            {
                if !one.is_empty() {
                    if !all.is_empty() {
                        all.push('\n');
                    }
                    all.push_str(one);
                }
            }
            if verdict.is_allowed() {
                return verdict;
            }
            if is_decided {
                return Verdict { decision: verdict.decision, ..undecided };
            }
        }
        undecided
    }

    /// [`Self::decide`] where nothing can be waited for; a webhook that has to be asked
    /// holds the thread up. The reason is for the user to read.
    ///
    /// # Errors
    /// Why not, as far as that is for the user to know.
    pub fn allows(&self, user: &User, attributes: &Attributes) -> Result<String, String> {
        let verdict = self.decide(user, attributes).now_or_never().unwrap_or_else(|| {
            let deciding = self.decide(user, attributes);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(deciding))
        });
        if verdict.is_allowed() { Ok(verdict.reason) } else { Err(verdict.reason) }
    }

    /// Whether the rules of roles are all that is asked.
    #[must_use]
    pub fn knows_all_rules(&self) -> bool {
        !self.modes.load().iter().any(|mode| matches!(mode, Mode::Webhook(_)))
    }

    /// [`Self::allows`] as a status.
    ///
    /// # Errors
    /// The refusal.
    pub async fn check(&self, user: &User, attributes: &Attributes) -> Result<(), Status> {
        let verdict = self.decide(user, attributes).await;
        audit::annotate("authorization.k8s.io/decision", || {
            if verdict.is_allowed() { "allow" } else { "forbid" }.to_owned()
        });
        audit::annotate("authorization.k8s.io/reason", || verdict.reason.clone());
        if verdict.is_allowed() {
            return Ok(());
        }
        if !verdict.error.is_empty() {
            return Err(Status::internal(verdict.error));
        }
        match verdict.reason {
            _ if user.name == "system:anonymous" && attributes.path.is_empty() => {
                Err(attributes.forbidden(user, ""))
            }
            why => Err(attributes.forbidden(user, &why)),
        }
    }

    /// The rules that apply to a user in a namespace.
    #[must_use]
    pub fn rules(&self, user: &User, namespace: &str) -> Vec<Arc<Rule>> {
        self.rbac.rules(user, namespace)
    }
}
