//! `MutatingAdmissionPolicy`: policies that change what is written.

use api::managed::overlay;
use api::patch::{PatchError, json_patch};
use api::{Object, Status};
use futures::future::BoxFuture;
use serde_json::Value;

use super::asked::Asked;
use super::definition::Mutation;
use super::{Invocation, Policies, refused};
use crate::admission::equivalents::Seen;
use crate::admission::{Operation, Parts, Plugin, Request};

const RESOURCES: (&str, &str) = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings");

/// The plugin.
pub(in crate::admission) struct MutatingPolicies(Policies);

/// A policy, its binding, and the name of its parameter.
type Key = (String, String, String);

/// What policies did to a request: some are asked again when others, or plugins
/// before them, changed the object since.
#[derive(Default)]
pub(in crate::admission) struct Invoked {
    /// Those that may be asked again, and whether they have to be.
    before: Vec<(Key, bool)>,
    /// The object as they left it.
    left: Option<Object>,
}

impl Invoked {
    fn must_ask_again(&mut self) {
        self.before.iter_mut().for_each(|(_, is_due)| *is_due = true);
    }
}

impl MutatingPolicies {
    pub(in crate::admission) fn new(parts: &Parts) -> Self {
        Self(Policies::new(parts, RESOURCES))
    }

    async fn change(&self, request: &mut Request<'_>) -> Result<(), Status> {
        if request.object.is_none() || !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let all = self.0.now(request);
        let invocations = self.0.invocations(&all, request);
        if invocations.is_empty() {
            return Ok(());
        }
        let is_again = request.late.is_again;
        if is_again && request.late.policies.left != request.object {
            request.late.policies.must_ask_again();
        }
        let namespace = self.0.namespace(request);
        let mut refusal = None;
        for invocation in &invocations {
            let key = key(invocation);
            if is_again && !request.late.policies.before.contains(&(key.clone(), true)) {
                continue;
            }
            let before = request.object.clone();
            let invoked = match &invocation.seen {
                Seen::Own => self.invoke(invocation, request, namespace.as_ref()),
                Seen::Other(kind) => {
                    let mut turned = self.0.equivalents.request(request, kind).await?;
                    let before = turned.object.clone();
                    let invoked = self.invoke(invocation, &mut turned, namespace.as_ref());
                    if turned.object != before {
                        self.0.equivalents.take_back(request, turned).await?;
                    }
                    invoked
                }
            };
            match invoked {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) if invocation.policy.is_fatal => {
                    refusal.get_or_insert_with(|| denied(invocation, request, &why));
                }
                Err(why) => {
                    tracing::warn!(policy = invocation.policy.name, why, "a policy failed, and is ignored");
                }
            }
            let late = &mut request.late;
            if before != request.object {
                late.is_changed |= !is_again;
                late.policies.must_ask_again();
            }
            late.policies.before.retain(|(known, _)| *known != key);
            if invocation.policy.is_reinvoked {
                late.policies.before.push((key, false));
            }
        }
        request.late.policies.left.clone_from(&request.object);
        refusal.map_or(Ok(()), Err)
    }

    /// Lets one policy change the object; false if its conditions do not hold.
    fn invoke(
        &self,
        invocation: &Invocation<'_>,
        request: &mut Request<'_>,
        namespace: Option<&Object>,
    ) -> Result<bool, String> {
        let policy = invocation.policy;
        let param = invocation.param.as_ref().map_err(Clone::clone)?;
        let with = (param.as_ref(), namespace);
        let asked = Asked::new(policy, request, &self.0.authorizer, with);
        if !policy.conditions.hold(&asked, &asked.budget)? {
            return Ok(false);
        }
        for mutation in &policy.mutations {
            // Each sees what the one before did.
            let asked = Asked::new(policy, request, &self.0.authorizer, with);
            let made = mutation.expression.evaluate(&asked, &asked.budget)?.to_json()?;
            if let Some(object) = &request.object
                && let Some(mut new) = apply(mutation, request, object, made)?
            {
                request.kind.conform(&mut new).map_err(|error| error.to_string())?;
                request.kind.strategy.default(&mut new);
                request.object = Some(new);
            }
        }
        Ok(true)
    }
}

/// What an object becomes; nothing if it stays.
fn apply(
    mutation: &Mutation,
    request: &Request<'_>,
    object: &Object,
    made: Value,
) -> Result<Option<Object>, String> {
    if mutation.is_patch {
        let mut value = object.clone().into_value();
        return match json_patch(&mut value, made.to_string().as_bytes()) {
            Ok(()) => Object::from_value(value).map(Some).map_err(|error| format!("JSON Patch: {error}")),
            Err(PatchError::TestFailed(_)) => Ok(None),
            Err(error) => Err(format!("JSON Patch: {error}")),
        };
    }
    let mut config = Object::from_value(made).map_err(|error| format!("invalid return type: {error}"))?;
    // A part such as a scale is no object of the kind.
    config.set("apiVersion", object.api_version());
    config.set("kind", object.kind());
    let (schema, of) = &**request.kind.shape;
    let mut checked = config.clone();
    let unfit = match request.kind.conform(&mut checked) {
        Err(error) => Some(error.to_string()),
        Ok(found) => found.unknown.first().map(|path| format!(".{path}: field not declared in schema")),
    };
    if let Some(why) = unfit {
        return Err(format!("error applying patch: failed to convert patch object to typed object: {why}"));
    }
    overlay(schema, *of, object, &config).map(Some).map_err(|error| format!("error applying patch: {error}"))
}

fn key(of: &Invocation<'_>) -> Key {
    let binding = of.binding.map_or_else(String::new, |binding| binding.name.clone());
    let param = match &of.param {
        Ok(Some(param)) => format!("{}/{}", param.namespace(), param.name()),
        _ => String::new(),
    };
    (of.policy.name.clone(), binding, param)
}

fn denied(of: &Invocation<'_>, request: &Request<'_>, why: &str) -> Status {
    let name = &of.policy.name;
    let message = match of.binding {
        Some(binding) => format!("policy '{name}' with binding '{}' denied request: {why}", binding.name),
        None => format!("policy {name:?} denied request: {why}"),
    };
    refused(request, message, "")
}

impl Plugin for MutatingPolicies {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.change(request))
    }
}
