//! What policies and bindings say, compiled.

use api::Object;
use resources::cel::Type;
use resources::cel::admission::{self, PolicyTypes};
use serde_json::{Map, Value};

use crate::admission::Request;
use crate::admission::equivalents::Seen;
use crate::admission::expressions::{Compiled, Conditions};
use crate::admission::matching::{Rules, Selectors};
use crate::registry::Kinds;

/// A policy and the bindings that put it into force.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    /// Whether what goes wrong refuses the request.
    pub(super) is_fatal: bool,
    pub(super) constraints: Result<Constraints, String>,
    pub(super) param_kind: Option<ParamKind>,
    pub(super) conditions: Conditions,
    /// In their order: each may use those before it.
    pub(super) variables: Vec<(String, Compiled)>,
    pub(super) validations: Vec<Validation>,
    /// Values for the audit log.
    pub(super) annotations: Vec<(String, Compiled)>,
    /// What a policy that mutates does, in order.
    pub(super) mutations: Vec<Mutation>,
    /// Whether it is asked again when others changed the object after it.
    pub(super) is_reinvoked: bool,
    pub(super) bindings: Vec<Binding>,
}

/// The kind of a policy's parameters.
#[derive(Debug)]
pub(super) struct ParamKind {
    pub(super) api_version: String,
    pub(super) kind: String,
}

/// One rule of a policy.
#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Compiled,
    pub(super) message: String,
    pub(super) message_expression: Option<Compiled>,
    pub(super) reason: String,
}

/// One change of a policy that mutates.
#[derive(Debug)]
pub(super) struct Mutation {
    pub(super) expression: Compiled,
    /// Operations of a JSON patch; else a configuration to apply.
    pub(super) is_patch: bool,
}

/// What a binding does with what fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Deny,
    Warn,
    Audit,
}

impl Action {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Deny => "Deny",
            Self::Warn => "Warn",
            Self::Audit => "Audit",
        }
    }
}

/// Where a policy is in force.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) constraints: Result<Option<Constraints>, String>,
    pub(super) param_ref: Value,
    pub(super) actions: Vec<Action>,
}

/// `matchConstraints`, or a binding's `matchResources`.
#[derive(Debug)]
pub(super) struct Constraints {
    selectors: Selectors,
    rules: Rules,
    excluded: Rules,
}

impl Constraints {
    fn read(of: &Value) -> Result<Self, String> {
        Ok(Self {
            selectors: Selectors::read(of)?,
            rules: Rules::read(&of["resourceRules"], &of["matchPolicy"]),
            excluded: Rules::read(&of["excludeResourceRules"], &of["matchPolicy"]),
        })
    }

    /// As what they fit a request; without rules they fit every resource.
    pub(super) fn fit(
        &self,
        request: &Request<'_>,
        namespace: Option<&Map<String, Value>>,
        kinds: &Kinds,
    ) -> Option<Seen> {
        let seen = if self.rules.is_empty() { Seen::Own } else { self.rules.fit(request, kinds)? };
        let is_out = self.excluded.fit(request, kinds).is_some();
        Some(seen).filter(|_| !is_out && self.selectors.select(request, namespace))
    }
}

/// Policies in the order of their names, each with its bindings; one without
/// bindings has no effect and is left out.
pub(super) fn read(policies: &[Object], bindings: &[Object]) -> Vec<Policy> {
    let of = |policy: &Object| {
        let bound = bindings.iter().filter(|binding| binding.text(&["spec", "policyName"]) == policy.name());
        let bound: Vec<Binding> = bound.map(binding).collect();
        (!bound.is_empty()).then(|| compile(policy, bound))
    };
    policies.iter().filter_map(of).collect()
}

fn binding(of: &Object) -> Binding {
    let null = Value::Null;
    let spec = of.get("spec").unwrap_or(&null);
    let resources = &spec["matchResources"];
    let actions = spec["validationActions"].as_array().into_iter().flatten();
    Binding {
        name: of.name().to_owned(),
        constraints: if resources.is_null() { Ok(None) } else { Constraints::read(resources).map(Some) },
        param_ref: spec["paramRef"].clone(),
        actions: actions
            .filter_map(|action| match action.as_str()? {
                "Deny" => Some(Action::Deny),
                "Warn" => Some(Action::Warn),
                "Audit" => Some(Action::Audit),
                _ => None,
            })
            .collect(),
    }
}

fn compile(policy: &Object, bindings: Vec<Binding>) -> Policy {
    let null = Value::Null;
    let spec = policy.get("spec").unwrap_or(&null);
    let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().trim().to_owned();
    let has_params = spec["paramKind"].is_object();
    let param_kind = has_params.then(|| ParamKind {
        api_version: text(&spec["paramKind"], "apiVersion"),
        kind: text(&spec["paramKind"], "kind"),
    });
    let list = |field: &str| spec[field].as_array().into_iter().flatten();
    let mut types = PolicyTypes::new(has_params);
    let mut variables = Vec::new();
    for one in list("variables") {
        let made =
            Compiled::new(&one["expression"], |source| admission::compile(source, &|name| types.known(name)));
        let of = made.program.as_ref().map_or(Type::Dyn, |program| program.result().clone());
        let name = text(one, "name");
        types.declare(&name, of);
        variables.push((format!("variables.{name}"), made));
    }
    let known = |name: &str| types.known(name);
    let condition = |source: &str| admission::compile_condition(source, &known);
    let message = |source: &str| admission::compile(source, &|name| types.in_message(name));
    let validations = list("validations").map(|one| Validation {
        expression: Compiled::new(&one["expression"], condition),
        message: text(one, "message"),
        message_expression: one["messageExpression"]
            .as_str()
            .filter(|source| !source.trim().is_empty())
            .map(|_| Compiled::new(&one["messageExpression"], message)),
        reason: text(one, "reason"),
    });
    let annotation = |one: &Value| {
        let value = Compiled::new(&one["valueExpression"], |source| admission::compile(source, &known));
        (text(one, "key"), value)
    };
    let mutations = list("mutations").map(|one| {
        let is_patch = one["patchType"] == "JSONPatch";
        let of = if is_patch { &one["jsonPatch"] } else { &one["applyConfiguration"] };
        let compile = |source: &str| admission::compile_mutation(source, is_patch, &known);
        Mutation { expression: Compiled::new(&of["expression"], compile), is_patch }
    });
    let constraints = match &spec["matchConstraints"] {
        Value::Null => Err("policy contained no match constraints, a required field".to_owned()),
        of => Constraints::read(of),
    };
    Policy {
        name: policy.name().to_owned(),
        is_fatal: text(spec, "failurePolicy") != "Ignore",
        constraints,
        param_kind,
        // They are asked before the variables are there.
        conditions: Conditions::read(&spec["matchConditions"], &|name| types.outside(name)),
        validations: validations.collect(),
        annotations: list("auditAnnotations").map(annotation).collect(),
        mutations: mutations.collect(),
        is_reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
        variables,
        bindings,
    }
}
