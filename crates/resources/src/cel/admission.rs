//! The variables of expressions in admission: webhooks' match conditions, and
//! policies.

use super::{Program, Type};

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
    variables: Vec<(String, Type)>,
}

impl PolicyTypes {
    /// Those of a policy with parameters, or without, that declares no variables yet.
    #[must_use]
    pub const fn new(has_params: bool) -> Self {
        Self { has_params, variables: Vec::new() }
    }

    /// Declares a variable.
    pub fn declare(&mut self, name: &str, of: Type) {
        self.variables.push((format!("variables.{name}"), of));
    }

    /// The type of a variable.
    #[must_use]
    pub fn known(&self, name: &str) -> Option<Type> {
        let own = self.variables.iter().find(|(known, _)| known == name);
        own.map(|(_, of)| of.clone()).or_else(|| self.outside(name))
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
