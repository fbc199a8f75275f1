//! `ValidatingAdmissionPolicy`: expressions that refuse a write, following
//! `k8s.io/apiserver/pkg/admission/plugin/policy/validating`.
//!
//! Policies and bindings are read from the watch cache and compiled again only
//! when either changes. Start reading in [`Policies`], then [`definition`] for what
//! a policy is made of, [`judge`] for what it says of a request, and [`params`] for
//! where its parameters come from.

mod definition;
mod judge;
mod params;

use std::sync::Arc;

use api::{Object, Reason, Status};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::matching::namespace_labels;
use super::{Plugin, Request};
use crate::authz::Authorizer;
use crate::cache::{Selected, WatchCache};
use crate::registry::Kinds;
use definition::{Action, Binding, Policy};
use judge::{Denial, Judge};

const GROUP: &str = "admissionregistration.k8s.io";
const POLICIES: &str = "validatingadmissionpolicies";
const BINDINGS: &str = "validatingadmissionpolicybindings";

/// The plugin.
pub(super) struct Policies {
    cache: Arc<WatchCache>,
    kinds: Arc<Kinds>,
    authorizer: Arc<Authorizer>,
    /// The revisions of the last changes that were read, and what they gave.
    known: Mutex<((u64, u64), Arc<Vec<Policy>>)>,
}

/// A refusal and who it is from.
struct Refusal<'p> {
    policy: &'p Policy,
    binding: Option<&'p Binding>,
    denial: Denial,
}

impl Refusal<'_> {
    fn status(&self, request: &Request<'_>) -> Status {
        let binding = self.binding.map_or_else(String::new, |one| format!(" with binding '{}'", one.name));
        let name = &self.policy.name;
        let message =
            format!("ValidatingAdmissionPolicy '{name}'{binding} denied request: {}", self.denial.message);
        let mut status = request.forbidden(&message);
        (status.reason, status.code) = match self.denial.reason.as_str() {
            "Unauthorized" => (Reason::Unauthorized, 401),
            "Forbidden" => (Reason::Forbidden, 403),
            "RequestEntityTooLarge" => (Reason::RequestEntityTooLarge, 413),
            _ => (Reason::Invalid, 422),
        };
        if let Some(details) = &mut status.details {
            details.causes.push(api::status::Cause { message, ..api::status::Cause::default() });
        }
        status
    }
}

impl Policies {
    pub(super) fn new(cache: &Arc<WatchCache>, kinds: &Arc<Kinds>) -> Self {
        Self {
            cache: Arc::clone(cache),
            kinds: Arc::clone(kinds),
            authorizer: Arc::new(Authorizer::new(cache)),
            known: Mutex::default(),
        }
    }

    fn now(&self) -> Arc<Vec<Policy>> {
        let policies = self.cache.resource(GROUP, POLICIES);
        let bindings = self.cache.resource(GROUP, BINDINGS);
        let last = (policies.last_change(), bindings.last_change());
        let mut known = self.known.lock();
        if known.0 != last {
            let all = |resource: &crate::cache::Resource| -> Vec<Object> {
                let (found, _) = resource.list(&Selected::default(), 0, None);
                found.iter().filter_map(|stored| stored.object().ok()).collect()
            };
            *known = (last, Arc::new(definition::read(&all(&policies), &all(&bindings))));
        }
        Arc::clone(&known.1)
    }

    fn judge_all(&self, request: &mut Request<'_>) -> Result<(), Status> {
        // Nobody can lock themselves out by a policy on policies.
        if request.kind.group == GROUP {
            return Ok(());
        }
        let all = self.now();
        if all.is_empty() {
            return Ok(());
        }
        let labels = namespace_labels(&self.cache, request);
        let mut warnings = Vec::new();
        let mut refusals = Vec::new();
        for policy in all.iter() {
            self.judge(policy, request, labels.as_ref(), (&mut refusals, &mut warnings));
        }
        let refused = refusals.first().map(|refusal| refusal.status(request));
        request.warnings.append(&mut warnings);
        refused.map_or(Ok(()), Err)
    }

    fn judge<'p>(
        &self,
        policy: &'p Policy,
        request: &Request<'_>,
        labels: Option<&Map<String, Value>>,
        to: (&mut Vec<Refusal<'p>>, &mut Vec<String>),
    ) {
        let (refusals, warnings) = to;
        let misconfigured = |binding: Option<&'p Binding>, why: &str| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            let denial = Denial::new(format!("failed to configure {what}: {why}"));
            policy.is_fatal.then_some(Refusal { policy, binding, denial })
        };
        match &policy.constraints {
            Err(why) => return refusals.extend(misconfigured(None, why)),
            Ok(constraints) if !constraints.fit(request, labels) => return,
            Ok(_) => {}
        }
        let kind = match policy.param_kind.as_ref().map(|kind| params::find(&self.kinds, kind)) {
            Some(Err(why)) => return refusals.extend(misconfigured(None, &why)),
            Some(Ok(kind)) => Some(kind),
            None => None,
        };
        for binding in &policy.bindings {
            match &binding.constraints {
                Err(why) => {
                    refusals.extend(misconfigured(Some(binding), why));
                    continue;
                }
                Ok(Some(constraints)) if !constraints.fit(request, labels) => continue,
                Ok(_) => {}
            }
            match params::collect(&self.cache, kind.as_deref(), &binding.param_ref, request.namespace) {
                Err(why) => refusals.extend(misconfigured(Some(binding), &why)),
                Ok(found) => {
                    for param in found {
                        let denials = self.denials(policy, request, param.as_ref());
                        take(policy, binding, denials, (refusals, warnings));
                    }
                }
            }
        }
    }

    fn denials(&self, policy: &Policy, request: &Request<'_>, param: Option<&Object>) -> Vec<Denial> {
        let is_namespace = request.kind.group.is_empty() && request.kind.resource == "namespaces";
        let namespace = if request.namespace.is_empty() || is_namespace {
            None
        } else {
            let found = self.cache.resource("", "namespaces").get("", request.namespace);
            found.and_then(|stored| stored.object().ok())
        };
        Judge::new(policy, request, &self.authorizer, (param, namespace.as_ref())).denials()
    }
}

/// Does with denials what the binding says.
fn take<'p>(
    policy: &'p Policy,
    binding: &'p Binding,
    denials: Vec<Denial>,
    to: (&mut Vec<Refusal<'p>>, &mut Vec<String>),
) {
    for denial in denials {
        for action in &binding.actions {
            match action {
                Action::Deny => {
                    to.0.push(Refusal { policy, binding: Some(binding), denial: denial.clone() });
                }
                Action::Warn => to.1.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, denial.message
                )),
                Action::Audit => tracing::info!(
                    policy = policy.name,
                    binding = binding.name,
                    message = denial.message,
                    "a policy's validation failed"
                ),
            }
        }
    }
}

impl Plugin for Policies {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let judged = self.judge_all(request);
        Box::pin(async move { judged })
    }
}
