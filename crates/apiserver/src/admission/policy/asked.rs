//! A policy before a request: what its expressions see.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use api::Object;
use resources::cel::{Budget, Error, Value, Variables};

use super::definition::Policy;
use crate::admission::Request;
use crate::admission::expressions::About;
use crate::authz::Authorizer;

/// A policy before a request, with one parameter.
pub(super) struct Asked<'a> {
    pub(super) policy: &'a Policy,
    about: About<'a>,
    params: Value,
    namespace: Value,
    pub(super) budget: Budget,
    /// Variables that were looked at.
    known: RefCell<HashMap<usize, Result<Value, Error>>>,
}

impl<'a> Asked<'a> {
    /// `with` is the parameter and the request's namespace.
    pub(super) fn new(
        policy: &'a Policy,
        request: &'a Request<'a>,
        authorizer: &'a Arc<Authorizer>,
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

impl Variables for Asked<'_> {
    fn get(&self, name: &str) -> Option<Result<Value, Error>> {
        match name {
            "params" => Some(Ok(self.params.clone())),
            "namespaceObject" => Some(Ok(self.namespace.clone())),
            other if other.starts_with("variables.") => self.variable(other),
            other => self.about.get(other),
        }
    }
}
