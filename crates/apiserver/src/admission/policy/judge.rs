//! What a policy says of a request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use api::Object;
use resources::cel::{Budget, Error, Value, Variables};

use super::definition::{Policy, Validation};
use crate::admission::Request;
use crate::admission::expressions::About;
use crate::authz::Authorizer;

/// The longest message that an expression may make.
const MAX_MESSAGE: usize = 5 * 1024;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) message: String,
    /// Empty: `Invalid`.
    pub(super) reason: String,
}

impl Denial {
    pub(super) const fn new(message: String) -> Self {
        Self { message, reason: String::new() }
    }
}

/// A policy before a request, with one parameter.
pub(super) struct Judge<'j> {
    policy: &'j Policy,
    about: About<'j>,
    params: Value,
    namespace: Value,
    budget: Budget,
    /// Variables that were looked at.
    known: RefCell<HashMap<usize, Result<Value, Error>>>,
}

impl<'j> Judge<'j> {
    /// `with` is the parameter and the request's namespace.
    pub(super) fn new(
        policy: &'j Policy,
        request: &'j Request<'j>,
        authorizer: &'j Arc<Authorizer>,
        with: (Option<&Object>, Option<&Object>),
    ) -> Self {
        let value =
            |object: Option<&Object>| object.map_or(Value::Null, |object| Value::from_map(object.as_map()));
        Self {
            policy,
            about: About::new(request, authorizer),
            params: value(with.0),
            namespace: value(with.1),
            budget: Budget::default(),
            known: RefCell::default(),
        }
    }

    /// What fails.
    pub(super) fn denials(&self) -> Vec<Denial> {
        match self.policy.conditions.hold(self, &self.budget) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(why) => return self.trouble(why).into_iter().collect(),
        }
        let mut found: Vec<Denial> =
            self.policy.validations.iter().filter_map(|validation| self.denial(validation)).collect();
        for annotation in &self.policy.annotations {
            match annotation.evaluate(self, &self.budget) {
                Ok(Value::Text(_) | Value::Null) => {}
                Ok(other) => found.extend(self.trouble(format!(
                    "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                    annotation.source,
                    other.type_name()
                ))),
                Err(why) => found.extend(self.trouble(why)),
            }
        }
        found
    }

    /// What cannot be judged is refused, unless the policy says otherwise.
    fn trouble(&self, why: String) -> Option<Denial> {
        self.policy.is_fatal.then(|| Denial::new(why))
    }

    fn denial(&self, validation: &Validation) -> Option<Denial> {
        match validation.expression.evaluate(self, &self.budget) {
            Ok(Value::Bool(true)) => None,
            Ok(_) => {
                let message = self.message(validation);
                Some(Denial { message, reason: validation.reason.clone() })
            }
            Err(why) => self.trouble(why),
        }
    }

    fn message(&self, validation: &Validation) -> String {
        let made = validation.message_expression.as_ref().map(|made| made.evaluate(self, &self.budget));
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

    /// A variable is evaluated when it is first looked at.
    fn variable(&self, name: &str) -> Option<Result<Value, Error>> {
        let at = self.policy.variables.iter().position(|(known, _)| known == name)?;
        if let Some(known) = self.known.borrow().get(&at) {
            return Some(known.clone());
        }
        let compiled = &self.policy.variables[at].1;
        let found = match &compiled.program {
            Ok(program) => program.evaluate(self, &self.budget).map_err(|error| match error {
                Error::Failed(why) => Error::Failed(format!(
                    "composited variable {:?} fails to evaluate: {why}",
                    &name["variables.".len()..]
                )),
                spent @ Error::CostExceeded => spent,
            }),
            Err(why) => Err(Error::Failed(format!(
                "composited variable {:?} fails to compile: {why}",
                &name["variables.".len()..]
            ))),
        };
        self.known.borrow_mut().insert(at, found.clone());
        Some(found)
    }
}

impl Variables for Judge<'_> {
    fn get(&self, name: &str) -> Option<Result<Value, Error>> {
        match name {
            "params" => Some(Ok(self.params.clone())),
            "namespaceObject" => Some(Ok(self.namespace.clone())),
            other if other.starts_with("variables.") => self.variable(other),
            other => self.about.get(other),
        }
    }
}
