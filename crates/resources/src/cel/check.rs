//! Checks an expression's types before it is ever evaluated; the messages are
//! cel-go's.

use std::fmt::Write as _;

use super::Fault;
use super::ast::{Comprehension, Expr, Gives, Node};
use super::signatures::overloads;
use super::types::Type;
use super::value::Value;

/// Names of types that are values themselves.
pub(super) const TYPES: [&str; 10] =
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];

/// Checks types, and collects what is wrong.
pub(super) struct Checker<'c> {
    /// What is known at the root: a name may have dots.
    pub(super) known: &'c dyn Fn(&str) -> Option<Type>,
    pub(super) bound: Vec<(String, Type)>,
    pub(super) faults: Vec<Fault>,
}

/// How many faults are told.
const MAX_FAULTS: usize = 10;

impl Checker<'_> {
    fn fault(&mut self, at: usize, message: impl Into<String>) -> Type {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault::new(at, message.into()));
        }
        Type::Dyn
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|(bound, _)| bound == name)
    }

    fn with<T>(&mut self, names: Vec<(String, Type)>, run: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.bound.len();
        self.bound.extend(names);
        let result = run(self);
        self.bound.truncate(before);
        result
    }

    /// The type of an expression.
    pub(super) fn infer(&mut self, node: &Node) -> Type {
        match &node.expr {
            Expr::Literal(value) => literal(value),
            Expr::Ident(name) => self.ident(node.at, name),
            Expr::Select { of, field, is_optional } => self.select(node.at, of, field, *is_optional),
            Expr::Has { of, field } => {
                self.select(node.at, of, field, false);
                Type::Bool
            }
            Expr::Index { of, index, is_optional } => self.index(node.at, of, index, *is_optional),
            Expr::Junction { is_and, all } => self.junction(node.at, *is_and, all),
            Expr::Conditional(parts) => self.conditional(node.at, parts),
            Expr::Call { name, is_method, args } => self.call(node.at, name, *is_method, args),
            Expr::List(items) => {
                let types = items.iter().map(|(is_optional, item)| {
                    let found = self.infer(item);
                    if *is_optional { inner(&found) } else { found }
                });
                let types: Vec<Type> = types.collect();
                Type::list(common(&types))
            }
            Expr::Map(entries) => {
                let (mut keys, mut values) = (Vec::new(), Vec::new());
                for (is_optional, key, value) in entries {
                    keys.push(as_key(self.infer(key)));
                    let found = self.infer(value);
                    values.push(if *is_optional { inner(&found) } else { found });
                }
                Type::map(common(&keys), common(&values))
            }
            Expr::Made { name, of } => {
                self.infer(of);
                let made = (self.known)(&format!("{name}{{}}"));
                made.unwrap_or_else(|| self.undeclared(node.at, name))
            }
            Expr::Comprehension(of) => self.comprehension(of),
            Expr::Bind { name, value, body } => {
                let found = self.infer(value);
                self.with(vec![(name.clone(), found)], |this| this.infer(body))
            }
            Expr::OptMap { of, name, body, is_flat } => {
                let found = self.infer(of);
                let made = self.with(vec![(name.clone(), inner(&found))], |this| this.infer(body));
                if *is_flat { made } else { Type::optional(made) }
            }
        }
    }

    fn ident(&mut self, at: usize, name: &str) -> Type {
        if let Some((_, found)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
            return found.clone();
        }
        if let Some(found) = (self.known)(name) {
            return found;
        }
        if TYPES.contains(&name) {
            return Type::Type;
        }
        self.undeclared(at, name)
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Type {
        self.fault(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn select(&mut self, at: usize, of: &Node, field: &str, is_optional: bool) -> Type {
        if let Expr::Ident(root) = &of.expr
            && !self.is_bound(root)
            && let Some(found) = (self.known)(&format!("{root}.{field}"))
        {
            return if is_optional { Type::optional(found) } else { found };
        }
        let found = self.infer(of);
        let (target, was_optional) = match &found {
            Type::Optional(of) => ((**of).clone(), true),
            other => (other.clone(), false),
        };
        let of_field = match &target {
            Type::Dyn | Type::Param(_) => Type::Dyn,
            Type::Map(of) => of.1.clone(),
            Type::Object(fields) => match fields.get(field) {
                Some(found) => found.clone(),
                None => return self.fault(at, format!("undefined field '{field}'")),
            },
            other => {
                return self.fault(at, format!("type '{other}' does not support field selection"));
            }
        };
        if is_optional || was_optional { Type::optional(of_field) } else { of_field }
    }

    fn index(&mut self, at: usize, of: &Node, index: &Node, is_optional: bool) -> Type {
        let (found, by) = (self.infer(of), self.infer(index));
        let (target, was_optional) = match &found {
            Type::Optional(of) => ((**of).clone(), true),
            other => (other.clone(), false),
        };
        let mut params = [None, None];
        let result = match &target {
            Type::Dyn | Type::Param(_) => Some(Type::Dyn),
            Type::List(of) if Type::Int.takes(&by, &mut params) => Some((**of).clone()),
            Type::Map(of) if of.0.takes(&by, &mut params) => Some(of.1.clone()),
            _ => None,
        };
        match result {
            Some(result) if is_optional || was_optional => Type::optional(result),
            Some(result) => result,
            None => self.mismatch(at, "_[_]", false, &[found, by]),
        }
    }

    fn mismatch(&mut self, at: usize, name: &str, is_method: bool, args: &[Type]) -> Type {
        let mut shown = String::new();
        for (index, arg) in args.iter().enumerate() {
            let before = match index {
                0 if is_method => "",
                0 => "(",
                1 if is_method => ".(",
                _ => ", ",
            };
            // Writing to a string cannot fail.
            let _ = write!(shown, "{before}{arg}");
        }
        if args.is_empty() || is_method && args.len() == 1 {
            shown.push_str(if is_method { ".(" } else { "(" });
        }
        self.fault(at, format!("found no matching overload for '{name}' applied to '{shown})'"))
    }

    fn junction(&mut self, at: usize, is_and: bool, all: &[Node]) -> Type {
        let types: Vec<Type> = all.iter().map(|node| self.infer(node)).collect();
        if !types.iter().all(|found| matches!(found, Type::Bool | Type::Dyn)) {
            self.mismatch(at, if is_and { "_&&_" } else { "_||_" }, false, &types);
        }
        Type::Bool
    }

    fn conditional(&mut self, at: usize, parts: &[Node; 3]) -> Type {
        let types: Vec<Type> = parts.iter().map(|node| self.infer(node)).collect();
        let mut params = [None, None];
        let fits = matches!(types[0], Type::Bool | Type::Dyn)
            && Type::Param(0).takes(&types[1], &mut params)
            && Type::Param(0).takes(&types[2], &mut params);
        if fits { common(&types[1..]) } else { self.mismatch(at, "_?_:_", false, &types) }
    }

    fn call(&mut self, at: usize, name: &str, is_method: bool, args: &[Node]) -> Type {
        let ways = overloads(name);
        if ways.is_empty() {
            for arg in args {
                self.infer(arg);
            }
            return self.undeclared(at, name);
        }
        let types: Vec<Type> = args.iter().map(|node| self.infer(node)).collect();
        let mut results = Vec::new();
        for way in ways.iter().filter(|way| way.is_method == is_method && way.params.len() == types.len()) {
            let mut params = [None, None];
            if way.params.iter().zip(&types).all(|(wanted, given)| wanted.takes(given, &mut params)) {
                results.push(way.result.filled(&params));
            }
        }
        if results.is_empty() { self.mismatch(at, name, is_method, &types) } else { common(&results) }
    }

    fn comprehension(&mut self, of: &Comprehension) -> Type {
        let range = self.infer(&of.range);
        let is_pair = of.names.len() == 2;
        let (first, second) = match &range {
            Type::Dyn | Type::Param(_) => (Type::Dyn, Type::Dyn),
            Type::List(item) if is_pair => (Type::Int, (**item).clone()),
            Type::List(item) => ((**item).clone(), Type::Dyn),
            Type::Map(of) => (of.0.clone(), of.1.clone()),
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                return self.fault(of.range.at, message);
            }
        };
        let names = of.names.iter().cloned().zip([first.clone(), second]).collect();
        let (asks, body) = self.with(names, |this| {
            let asks = of.condition.as_ref().map(|node| (node.at, this.infer(node)));
            (asks, this.infer(&of.body))
        });
        let is_asked = matches!(of.gives, Gives::All | Gives::Exists | Gives::ExistsOne | Gives::Filtered);
        let of_body = is_asked.then_some((of.body.at, body.clone()));
        for (at, found) in asks.into_iter().chain(of_body) {
            if !matches!(found, Type::Bool | Type::Dyn) {
                self.fault(at, format!("expected type 'bool' but found '{found}'"));
            }
        }
        match of.gives {
            Gives::All | Gives::Exists | Gives::ExistsOne => Type::Bool,
            Gives::List => Type::list(body),
            Gives::Filtered => match range {
                Type::List(_) | Type::Dyn => range,
                _ => Type::list(first),
            },
            Gives::Map => Type::map(first, body),
            Gives::MapEntry => body,
        }
    }
}

fn literal(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::Text(_) => Type::Text,
        Value::Bytes(_) => Type::Bytes,
        _ => Type::Dyn,
    }
}

/// The type of a key: what can be none fails when it is evaluated, and a type that
/// held itself twice at every level would grow without bound.
fn as_key(found: Type) -> Type {
    match found {
        Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Text => found,
        _ => Type::Dyn,
    }
}

/// What an optional holds.
fn inner(of: &Type) -> Type {
    match of {
        Type::Optional(of) => (**of).clone(),
        _ => Type::Dyn,
    }
}

/// The one type that all have, or any.
fn common(types: &[Type]) -> Type {
    match types.split_first() {
        Some((first, rest)) if rest.iter().all(|one| one == first) => first.clone(),
        _ => Type::Dyn,
    }
}
