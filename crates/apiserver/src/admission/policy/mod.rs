//! Admission policies: expressions that judge a write, or change it, following
//! `k8s.io/apiserver/pkg/admission/plugin/policy`.
//!
//! Policies and bindings are read from the watch cache and compiled again only
//! when either changes. Start reading in [`Policies`], then [`definition`] for what
//! a policy is made of, [`asked`] for what its expressions see, and [`params`] for
//! where its parameters come from. [`validating`] and [`mutating`] are the plugins.

mod asked;
mod definition;
mod mutating;
mod params;
mod validating;

use std::sync::Arc;

use api::{Object, Reason, Status};
use parking_lot::Mutex;

use super::equivalents::{Equivalents, Seen};
use super::matching::namespace_labels;
use super::{Parts, Request};
use crate::authz::Authorizer;
use crate::cache::{Selected, WatchCache};
use crate::registry::Kinds;
use definition::{Binding, Policy};

pub(super) use mutating::{Invoked, MutatingPolicies};
pub(super) use validating::ValidatingPolicies;

const GROUP: &str = "admissionregistration.k8s.io";

/// The policies of one sort, and what they are asked with.
struct Policies {
    cache: Arc<WatchCache>,
    kinds: Arc<Kinds>,
    authorizer: Arc<Authorizer>,
    equivalents: Equivalents,
    /// The resources of policies and bindings.
    resources: (&'static str, &'static str),
    /// The revisions of the last changes that were read, and what they gave.
    known: Mutex<((u64, u64), Arc<Vec<Policy>>)>,
}

/// A policy that a request has to do with.
struct Invocation<'p> {
    policy: &'p Policy,
    /// As what the policy sees the request.
    seen: Seen,
    /// None, if it is the policy that is wrong.
    binding: Option<&'p Binding>,
    /// The parameter, or why there is none.
    param: Result<Option<Object>, String>,
}

impl Policies {
    fn new(parts: &Parts, resources: (&'static str, &'static str)) -> Self {
        Self {
            cache: Arc::clone(&parts.cache),
            kinds: Arc::clone(&parts.kinds),
            authorizer: Arc::clone(&parts.authorizer),
            equivalents: Equivalents::new(Arc::clone(&parts.converter)),
            resources,
            known: Mutex::default(),
        }
    }

    /// The policies that are in force; none for a request about policies, lest
    /// somebody locks themselves out.
    fn now(&self, request: &Request<'_>) -> Arc<Vec<Policy>> {
        if request.kind.group == GROUP {
            return Arc::default();
        }
        let policies = self.cache.resource(GROUP, self.resources.0);
        let bindings = self.cache.resource(GROUP, self.resources.1);
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

    /// Those of `all` that fit a request, once for each binding and parameter.
    fn invocations<'p>(&self, all: &'p [Policy], request: &Request<'_>) -> Vec<Invocation<'p>> {
        if all.is_empty() {
            return Vec::new();
        }
        let labels = namespace_labels(&self.cache, request);
        let mut found = Vec::new();
        for policy in all {
            let wrong = |why: &str| Invocation {
                policy,
                seen: Seen::Own,
                binding: None,
                param: Err(format!("failed to configure policy: {why}")),
            };
            let seen = match &policy.constraints {
                Err(why) => {
                    found.push(wrong(why));
                    continue;
                }
                Ok(constraints) => constraints.fit(request, labels.as_ref(), &self.kinds),
            };
            let Some(seen) = seen else { continue };
            let kind = policy.param_kind.as_ref().map(|kind| params::find(&self.kinds, kind)).transpose();
            let kind = match kind {
                Ok(kind) => kind,
                Err(why) => {
                    found.push(wrong(&why));
                    continue;
                }
            };
            for binding in &policy.bindings {
                let params = match &binding.constraints {
                    Ok(Some(constraints))
                        if constraints.fit(request, labels.as_ref(), &self.kinds).is_none() =>
                    {
                        continue;
                    }
                    Err(why) => Err(why.clone()),
                    Ok(_) => {
                        params::collect(&self.cache, kind.as_deref(), &binding.param_ref, request.namespace)
                    }
                };
                let one = |param| Invocation { policy, seen: seen.clone(), binding: Some(binding), param };
                match params {
                    Ok(params) => found.extend(params.into_iter().map(|param| one(Ok(param)))),
                    Err(why) => found.push(one(Err(format!("failed to configure binding: {why}")))),
                }
            }
        }
        found
    }

    /// The namespace that expressions see.
    fn namespace(&self, request: &Request<'_>) -> Option<Object> {
        let is_namespace = request.kind.group.is_empty() && request.kind.resource == "namespaces";
        if request.namespace.is_empty() || is_namespace {
            return None;
        }
        self.cache.resource("", "namespaces").get("", request.namespace)?.object().ok()
    }
}

/// The status for a refusal by a policy; no reason: the object is invalid.
fn refused(request: &Request<'_>, message: String, reason: &str) -> Status {
    let mut status = request.forbidden(&message);
    (status.reason, status.code) = match reason {
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
