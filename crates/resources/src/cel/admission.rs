//! The variables of expressions in admission: webhooks' match conditions, and
//! policies.

use std::collections::HashMap;

use super::{Program, Type};

/// How deep a declared variable's type may nest before it counts as any: variables
/// are made of variables.
const DEEPEST_TYPE: usize = 32;

/// The type of a variable that every such expression has.
#[must_use]
pub fn known(name: &str) -> Option<Type> {
    Some(match name {
        "object" | "oldObject" => Type::Dyn,
        "request" => request(),
        "authorizer" => Type::Opaque("kubernetes.authorization.Authorizer"),
        "authorizer.requestResource" => Type::Opaque("kubernetes.authorization.ResourceCheck"),
        _ => return None,
    })
}

/// Compiles an expression that has to be true or false.
///
/// # Errors
/// What is wrong with it, as upstream says it.
pub fn compile_condition(source: &str, known: &dyn Fn(&str) -> Option<Type>) -> Result<Program, String> {
    let program = compile(source, known)?;
    match program.result() {
        Type::Bool | Type::Dyn => Ok(program),
        _ => Err("must evaluate to bool".to_owned()),
    }
}

/// Compiles an expression.
///
/// # Errors
/// What is wrong with it, as upstream says it.
pub fn compile(source: &str, known: &dyn Fn(&str) -> Option<Type>) -> Result<Program, String> {
    Program::compile(source, known).map_err(|why| format!("compilation failed: {why}"))
}

/// The type of an object that a mutation makes, with all of its parts.
const OBJECT: Type = Type::Opaque("Object");
/// The type of an operation of a JSON patch.
const PATCH: Type = Type::Opaque("JSONPatch");

/// Compiles the expression of a mutation: it gives operations of a JSON patch, or a
/// configuration to apply.
///
/// # Errors
/// What is wrong with it, as upstream says it.
pub fn compile_mutation(
    source: &str,
    is_patch: bool,
    known: &dyn Fn(&str) -> Option<Type>,
) -> Result<Program, String> {
    let with_types = |name: &str| match name.strip_suffix("{}") {
        Some("JSONPatch") => Some(PATCH),
        Some(name) if name == "Object" || name.starts_with("Object.") => Some(OBJECT),
        _ => known(name),
    };
    let program = compile(source, &with_types)?;
    let wanted = if is_patch { Type::list(PATCH) } else { OBJECT };
    let fits = match program.result() {
        Type::Dyn => true,
        Type::List(of) if is_patch => **of == Type::Dyn || **of == PATCH,
        found => *found == wanted,
    };
    if fits { Ok(program) } else { Err(format!("must evaluate to {wanted}")) }
}

fn texts(names: &[&str]) -> Type {
    Type::object(names.iter().map(|name| ((*name).to_owned(), Type::Text)))
}

fn request() -> Type {
    let kind = texts(&["group", "version", "kind"]);
    let resource = texts(&["group", "version", "resource"]);
    let user = Type::object([
        ("username".to_owned(), Type::Text),
        ("uid".to_owned(), Type::Text),
        ("groups".to_owned(), Type::list(Type::Text)),
        ("extra".to_owned(), Type::map(Type::Text, Type::list(Type::Text))),
    ]);
    let fields = [
        ("kind", kind.clone()),
        ("resource", resource.clone()),
        ("subResource", Type::Text),
        ("requestKind", kind),
        ("requestResource", resource),
        ("requestSubResource", Type::Text),
        ("name", Type::Text),
        ("namespace", Type::Text),
        ("operation", Type::Text),
        ("userInfo", user),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ];
    Type::object(fields.map(|(name, of)| (name.to_owned(), of)))
}

/// The types of the variables in a policy: what it declares, beside [`known`].
#[derive(Debug, Default)]
pub struct PolicyTypes {
    has_params: bool,
    variables: HashMap<String, Type>,
}

impl PolicyTypes {
    /// Those of a policy with parameters, or without, that declares no variables yet.
    #[must_use]
    pub fn new(has_params: bool) -> Self {
        Self { has_params, variables: HashMap::new() }
    }

    /// Declares a variable; the first of a name counts.
    pub fn declare(&mut self, name: &str, of: Type) {
        let of = if of.is_deeper_than(DEEPEST_TYPE) { Type::Dyn } else { of };
        self.variables.entry(format!("variables.{name}")).or_insert(of);
    }

    /// The type of a variable.
    #[must_use]
    pub fn known(&self, name: &str) -> Option<Type> {
        self.variables.get(name).cloned().or_else(|| self.outside(name))
    }

    /// The type of a variable in a match condition, which is asked before the
    /// policy's own variables are there.
    #[must_use]
    pub fn outside(&self, name: &str) -> Option<Type> {
        match name {
            "params" if self.has_params => Some(Type::Dyn),
            "namespaceObject" => Some(Type::Dyn),
            other => known(other),
        }
    }

    /// The type of a variable in a message, which does not depend on who may do what.
    #[must_use]
    pub fn in_message(&self, name: &str) -> Option<Type> {
        self.known(name).filter(|_| !name.starts_with("authorizer"))
    }
}
