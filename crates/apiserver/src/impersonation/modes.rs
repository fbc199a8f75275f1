//! The ways in which one user may become another, and what each demands.

use api::{Path, Status};

use crate::authn::{ANONYMOUS, AUTHENTICATED, MASTERS, NODES, UNAUTHENTICATED, User, service_account_of};
use crate::authz::{Attributes, Authorizer};

const AUTHENTICATION: &str = "authentication.k8s.io";
/// From so many groups or extras on, one check of them all is tried first.
const MANY: usize = 4;
/// Where a service account's token names the node of its pod.
const NODE_OF_POD: &str = "authentication.kubernetes.io/node-name";

/// A user who was allowed to be impersonated.
#[derive(Debug)]
pub(crate) struct Impersonated {
    /// The user, with the groups that every user has.
    pub(crate) user: User,
    /// The verb of the constrained mode that allowed it; empty for the plain verb.
    pub(crate) constraint: &'static str,
}

/// One of upstream's modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Plain,
}

impl Mode {
    const ALL: [Self; 5] =
        [Self::AssociatedNode, Self::ArbitraryNode, Self::ServiceAccount, Self::UserInfo, Self::Plain];

    const fn verb(self) -> &'static str {
        match self {
            Self::AssociatedNode => "impersonate:associated-node",
            Self::ArbitraryNode => "impersonate:arbitrary-node",
            Self::ServiceAccount => "impersonate:serviceaccount",
            Self::UserInfo => "impersonate:user-info",
            Self::Plain => "impersonate",
        }
    }

    fn is_for(self, wanted: &User, requestor: &User) -> bool {
        let only_named = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_of(&wanted.name);
        match self {
            Self::AssociatedNode => {
                let own = requestor.extra.get(NODE_OF_POD).map(Vec::as_slice);
                let is_own = node.is_some_and(|node| own.is_some_and(|own| own == [node]));
                only_named && is_own && service_account_of(&requestor.name).is_some()
            }
            Self::ArbitraryNode => only_named && node.is_some(),
            Self::ServiceAccount => only_named && service_account_of(&wanted.name).is_some(),
            Self::UserInfo => node.is_none() && service_account_of(&wanted.name).is_none(),
            Self::Plain => true,
        }
    }
}

/// The node that a user name is.
fn node_of(name: &str) -> Option<&str> {
    name.strip_prefix("system:node:").filter(|node| resources::names::dns_subdomain(node, false).is_empty())
}

/// Checks that `requestor` may become `wanted` for a request, and makes that user.
///
/// # Errors
/// The refusal of the first mode that could have allowed it.
pub(crate) async fn check(
    authorizer: &Authorizer,
    requestor: &User,
    wanted: &User,
    request: &Attributes,
) -> Result<Impersonated, Status> {
    let mut first = None;
    for mode in Mode::ALL.into_iter().filter(|mode| mode.is_for(wanted, requestor)) {
        match (Check { authorizer, requestor, mode }).run(wanted, request).await {
            Ok(user) => {
                let constraint = if mode == Mode::Plain { "" } else { mode.verb() };
                return Ok(Impersonated { user, constraint });
            }
            Err(refusal) => {
                first.get_or_insert(refusal);
            }
        }
    }
    Err(first.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

/// The checks of one mode.
struct Check<'a> {
    authorizer: &'a Authorizer,
    requestor: &'a User,
    mode: Mode,
}

impl Check<'_> {
    fn is_constrained(&self) -> bool {
        self.mode != Mode::Plain
    }

    async fn run(&self, wanted: &User, request: &Attributes) -> Result<User, Status> {
        if let Some(mode) = self.mode.verb().strip_prefix("impersonate:") {
            let verb = format!("impersonate-on:{mode}:{}", request.verb);
            self.may(&Attributes { verb, ..request.clone() }).await?;
        }
        let mut user = wanted.clone();
        user.groups = self.name(wanted).await?;
        if !wanted.uid.is_empty() {
            self.may(&self.ask(AUTHENTICATION, "uids", &wanted.uid)).await?;
        }
        self.groups(&wanted.groups).await?;
        self.extra(wanted).await?;
        let group = if user.name == ANONYMOUS {
            Some(UNAUTHENTICATED)
        } else {
            (!user.is_in(UNAUTHENTICATED)).then_some(AUTHENTICATED)
        };
        if let Some(group) = group.filter(|group| !user.is_in(group)) {
            user.groups.push(group.to_owned());
        }
        Ok(user)
    }

    /// The user's name; returns its groups.
    async fn name(&self, wanted: &User) -> Result<Vec<String>, Status> {
        let mut ask = self.ask(self.group_of_names(), "users", &wanted.name);
        let mut groups = wanted.groups.clone();
        if let Some(node) = node_of(&wanted.name).filter(|_| self.is_constrained()) {
            // Whoever may become its own node is asked about all nodes.
            let name = if self.mode == Mode::AssociatedNode { "*" } else { node };
            ask = self.ask(self.group_of_names(), "nodes", name);
            groups = vec![NODES.to_owned()];
        }
        if let Some((namespace, name)) = service_account_of(&wanted.name) {
            ask = self.ask(self.group_of_names(), "serviceaccounts", name);
            namespace.clone_into(&mut ask.namespace);
            if groups.is_empty() {
                groups =
                    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        self.may(&ask).await?;
        Ok(groups)
    }

    async fn groups(&self, groups: &[String]) -> Result<(), Status> {
        let ask = |name: &str| self.ask(self.group_of_names(), "groups", name);
        if self.is_constrained() {
            if groups.iter().any(String::is_empty) {
                return Err(self.refuse(&ask(""), "impersonating the empty string group is not allowed"));
            }
            if groups.iter().any(|group| group == MASTERS) {
                let why = "impersonating the system:masters group is not allowed";
                return Err(self.refuse(&ask(MASTERS), why));
            }
            if groups.len() >= MANY && self.may(&ask("*")).await.is_ok() {
                return Ok(());
            }
        }
        for group in groups {
            self.may(&ask(group)).await?;
        }
        Ok(())
    }

    async fn extra(&self, wanted: &User) -> Result<(), Status> {
        let ask = |key: &str, value: &str| Attributes {
            subresource: key.to_owned(),
            ..self.ask(AUTHENTICATION, "userextras", value)
        };
        if wanted.extra.is_empty() {
            return Ok(());
        }
        if self.is_constrained() {
            if let Some(why) = wanted.extra.iter().find_map(|(key, values)| wrong_extra(key, values)) {
                return Err(self.refuse(&ask("", ""), &why));
            }
            let values: usize = wanted.extra.values().map(Vec::len).sum();
            if wanted.extra.len().max(values) >= MANY && self.may(&ask("*", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in &wanted.extra {
            for value in values {
                self.may(&ask(key, value)).await?;
            }
        }
        Ok(())
    }

    /// The API group of users and groups: the core group for the plain verb.
    const fn group_of_names(&self) -> &'static str {
        if matches!(self.mode, Mode::Plain) { "" } else { AUTHENTICATION }
    }

    fn ask(&self, group: &str, resource: &str, name: &str) -> Attributes {
        Attributes {
            verb: self.mode.verb().to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        }
    }

    async fn may(&self, ask: &Attributes) -> Result<(), Status> {
        let verdict = self.authorizer.decide(self.requestor, ask).await;
        if verdict.is_allowed() {
            return Ok(());
        }
        let texts = [verdict.error.as_str(), verdict.reason.as_str()];
        let why: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        Err(self.refuse(ask, &why.join(": ")))
    }

    fn refuse(&self, ask: &Attributes, why: &str) -> Status {
        ask.forbidden(self.requestor, why)
    }
}

/// What the constrained modes do not take as an extra.
fn wrong_extra(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let is_prefixed = key.split_once('/').is_some_and(|(domain, path)| {
        resources::names::dns_subdomain(domain, false).is_empty()
            && !path.is_empty()
            && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte))
    });
    if !is_prefixed {
        let error = api::FieldError::invalid(
            &Path::new("extra").child("key"),
            key,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        );
        return Some(format!("impersonating an invalid key in extra is not allowed: {error}"));
    }
    if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
    }
    if values.is_empty() {
        return Some("impersonating empty values in extra is not allowed".to_owned());
    }
    values
        .iter()
        .any(String::is_empty)
        .then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}
