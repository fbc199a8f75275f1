//! `ValidatingAdmissionPolicy`: policies that refuse a write, or warn of it.

use api::Status;
use futures::future::BoxFuture;
use resources::cel::Value;
use serde_json::{Value as Json, json};

use super::asked::Asked;
use super::definition::{Action, Binding, Policy, Validation};
use super::{Invocation, Policies, refused};
use crate::admission::equivalents::Seen;
use crate::admission::{Parts, Plugin, Request};
use crate::audit;

const RESOURCES: (&str, &str) = ("validatingadmissionpolicies", "validatingadmissionpolicybindings");
/// The longest message that an expression may make.
const MAX_MESSAGE: usize = 5 * 1024;
/// The longest value that an expression may put into the audit log.
const LONGEST_VALUE: usize = 10 * 1024;
/// What the `Audit` action records.
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// The plugin.
pub(in crate::admission) struct ValidatingPolicies(Policies);

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Denial {
    /// Which validation failed.
    index: usize,
    message: String,
    /// Empty: `Invalid`.
    reason: String,
}

/// A refusal and who it is from.
struct Refusal<'p> {
    policy: &'p Policy,
    binding: Option<&'p Binding>,
    denial: Denial,
}

impl Denial {
    const fn new(message: String) -> Self {
        Self { index: 0, message, reason: String::new() }
    }
}

impl Refusal<'_> {
    fn status(&self, request: &Request<'_>) -> Status {
        let binding = self.binding.map_or_else(String::new, |one| format!(" with binding '{}'", one.name));
        let name = &self.policy.name;
        let message =
            format!("ValidatingAdmissionPolicy '{name}'{binding} denied request: {}", self.denial.message);
        refused(request, message, &self.denial.reason)
    }
}

impl ValidatingPolicies {
    pub(in crate::admission) fn new(parts: &Parts) -> Self {
        Self(Policies::new(parts, RESOURCES))
    }

    async fn judge(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let all = self.0.now(request);
        let invocations = self.0.invocations(&all, request);
        if invocations.is_empty() {
            return Ok(());
        }
        let namespace = self.0.namespace(request);
        let (mut warnings, mut refusals, mut recorded) = (Vec::new(), Vec::new(), Vec::new());
        let mut turned = Vec::new();
        for Invocation { policy, seen, binding, param } in &invocations {
            let shown = match seen {
                Seen::Own => &*request,
                Seen::Other(kind) => self.0.equivalents.among(&mut turned, request, kind).await?,
            };
            let given = match (param, binding) {
                (Ok(param), Some(binding)) => (param, binding),
                (Err(why), _) if policy.is_fatal => {
                    refusals.push(Refusal { policy, binding: *binding, denial: Denial::new(why.clone()) });
                    continue;
                }
                _ => continue,
            };
            let with = (given.0.as_ref(), namespace.as_ref());
            let denials = denials(&Asked::new(policy, shown, &self.0.authorizer, with));
            take(policy, given.1, denials, (&mut refusals, &mut warnings, &mut recorded));
        }
        if !recorded.is_empty() {
            audit::annotate(FAILURE, || Json::from(recorded).to_string());
        }
        let refused = refusals.first().map(|refusal| refusal.status(request));
        request.warnings.append(&mut warnings);
        refused.map_or(Ok(()), Err)
    }
}

/// What fails.
fn denials(asked: &Asked<'_>) -> Vec<Denial> {
    let policy = asked.policy;
    match policy.conditions.hold(asked, &asked.budget) {
        Ok(true) => {}
        Ok(false) => return Vec::new(),
        Err(why) => return trouble(policy, why).into_iter().collect(),
    }
    let mut found: Vec<Denial> =
        policy.validations.iter().enumerate().filter_map(|one| denial(asked, one)).collect();
    for (key, annotation) in &policy.annotations {
        match annotation.evaluate(asked, &asked.budget) {
            Ok(Value::Null) => {}
            Ok(Value::Text(text)) => {
                let value = text.trim();
                if !value.is_empty() {
                    audit::annotate(format!("{}/{key}", policy.name), || value.chars().take(LONGEST_VALUE).collect());
                }
            }
            Ok(other) => found.extend(trouble(policy, format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                annotation.source,
                other.type_name()
            ))),
            Err(why) => found.extend(trouble(policy, why)),
        }
    }
    found
}

/// What cannot be judged is refused, unless the policy says otherwise.
fn trouble(policy: &Policy, why: String) -> Option<Denial> {
    policy.is_fatal.then(|| Denial::new(why))
}

fn denial(asked: &Asked<'_>, (index, validation): (usize, &Validation)) -> Option<Denial> {
    match validation.expression.evaluate(asked, &asked.budget) {
        Ok(Value::Bool(true)) => None,
        Ok(_) => {
            let message = message(asked, validation);
            Some(Denial { index, message, reason: validation.reason.clone() })
        }
        Err(why) => trouble(asked.policy, why).map(|denial| Denial { index, ..denial }),
    }
}

fn message(asked: &Asked<'_>, validation: &Validation) -> String {
    let made = validation.message_expression.as_ref().map(|made| made.evaluate(asked, &asked.budget));
    let made = match made {
        Some(Ok(Value::Text(text))) => text.trim().to_owned(),
        _ => String::new(),
    };
    if !made.is_empty() && made.len() <= MAX_MESSAGE && !made.contains('\n') {
        return made;
    }
    match validation.message.as_str() {
        "" => format!("failed expression: {}", validation.expression.source),
        message => message.to_owned(),
    }
}

/// Does with denials what the binding says.
fn take<'p>(
    policy: &'p Policy,
    binding: &'p Binding,
    denials: Vec<Denial>,
    to: (&mut Vec<Refusal<'p>>, &mut Vec<String>, &mut Vec<Json>),
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
                Action::Audit => to.2.push(json!({
                    "message": denial.message, "policy": policy.name, "binding": binding.name,
                    "expressionIndex": denial.index,
                    "validationActions": binding.actions.iter().map(|one| one.name()).collect::<Vec<_>>(),
                })),
            }
        }
    }
}

impl Plugin for ValidatingPolicies {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.judge(request))
    }
}
